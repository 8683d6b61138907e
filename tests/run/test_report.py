"""The reports of a run and of a search: what they say, that it is escaped, that they stand alone."""

import base64
import json
import re
from html.parser import HTMLParser

import pytest

from fnn.run._config import ConfigError
from fnn.run._report import write_report, write_search_report

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
RESULTS = {
    "best_epoch": 2,
    "epochs": 3,
    "parameters": 421642,
    "validation": {"loss": 0.51234, "accuracy": 0.98125},
    "test": {"loss": 0.61234, "accuracy": 0.97222},
}


class Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if data.strip() and "style" not in self.open:
            self.words.append(data)


@pytest.fixture
def directory(tmp_path):
    run = tmp_path / "digits <b> & co" / "3"
    (run / "figures").mkdir(parents=True)
    for name in ("a_filter", "mistakes", "curves"):
        (run / "figures" / f"{name}.png").write_bytes(PNG + name.encode())
    (run / "config.toml").write_text('seed = 0\n[data]\nuse = "<script>alert(1)</script>"  # $headline\n')
    (run / "results.json").write_text(json.dumps(RESULTS))
    (run / "metrics.jsonl").write_text(
        '{"epoch": 1, "loss": 0.98765, "validation_loss": 0.9}\n'
        '{"epoch": 2, "loss": 0.5, "validation_loss": 0.6, "accuracy": 0.75}\n'
    )
    environment = {
        "python": "3.11 <b>",
        "cores": 2,
        "devices": ["CPU_0", "CPU_1"],
        "versions": {"jax": "0.10.1"},
        "XLA_FLAGS": [],
    }
    (run / "environment.json").write_text(json.dumps(environment))
    (run / "summary.txt").write_text("conv_1 <3×3>\n", encoding="utf-8")
    return run


def page(directory):
    path = write_report(directory)
    assert path == directory / "report.html"
    parsed = Page(path.read_text(encoding="utf-8"))
    assert not parsed.open
    return parsed


def change(directory, **changes):
    results = {name: value for name, value in (RESULTS | changes).items() if value is not None}
    (directory / "results.json").write_text(json.dumps(results))


def headings(page):
    return [word for word in page.words if word in SECTIONS]


SECTIONS = ["Results", "Figures", "Epochs", "Network", "Config", "Environment"]


def test_it_says_what_the_run_directory_holds(directory):
    words = page(directory).words
    assert "digits <b> & co/3" in words
    assert "97.22% test accuracy" in words
    assert "best epoch 2 · epochs 3 · parameters 421,642" in words
    at = words.index("validation")
    assert words[at - 2 : at + 6] == [
        *("loss", "accuracy"),
        *("validation", "0.5123", "98.12%"),
        *("test", "0.6123", "97.22%"),
    ]
    at = words.index("all 2")
    assert words[at + 1 : at + 13] == [
        *("epoch", "loss", "validation loss", "accuracy"),
        *("1", "0.9877", "0.9", "–"),
        *("2", "0.5", "0.6", "75.00%"),
    ]
    assert "conv_1 <3×3>\n" in words
    assert 'seed = 0\n[data]\nuse = "<script>alert(1)</script>"  # $headline\n' in words
    at = words.index("python")
    assert words[at:] == [
        *("python", "3.11 <b>", "cores", "2", "devices", "CPU_0", "CPU_1"),
        *("versions", "jax 0.10.1", "XLA_FLAGS", "–"),
    ]


def test_it_stands_alone(directory):
    parsed = page(directory)
    assert {tag for tag, _ in parsed.tags}.isdisjoint({"script", "link", "iframe", "object", "base"})
    sources = [
        value
        for _, attributes in parsed.tags
        for name, value in attributes.items()
        if name in ("src", "href")
    ]
    assert len(sources) == 3
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    text = (directory / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|url\(|@import|<script|\bon\w+=", text)


def test_it_reads_in_the_dark_and_on_a_phone(directory):
    text = write_report(directory).read_text(encoding="utf-8")
    assert "@media (prefers-color-scheme: dark)" in text
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page(
        directory
    ).tags


def test_it_carries_every_figure_the_known_ones_first(directory):
    images = [attributes for tag, attributes in page(directory).tags if tag == "img"]
    assert [image["alt"] for image in images] == ["curves", "mistakes", "a filter"]
    for image, name in zip(images, (b"curves", b"mistakes", b"a_filter"), strict=True):
        assert base64.b64decode(image["src"].partition(",")[2]) == PNG + name
    words = page(directory).words
    assert any(word.startswith("Learning curves.") for word in words)
    assert "a filter" in words


@pytest.mark.parametrize(
    ("changes", "headline"),
    [
        ({"test": None}, "98.12% validation accuracy"),
        ({"test": {"loss": 0.125}}, "0.125 test loss"),
        ({"test": None, "validation": None}, "no results"),
    ],
)
def test_the_headline_is_the_best_there_is(directory, changes, headline):
    change(directory, **changes)
    assert headline in page(directory).words


def test_why_a_run_stopped_is_said_once(directory):
    assert ("p", {"class": "stopped"}) not in page(directory).tags
    change(directory, test=None, stopped="Interrupted in epoch <3>.")
    parsed = page(directory)
    assert ("p", {"class": "stopped"}) in parsed.tags
    assert [word for word in parsed.words if "Interrupted" in word] == ["Interrupted in epoch <3>."]


def test_sections_without_content_are_left_out(directory):
    assert headings(page(directory)) == SECTIONS
    (directory / "summary.txt").unlink()
    (directory / "metrics.jsonl").write_text("")
    (directory / "environment.json").write_text("{}")
    for figure in (directory / "figures").iterdir():
        figure.unlink()
    (directory / "figures").rmdir()
    change(directory, test=None, validation=None)
    assert headings(page(directory)) == ["Config"]


def test_a_directory_that_holds_no_run_is_named(directory):
    (directory / "config.toml").unlink()
    with pytest.raises(ConfigError, match=r"3 has no config\.toml, so there is nothing to report on"):
        page(directory)
    assert not (directory / "report.html").exists()


def test_what_is_shown_as_it_is_may_be_damaged(directory):
    (directory / "summary.txt").write_bytes(b"layers \xff")
    (directory / "config.toml").write_bytes(b"seed \xff")
    words = page(directory).words
    assert "layers \ufffd" in words
    assert "seed \ufffd" in words


TRIALS = [
    {"trial": 4, "hyperparameters": {"a.rate": 0.012345, "<b>": 3, "c": True}, "score": 0.75, "error": 0.01,
     "epochs": 3, "diverged": False},
    {"trial": 2, "hyperparameters": {"a.rate": 0.5}, "score": None, "error": None, "epochs": 1, "diverged": True},
]  # fmt: skip


def search_page(directory, trials=TRIALS, **changes):
    results = {"method": "halving", "trials": 2, "how": ["vmap"], "notes": ["It was <cut>."], "epochs": 4,
               "finalists": [{"trial": 4, "score": 0.7, "error": None}], "test": RESULTS["test"]}  # fmt: skip
    (directory / "results.json").write_text(json.dumps(results | changes))
    parsed = Page(write_search_report(directory, trials).read_text(encoding="utf-8"))
    assert not parsed.open
    return parsed


def test_a_search_shows_its_finalists_and_all_trials(directory):
    (directory / "best.toml").write_text("rate = 0.012345\n")
    parsed = search_page(directory)
    words = parsed.words
    assert "97.22% test accuracy" in words
    assert "method halving · trials 2 · epochs 4" in words
    assert "It was <cut>." in words
    at = words.index("The best, trained again with fresh seeds")
    assert words[at + 1 : at + 11] == [
        *("trial", "score", "a.rate", "<b>", "c"),
        *("4", "0.700", "0.01235", "3", "True"),
    ]
    at = words.index("all 2")
    assert words[at + 1 : at + 19] == [
        *("trial", "score", "epochs", "a.rate", "<b>", "c"),
        *("4", "0.750 ± 0.010", "3", "0.01235", "3", "True"),
        *("2", "diverged", "1", "0.5", "–", "–"),
    ]
    assert "rate = 0.012345\n" in words
    images = [attributes["alt"] for tag, attributes in parsed.tags if tag == "img"]
    assert images == ["curves", "a filter", "mistakes"]  # of a search, mistakes have no caption


def test_a_search_whose_environment_is_lost_has_a_page_too(directory):
    (directory / "environment.json").unlink()
    assert "Environment" not in search_page(directory).words


def test_a_search_in_which_all_diverged_has_a_page_too(directory):
    words = search_page(directory, TRIALS[1:], finalists=[], test={}, notes=[]).words
    assert "no results" in words
    assert "diverged" in words
    assert "best.toml" not in words
