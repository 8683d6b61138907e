"""Run the experiments and gather them, with their figures, on one page: docs/gallery.md.

    python experiments/gallery.py                       # all of them: about half an hour on two cores
    python experiments/gallery.py adagrad batch_norm    # these anew; the others stay as they are

An experiment is a module beside this one with a function `study`.
"""

import importlib
import inspect
import re
import sys
import time
from pathlib import Path

import augmentation_figure
from claims import FIGURES, markdown, publish

HERE = Path(__file__).parent
PAGE = FIGURES.parent / "gallery.md"
HEAD = """# What the course claims, measured

Each section is one script of `experiments/`: its claim, what was measured, and a verdict. A claim holds if
the lower end of the one-sided 95 % confidence interval of the mean over paired seeds exceeds a margin that is
fixed in the script. `python experiments/gallery.py` makes this page.

## augmentations

Every augmentation on real images (`experiments/augmentation_figure.py`).

![augmentations](figures/augmentations.png)
"""


def names() -> list[str]:
    """The experiments, by name."""
    return sorted(path.stem for path in HERE.glob("*.py") if "\ndef study(" in path.read_text("utf-8"))


def section(name: str) -> str:
    """Run one experiment; its part of the page."""
    module = importlib.import_module(name)
    started = time.monotonic()
    study = module.study()
    publish(name, study)
    print(f"{name}: {time.monotonic() - started:.0f} s\n", flush=True)
    verdicts = "\n".join(
        f"- **{held}**: {rest}" for held, rest in (str(v).split(": ", 1) for v in study.verdicts)
    )
    body = [inspect.getdoc(module), markdown(study.table), verdicts, f"![{name}](figures/{name}.png)"]
    return "\n\n".join([f"## {name}", *body]) + "\n"


def main() -> None:
    """Rewrite the page, section by section, so that an interruption loses none."""
    if not sys.argv[1:]:
        augmentation_figure.main()
    wanted = sys.argv[1:] or names()
    unknown = sorted({*wanted} - {*names()})
    if unknown:
        sys.exit(f"there is no experiment {unknown[0]!r}; there is {', '.join(names())}")
    old = PAGE.read_text("utf-8") if PAGE.exists() else ""
    sections = dict(re.findall(r"^(?=## (\w+)$)(.*?)(?=^## |\Z)", old, re.MULTILINE | re.DOTALL))
    for name in wanted:
        sections[name] = section(name)
        known = [sections[name].strip() + "\n" for name in names() if name in sections]
        PAGE.write_text("\n".join([HEAD, *known]), encoding="utf-8")


if __name__ == "__main__":
    main()
