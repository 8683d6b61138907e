"""Figures: the counts and the order against NumPy, the pictures by their pixels."""

import json
from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.image import imread

from fnn.run import _figures
from fnn.run._figures import draw_confusion, draw_curves, draw_layers, draw_mistakes, worst_mistakes

CLASSES = ("cat", "dog", "an exceptionally long class name")


def scores(seed=0, n=200, classes=3):
    rng = np.random.default_rng(seed)
    return rng.integers(0, classes, n), rng.normal(size=(n, classes)) * 5


def epochs(count, accuracy=True):
    """Metrics whose best epoch is the second to last."""
    history = []
    for epoch in range(count):
        far = abs(count - 2 - epoch) / count
        metrics = {"loss": 2 * far + 0.1, "validation_loss": 2 * far + 0.3, "penalty": 0.5}
        history.append(
            metrics | ({"accuracy": 1 - far, "validation_accuracy": 0.9 - far} if accuracy else {})
        )
    return history


def rgb(path):
    return imread(path)[..., :3]


def close_to(pixels, colour):
    """How many pixels have a colour."""
    wanted = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return int((np.abs(pixels - wanted).max(axis=-1) < 0.02).sum())


def drawn(monkeypatch, draw, *arguments):
    """The figure that `draw` would save."""
    kept = []
    monkeypatch.setattr(_figures, "save", lambda figure, path: kept.append(figure))
    draw(*arguments)
    return kept[0]


def words(figure):
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def test_worst_mistakes_are_wrong_and_in_order_of_loss():
    y, outputs = scores()
    losses = {}
    for i, (true, row) in enumerate(zip(y, outputs, strict=True)):
        if row.argmax() != true:
            losses[i] = -np.log(np.exp(row[true]) / np.exp(row).sum())
    wanted = sorted(losses, key=losses.get, reverse=True)
    assert len(wanted) > 24
    assert worst_mistakes(y, outputs, 24).tolist() == wanted[:24]
    assert worst_mistakes(y, outputs, 1000).tolist() == wanted


def test_worst_mistakes_takes_huge_logits_of_narrow_dtype():
    outputs = np.array([[60000, -60000], [1, 0], [0, 60000], [65000, -60000]], np.float16)
    assert worst_mistakes([1, 1, 1, 1], outputs, 5).tolist() == [3, 0, 1]


@pytest.mark.parametrize("count", [1, 2, 15, 200])
def test_curves_of_a_classifier_have_two_panels(tmp_path, count):
    path = tmp_path / "figures" / "curves.png"
    draw_curves(epochs(count), path)
    pixels = rgb(path)
    left, right = np.array_split(pixels, 2, axis=1)
    for panel in (left, right):
        assert close_to(panel, _figures.TRAIN) > 30
        assert close_to(panel, _figures.VALIDATION) > 30


def test_curves_of_a_regression_have_one_panel(tmp_path):
    draw_curves(epochs(15), tmp_path / "two.png")
    draw_curves(epochs(15, accuracy=False), tmp_path / "one.png")
    assert rgb(tmp_path / "one.png").shape[1] < 0.7 * rgb(tmp_path / "two.png").shape[1]


@pytest.mark.parametrize("accuracy", [True, False])
def test_curves_mark_the_best_epoch(monkeypatch, tmp_path, accuracy):
    figure = drawn(monkeypatch, draw_curves, epochs(15, accuracy), tmp_path / "curves.png")
    assert "best epoch 14: 0.3" in words(figure)
    assert ("best epoch 14: 90.00%" in words(figure)) == accuracy


@pytest.mark.parametrize("accuracies", [(0.5, 0.5, 0.5), (0.4, 0.5, 0.4)])
@pytest.mark.parametrize("losses", [(0.9, 0.7, 0.8), (0.9, 0.7, 0.6)])
def test_accuracy_decides_which_epoch_is_best_and_of_equals_the_loss(
    monkeypatch, tmp_path, accuracies, losses
):
    history = [
        {"loss": 1.0, "validation_loss": loss, "accuracy": 0.5, "validation_accuracy": accuracy}
        for loss, accuracy in zip(losses, accuracies, strict=True)
    ]
    figure = drawn(monkeypatch, draw_curves, history, tmp_path / "curves.png")
    best = 2 if accuracies[0] < accuracies[1] or losses[1] < losses[2] else 3
    assert f"best epoch {best}: {losses[best - 1]}" in words(figure)


def test_curves_are_the_metrics_in_two_colours(monkeypatch, tmp_path):
    history = epochs(5)
    figure = drawn(monkeypatch, draw_curves, history, tmp_path / "curves.png")
    for axes, name in zip(figure.axes, ("loss", "accuracy"), strict=True):
        lines = {line.get_label(): line for line in axes.get_lines()}
        assert lines["train"].get_ydata().tolist() == [metrics[name] for metrics in history]
        assert lines["validation"].get_ydata().tolist() == [
            metrics[f"validation_{name}"] for metrics in history
        ]
        assert lines["train"].get_xdata().tolist() == [1, 2, 3, 4, 5]
        assert lines["train"].get_color() != lines["validation"].get_color()


@pytest.mark.parametrize(("last", "scale"), [(0.5, "linear"), (0.001, "log"), (0.0, "linear")])
def test_losses_of_very_different_sizes_are_drawn_in_powers_of_ten(monkeypatch, tmp_path, last, scale):
    history = [{"loss": loss, "validation_loss": loss} for loss in (2.0, last)]
    figure = drawn(monkeypatch, draw_curves, history, tmp_path / "curves.png")
    assert figure.axes[0].get_yscale() == scale


def test_an_accuracy_that_is_measured_in_validation_only_is_drawn(monkeypatch, tmp_path):
    history = [{"loss": 1.0, "validation_loss": 1.0, "validation_accuracy": a} for a in (0.5, 0.7)]
    figure = drawn(monkeypatch, draw_curves, history, tmp_path / "curves.png")
    labels = [[line.get_label() for line in axes.lines if line.get_label()[0] != "_"] for axes in figure.axes]
    assert labels == [["train", "validation"], ["validation"]]


def test_curves_need_an_epoch(tmp_path):
    with pytest.raises(ValueError, match="no epoch has ended"):
        draw_curves([], tmp_path / "curves.png")


def layers_of(monkeypatch, tmp_path, *ratios):
    """The figure of a run of 18 steps an epoch, watched at the first of each, of these ratios of one kernel."""
    records = [{"layers": ["linear_1", "relu_1"]}]
    for epoch, ratio in enumerate(ratios):
        records += [
            {"step": 18 * epoch, "update_ratio": {"linear_1/kernel": ratio}},
            {"step": 18 * epoch, "loss": 1.0, "loss_max": 1.0},
            {"step": 18 * epoch + 18, "probe": {"dead_units": {"relu_1": 0.5}}},
        ]
    (tmp_path / "diagnostics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return drawn(monkeypatch, draw_layers, tmp_path / "diagnostics.jsonl", tmp_path / "layers.png")


def test_a_layer_that_does_not_move_is_at_the_low_end_and_one_without_a_number_is_grey(monkeypatch, tmp_path):
    figure = layers_of(monkeypatch, tmp_path, 0.0, 1e-6, 1e-5, 1e-3, 1e-1, None)
    mesh = figure.axes[0].collections[0]
    colours = [to_hex(colour) for colour in mesh.to_rgba(mesh.get_array()).reshape(-1, 4)]
    low = to_hex(mesh.cmap(0.0))
    assert colours[:3] == [low] * 3
    assert colours[5] == _figures.NO_NUMBER
    assert len(set(colours)) == 4
    assert "grey: no number" in words(figure)


def test_layers_without_a_gap_say_nothing_of_grey(monkeypatch, tmp_path):
    assert "grey: no number" not in words(layers_of(monkeypatch, tmp_path, 1e-3, 0.0))


@pytest.mark.parametrize("epochs", [2, 5])
def test_layers_are_drawn_over_the_steps_that_were_taken(monkeypatch, tmp_path, epochs):
    figure = layers_of(monkeypatch, tmp_path, *[1e-3] * epochs)
    maps = [axes for axes in figure.axes if axes.get_xlabel() == "step"]
    assert len(maps) == 2
    for axes in maps:
        assert axes.get_xlim() == (0, 18 * epochs)
        edges = axes.collections[0].get_coordinates()[0, :, 0]
        assert edges.tolist() == [18 * epoch for epoch in range(epochs + 1)]


def test_confusion_is_dark_on_the_diagonal_and_white_where_nothing_is(tmp_path):
    size = 30  # too many for counts, so that a cell is one colour
    draw_confusion(np.eye(size, dtype=int) * 7, [str(i) for i in range(size)], tmp_path / "diagonal.png")
    draw_confusion(np.eye(size, dtype=int)[::-1] * 7, [str(i) for i in range(size)], tmp_path / "other.png")
    diagonal, other = rgb(tmp_path / "diagonal.png"), rgb(tmp_path / "other.png")
    height, width = diagonal.shape[:2]
    # The matrix fills most of the picture: near its corners lie the ends of the diagonals.
    top = np.s_[: height // 4, width // 12 : width // 3]
    assert close_to(diagonal[top], "#123a5e") > 20 * max(close_to(other[top], "#123a5e"), 20)


def test_confusion_is_coloured_by_the_share_of_the_true_class(monkeypatch, tmp_path):
    figure = drawn(monkeypatch, draw_confusion, [[1, 3], [0, 0]], ["a", "b"], tmp_path / "confusion.png")
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), [[0.25, 0.75], [0, 0]])
    assert "1 of 4 correct (25.0%)" in words(figure)


@pytest.mark.parametrize(("size", "written"), [(2, True), (20, True), (21, False), (120, False)])
def test_confusion_writes_counts_of_few_classes(monkeypatch, tmp_path, size, written):
    matrix = np.full((size, size), 4321)
    figure = drawn(
        monkeypatch, draw_confusion, matrix, [f"class {i}" for i in range(size)], tmp_path / "confusion.png"
    )
    assert words(figure).count("4321") == (size**2 if written else 0)


def test_confusion_turns_long_names(monkeypatch, tmp_path):
    for classes, angle in ((CLASSES, 45), (("a", "b", "c"), 0)):
        figure = drawn(monkeypatch, draw_confusion, np.eye(3, dtype=int), classes, tmp_path / "confusion.png")
        assert {label.get_rotation() for label in figure.axes[0].get_xticklabels()} == {angle}


ALIKE = {
    "ends": [f"golden retriever {i}" for i in range(10, 15)],
    "beginnings": [f"{i} a very long name of a class" for i in range(10, 15)],
    "middles": [f"train/images/{i}/of/this/class" for i in range(10, 15)],
    "lengths": ["x" * i for i in range(17, 22)],
}


@pytest.mark.parametrize("names", ALIKE.values(), ids=ALIKE)
def test_different_classes_have_different_labels(monkeypatch, tmp_path, names):
    figure = drawn(monkeypatch, draw_confusion, np.eye(5, dtype=int), names, tmp_path / "confusion.png")
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert len(set(labels)) == 5
    assert max(map(len, labels)) == 18
    x, y = np.zeros((5, 4, 4, 1)), np.arange(5)
    figure = drawn(monkeypatch, draw_mistakes, x, y, np.eye(5)[::-1], names, tmp_path / "mistakes.png")
    titles = [axes.get_title().partition(" →")[0] for axes in figure.axes]
    assert len(titles) == 4
    assert set(titles) < set(labels)


@pytest.mark.parametrize(
    "name", ["golden retriever {}", "MIXED MARTIAL ARTS FIGHTER {}", "[red]<b>cat & 'dog' {}"]
)
def test_titles_of_mistakes_stand_apart_and_in_the_figure(monkeypatch, tmp_path, name):
    x, y, names = np.zeros((12, 8, 8, 1)), np.arange(12), [name.format(i) for i in range(12)]
    figure = drawn(monkeypatch, draw_mistakes, x, y, np.eye(12)[::-1], names, tmp_path / "mistakes.png")
    figure.savefig(tmp_path / "mistakes.png")
    boxes = [axes.title.get_window_extent() for axes in figure.axes]
    assert len(boxes) == 12
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)


def test_names_in_a_script_that_no_font_has_are_no_warning(tmp_path):
    names = ["日本", "漢字"]
    draw_confusion(np.eye(2, dtype=int), names, tmp_path / "confusion.png")
    draw_mistakes(np.zeros((1, 4, 4, 1)), [0], np.array([[0.0, 1.0]]), names, tmp_path / "mistakes.png")


def test_names_with_dollars_are_no_mathematics(tmp_path):
    outputs, x = np.array([[0.0, 1.0]]), np.zeros((1, 4, 4, 1))
    draw_confusion(np.eye(2, dtype=int), ["$\\x$", "$_$"], tmp_path / "confusion.png")
    draw_mistakes(x, [0], outputs, ["$\\x$", "$_$"], tmp_path / "mistakes.png")


def test_confusion_puts_true_classes_on_the_vertical_axis(monkeypatch, tmp_path):
    figure = drawn(monkeypatch, draw_confusion, [[0, 5], [0, 0]], ["a", "b"], tmp_path / "confusion.png")
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    five = next(text for text in axes.texts if text.get_text() == "5")
    assert five.get_position() == (1, 0)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_mistakes_show_the_images(tmp_path, dtype, channels):
    y, outputs = [0, 1], np.array([[0.0, 3.0], [0.0, 3.0]])
    x = np.zeros((2, 8, 8, channels), dtype)
    x[0, :, :, 0] = 255 if dtype == np.uint8 else 1
    path = tmp_path / "mistakes.png"
    assert draw_mistakes(x, y, outputs, ["a", "b"], path) is True
    pixels = rgb(path)
    if channels == 3:
        assert close_to(pixels, "#ff0000") > 0.2 * pixels[..., 0].size
    else:
        x[0, :, 4:] = 0
        draw_mistakes(x, y, outputs, ["a", "b"], path)
        assert close_to(rgb(path), "#000000") > close_to(pixels, "#000000") + 0.1 * pixels[..., 0].size


def test_mistakes_do_not_stretch_dark_bytes(tmp_path):
    x = np.full((1, 8, 8, 3), 51, np.uint8)
    draw_mistakes(x, [0], [[0.0, 1.0]], ["a", "b"], tmp_path / "mistakes.png")
    assert close_to(rgb(tmp_path / "mistakes.png"), "#333333") > 10_000


def test_mistakes_name_the_classes_and_the_worst_comes_first(monkeypatch, tmp_path):
    x = np.zeros((3, 4, 4, 1), np.uint8)
    outputs = np.array([[0.0, np.log(3)], [9.0, 0.0], [0.0, np.log(9)]])
    figure = drawn(monkeypatch, draw_mistakes, x, [0, 0, 0], outputs, ["a", "b"], tmp_path / "mistakes.png")
    assert [axes.get_title() for axes in figure.axes] == ["a → b (90%)", "a → b (75%)"]
    assert "2 of 3 mistaken (true → predicted)" in words(figure)


def test_mistakes_show_24_of_many(monkeypatch, tmp_path):
    y, outputs = scores()
    x = np.zeros((200, 4, 4, 3), np.uint8)
    figure = drawn(monkeypatch, draw_mistakes, x, y, outputs, CLASSES, tmp_path / "mistakes.png")
    assert len(figure.axes) == 24
    assert any("of 200 mistaken, the 24 with the highest loss" in text for text in words(figure))


def test_no_mistakes_are_said_to_be_none(monkeypatch, tmp_path):
    x, y = np.zeros((3, 4, 4, 1)), np.array([0, 1, 2])
    assert draw_mistakes(x, y, np.eye(3), CLASSES, tmp_path / "mistakes.png") is True
    assert (rgb(tmp_path / "mistakes.png") < 0.5).any()
    figure = drawn(monkeypatch, draw_mistakes, x, y, np.eye(3), CLASSES, tmp_path / "mistakes.png")
    assert words(figure) == ["No mistakes in 3 images"]


@pytest.mark.parametrize("shape", [(2, 3), (2, 4, 3), (2, 4, 4, 2)])
def test_mistakes_of_what_are_no_images_draw_nothing(tmp_path, shape):
    path = tmp_path / "mistakes.png"
    assert draw_mistakes(np.zeros(shape), [0, 1], np.zeros((2, 2)), ["a", "b"], path) is False
    assert not path.exists()
