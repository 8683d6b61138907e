"""Run the experiments and write what they found to docs/gallery.md.

python experiments/gallery.py                      # all of them
python experiments/gallery.py dropout loss_curves  # these, the other sections stay as they are
"""

import argparse
import importlib
import inspect
import re
from pathlib import Path

from claims import FIGURES, Study, markdown, publish

PAGE = FIGURES.parent / "gallery.md"
OPENING = """# What the experiments found

Each is one claim of the field in a script under `experiments/`; its text, numbers and figure are those of the
last run. A claim holds if the lower end of the one-sided 95 % confidence interval of the mean over paired
seeds exceeds a margin that the script fixes. Rebuilt by `python experiments/gallery.py`.
"""


def modules() -> dict:
    """Every experiment by its name: a module with a `study`, and the figure of all augmentations."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path != Path(__file__))
    found = {name: importlib.import_module(name) for name in names}
    return {n: m for n, m in found.items() if hasattr(m, "study") or n == "augmentation_figure"}


def section(docstring: str, figure: str, study: Study | None) -> str:
    """What the page says of one experiment."""
    title, _, text = inspect.cleandoc(docstring).partition("\n\n")
    parts = [f"## {title}", text]
    if study:
        parts += [markdown(study.table), "\n".join(f"- {verdict}" for verdict in study.verdicts)]
    return "\n\n".join([*parts, f"![{figure}](figures/{figure}.png)"]) + "\n"


def updated(page: str, sections: dict[str, str], names: list[str]) -> str:
    """The page with these sections in place of its own of the same figure, in the order of the names."""
    _, *old = re.split(r"^(?=## )", page, flags=re.MULTILINE)
    known = {
        figure: part.strip() + "\n" for part in old for figure in re.findall(r"\(figures/(\w+)\.png\)", part)
    }
    known |= sections
    return "\n".join([OPENING, *(known[name] for name in names if name in known)])


def main() -> None:
    """Run what is named and write the page after each, so that a run cut short keeps what it found."""
    found = modules()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="experiment", help=f"of {', '.join(found)}")
    chosen = parser.parse_args().names or list(found)
    if unknown := [name for name in chosen if name not in found]:
        parser.error(f"no experiment {', '.join(unknown)}; there are {', '.join(found)}")
    figures = {name: "augmentations" if name == "augmentation_figure" else name for name in found}
    for name in chosen:
        module = found[name]
        print(f"\n{name}")
        if name == "augmentation_figure":
            module.main()
            study = None
        else:
            study = module.study()
            publish(name, study)
        old = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
        new = {figures[name]: section(module.__doc__, figures[name], study)}
        PAGE.write_text(updated(old, new, list(figures.values())), encoding="utf-8")


if __name__ == "__main__":
    main()
