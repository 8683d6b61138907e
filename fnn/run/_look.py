"""How figures look."""

from __future__ import annotations

import warnings
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

INK, GREY, LINE = "#26323d", "#6b7884", "#d5dbe0"
NO_NUMBER = "#b3b3b3"  # no shade of any colour map
TRAIN, VALIDATION = "#d08a4c", "#1f4e79"  # apart in greyscale too
SHADES = LinearSegmentedColormap.from_list("shades", ["#ffffff", "#a9c3da", "#4a7ba6", "#123a5e"])


def new_figure(width: float, height: float) -> Figure:
    """An empty figure; sizes in inches."""
    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))


def plain(axes: Axes, title: str) -> None:
    """A title, and no more lines than needed."""
    axes.set_title(title, loc="left", color=INK, fontsize=11, pad=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINE)
    axes.tick_params(which="both", colors=GREY, labelsize=9, length=3)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, and the directory that it is to be in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a name in a script that no font here has
        figure.savefig(path, dpi=160, format="png", facecolor="white")
