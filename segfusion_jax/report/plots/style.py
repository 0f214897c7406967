"""The look that all figures share, and how they are written.

Colours are of the Okabe-Ito palette, which stays distinct under every kind of colour blindness; line style says the
same again.
"""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.typing import LegendLocType, LineStyleType

BLUE, VERMILLION, SKY, YELLOW = "#0072B2", "#D55E00", "#56B4E9", "#F0E442"
INK, FAINT = "#333333", "#D9D9D9"
SIDES = ("benign", "malignant")  # what labels 0 and 1 are called
DRAWING_DPI = 300
GALLERY_DPI = 150  # of photographs, whose own pixels are fewer than a drawing's
SQUARE = (4.4, 4.2)  # inches, of the figures that stand side by side in the report
BAND = 0.22  # opacity of a 95 % band

_settings = threading.Lock()  # of matplotlib, which knows the two for SVG only as global ones


def drawing(width: float, height: float) -> Figure:
    """Returns an empty figure of `width` times `height` inches."""
    return Figure(figsize=(width, height), dpi=DRAWING_DPI, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))


def gallery(width: float, height: float) -> Figure:
    """Returns an empty figure for images in cells, which fill `width` or `height`, in inches."""
    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, compress=True)
    return Figure(figsize=(width, height), dpi=GALLERY_DPI, layout=layout)


def single(title: str, x_label: str, y_label: str) -> tuple[Figure, Axes]:
    """Returns a square figure with one pair of axes."""
    figure = drawing(*SQUARE)
    axes = figure.subplots()
    dress(axes, title, x_label, y_label)
    return figure, axes


def dress(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    """Gives axes a title, labels and a faint grid, and no box."""
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.set_title(title, fontsize=11, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)


def legend(axes: Axes, place: LegendLocType) -> None:
    """Names what is drawn in `axes`, legible over it."""
    axes.legend(loc=place, fontsize=9, frameon=True, framealpha=0.85, edgecolor="none")


def legend_above(figure: Figure, lines: Mapping[str, tuple[str, LineStyleType]], *, outlined: bool = False) -> None:
    """Names colours and line styles above all axes.

    Args:
      figure: has a constrained or compressed layout.
      lines: name -> colour and line style.
      outlined: whether lines have a dark rim, as contours over photographs have.
    """
    effects = [patheffects.withStroke(linewidth=3, foreground="black", alpha=0.5)] if outlined else []
    handles = [
        Line2D([], [], color=colour, linestyle=line, linewidth=1.8, label=name, path_effects=effects)
        for name, (colour, line) in lines.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)


def save_drawing(figure: Figure, path: Path) -> Figure:
    """Writes `path`, a PNG of 300 dpi, and beside it an SVG with text as text; returns the figure.

    Equal figures give equal bytes.

    Args:
      figure: the figure that is written.
      path: ends in ".png"; its folder is created.

    Raises:
      ValueError: `path` ends otherwise.
    """
    _take_literally(figure)
    _settle(figure)
    _write(figure, path)
    with _settings, matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "segfusion_jax"}):
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    return figure


def save_gallery(figure: Figure, path: Path) -> Figure:
    """Writes `path`, a PNG of 150 dpi, without empty margins; returns the figure.

    Args:
      figure: the figure that is written.
      path: ends in ".png"; its folder is created.

    Raises:
      ValueError: `path` ends otherwise.
    """
    _take_literally(figure)
    _write(figure, path, bbox_inches="tight", pad_inches=0.08)  # images of any aspect leave some of a figure empty
    return figure


def _take_literally(figure: Figure) -> None:
    """Shows texts as they are: in names of classes a dollar begins no formula, which could be a broken one."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)


def _settle(figure: Figure) -> None:
    """Lays the figure out once; the solver's last digits, which vary between runs, are rounded away."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        axes.set_position(tuple(np.round(axes.get_position().bounds, 6)))


def _write(figure: Figure, path: Path, **options: Any) -> None:
    if path.suffix != ".png":
        raise ValueError(f"figure {path}: must end in .png")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, **options)
