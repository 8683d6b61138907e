"""The gallery page: one section of an experiment, and a page in which only some sections are new."""

import importlib
import sys
from pathlib import Path

from matplotlib.figure import Figure

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
sys.path.insert(0, str(EXPERIMENTS))

from claims import Study, verdict  # noqa: E402

gallery = importlib.import_module("gallery")


def test_a_section_has_title_text_table_verdicts_and_figure():
    held = verdict("it is ahead", [2.0] * 5, [1.0] * 5, 0.5)
    found = Study([{"side": "one", "value": 2.0}], [held, held._replace(margin=3.0)], Figure())
    assert gallery.section("A title.\n\nThe rest\nof it.\n", "one", found) == (
        "## A title.\n\nThe rest\nof it.\n\n| side | value |\n| --- | --- |\n| one | 2 |\n\n"
        "- held: it is ahead: 1, at least 1 with 95 % confidence, margin 0.5, 5 seeds\n"
        "- not held: it is ahead: 1, at least 1 with 95 % confidence, margin 3, 5 seeds\n\n"
        "![one](figures/one.png)\n"
    )


def test_a_page_keeps_the_sections_that_are_not_new():
    one, two, three = (gallery.section(f"Title {n}.\n\nText.", n, None) for n in ("one", "two", "three"))
    names = ["one", "two", "three"]
    page = gallery.updated("", {"three": three, "one": one}, names)
    assert page == "\n".join([gallery.OPENING, one, three])
    assert gallery.updated(page, {"two": two}, names) == "\n".join([gallery.OPENING, one, two, three])
    renamed = gallery.section("Another title.\n\nText.", "one", None)
    assert gallery.updated(page, {"one": renamed}, names) == "\n".join([gallery.OPENING, renamed, three])
    assert gallery.updated(page, {}, ["three"]) == "\n".join([gallery.OPENING, three])


def test_every_experiment_of_the_gallery_has_a_title():
    found = gallery.modules()
    assert {"adam_bias_correction", "augmentation_figure"} <= set(found)
    assert "claims" not in found
    assert "accuracy_table" not in found
    titles = {name: module.__doc__.split("\n\n")[0] for name, module in found.items()}
    assert {name: title for name, title in titles.items() if "\n" in title or not title.endswith(".")} == {}
