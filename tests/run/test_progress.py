"""What is shown of a run, by a scripted sequence and a clock that is told the time."""

from io import StringIO

import pytest
from rich.console import Console

from fnn.run._progress import Display, duration, number, results_table
from fnn.train import Fit, Progress

ENDED = Fit(None, None, 1, ())


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def report(epoch, epochs, step, steps, *, ended=True, validation=None, **metrics):
    metrics |= {f"validation_{name}": value for name, value in (validation or {}).items()}
    return Progress(epoch, epochs, step, steps, metrics, ENDED if ended else None)


def shown(script, *, terminal=False, title="digits_cnn", width=120):
    """What is written for (time, report) pairs."""
    clock, file = Clock(), StringIO()
    console = Console(file=file, force_terminal=terminal, color_system=None, width=width, _environ={})
    with Display(console, title, clock=clock) as display:
        for time, progress in script:
            clock.now = 1000.0 + time
            display(progress)
    return file.getvalue()


RUN = [
    (5.0, report(1, 3, 100, 600, ended=False, loss=2.0, accuracy=0.25)),
    (6.0, report(1, 3, 200, 600, loss=1.5, accuracy=0.5, validation={"loss": 1.25, "accuracy": 0.625})),
    (7.0, report(2, 3, 300, 600, ended=False, loss=1.0, accuracy=0.75)),
    (9.0, report(2, 3, 400, 600, loss=0.9, accuracy=0.76, validation={"loss": 0.8, "accuracy": 0.77})),
    (70.0, report(3, 3, 600, 600, loss=0.0004, accuracy=0.8, validation={"loss": 0.7, "accuracy": 0.81})),
]


def test_a_log_gets_a_line_an_epoch():
    assert shown(RUN).splitlines() == [
        "epoch 1/3  loss 1.500  accuracy 0.500  validation loss 1.250  validation accuracy 0.625"
        "  100 steps/s  4 s left",
        "epoch 2/3  loss 0.900  accuracy 0.760  validation loss 0.800  validation accuracy 0.770"
        "  75 steps/s  3 s left",
        "epoch 3/3  loss 4.00e-04  accuracy 0.800  validation loss 0.700  validation accuracy 0.810"
        "  7.7 steps/s  took 1 m 10 s",
    ]


def test_a_log_holds_no_control_characters_and_no_broken_lines():
    text = shown(RUN, title="[bold]x[/]", width=20)
    assert text.replace("\n", "").isprintable()
    assert text.count("\n") == 3


def test_the_first_report_tells_no_speed():
    line = shown([(30.0, report(1, 2, 10, 20, loss=1.0, validation={"loss": 2.0}))])
    assert line == "epoch 1/2  loss 1.000  validation loss 2.000\n"


@pytest.mark.parametrize(
    ("epochs", "numbers"),
    [
        (50, list(range(1, 51))),  # every epoch
        (51, [1, 5, 9, 13, 17, 21, 25, 29, 33, 37, 41, 45, 49, 51]),  # one a second, and the last
    ],
)
def test_many_epochs_write_a_line_a_second(epochs, numbers):
    script = [(epoch / 4, report(epoch, epochs, epoch, epochs, loss=1.0)) for epoch in range(1, epochs + 1)]
    lines = shown(script).splitlines()
    assert [int(line.split("/")[0].removeprefix("epoch ")) for line in lines] == numbers


def test_the_last_epoch_is_written_at_once():
    file = StringIO()
    with Display(Console(file=file, _environ={}), clock=Clock()) as display:
        for epoch in range(1, 101):
            display(report(epoch, 100, epoch, 100, loss=1.0))
        assert file.getvalue() == "epoch 1/100  loss 1.000\nepoch 100/100  loss 1.000  took 0 s\n"


def test_the_last_epoch_of_a_run_that_fails_is_written():
    clock, file = Clock(), StringIO()

    def fails():
        with Display(Console(file=file, _environ={}), clock=clock) as display:
            for epoch in (1, 2, 3):
                display(report(epoch, 100, epoch, 100, loss=1.0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    assert file.getvalue() == "epoch 1/100  loss 1.000\nepoch 3/100  loss 1.000\n"


def test_a_terminal_shows_the_current_epoch_and_the_last_validation():
    text = shown(RUN[:3], terminal=True)
    assert "\x1b[" in text
    last = text[text.rindex("digits_cnn") :]
    assert "epoch 2/3" in last
    assert "100 steps/s" in last
    assert "3 s left" in last
    assert "loss 1.000  accuracy 0.750  validation loss 1.250  validation accuracy 0.625" in last
    assert last.count("━") == 20  # of 40, for 300 of 600 steps


def test_a_narrow_terminal_shortens_the_bar():
    text = shown(RUN[:4], terminal=True, title="fashion_mnist_cnn", width=70)  # 16 are left for the bar
    last = text[text.rindex("fashion_mnist_cnn") :].splitlines()[0]
    assert "epoch 2/3  75 steps/s  3 s left" in last
    assert last.count("━") == 10


def test_a_terminal_shows_the_end():
    text = shown(RUN, terminal=True)
    assert "took 1 m 10 s" in text
    assert "left" not in text[text.rindex("digits_cnn") :]


def test_a_terminal_that_cannot_move_its_cursor_gets_lines():
    file = StringIO()
    console = Console(file=file, force_terminal=True, _environ={"TERM": "dumb"})
    with Display(console, clock=Clock()) as display:
        display(report(1, 1, 9, 9, loss=1.0))
    assert file.getvalue() == "epoch 1/1  loss 1.000  took 0 s\n"


def test_a_terminal_says_what_takes_the_time_before_the_first_report():
    assert "digits_cnn  compiling, 0 s" in shown([], terminal=True)


def test_results_are_a_table():
    file = StringIO()
    results = {"epochs": 3, "test": {"loss": 0.25, "accuracy": 0.9}, "validation": {"loss": 0.5}}
    Console(file=file, width=80, _environ={}).print(results_table(results))
    cells = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in file.getvalue().splitlines()
        if "│" in line
    ]
    assert cells == [["validation", "0.500", "–"], ["test", "0.250", "0.900"]]


def test_results_of_a_regression_have_no_accuracy():
    table = results_table({"validation": {"loss": 0.5}})
    assert [column.header for column in table.columns] == ["", "loss"]
    assert table.row_count == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (42, "42 s"),
        (59.7, "1 m 00 s"),
        (185, "3 m 05 s"),
        (3599.6, "1 h 00 m"),
        (3720, "1 h 02 m"),
        (100_000, "27 h 47 m"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.000"),
        (0.41251, "0.413"),
        (0.001, "0.001"),
        (0.0009, "9.00e-04"),
        (-2.5, "-2.500"),
        (1e6, "1.00e+06"),
    ],
)
def test_number(value, text):
    assert number(value) == text
