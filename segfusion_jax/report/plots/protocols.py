"""One figure down a ladder of protocols, and the curves of two of them with what others published."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn import metrics

from segfusion_jax.report.plots import style

_COLOURS = (style.BLUE, style.VERMILLION, style.SKY)
_STYLES = ("-", "--", "-.")
_WIDTH = 1.75  # inches a rung


class Line(NamedTuple):
    """A value on each rung.

    Attributes:
      entries: one a rung: `value`, `low`, `high`; {} where there is none.
      faint: whether it is drawn in grey, for comparison.
    """

    entries: Sequence[Mapping[str, float]]
    faint: bool = False


def ladder(
    path: Path, rungs: Sequence[str], lines: Mapping[str, Line], *, y_label: str, levels: Mapping[str, float]
) -> Figure:
    """Draws values with their 95 % intervals, rung by rung from left to right; large enough for a talk.

    Args:
      path: PNG file to write; the SVG goes beside it.
      rungs: what each rung is.
      lines: by their names, at most three that are not faint.
      y_label: what is drawn, between 0.5 (chance) and 1.
      levels: what others published, by name, as horizontal lines.

    Raises:
      ValueError: no rungs or lines, too many lines, or one with another number of entries than there are rungs.
    """
    strong = [name for name, line in lines.items() if not line.faint]
    if not rungs or not lines or len(strong) > len(_COLOURS):
        raise ValueError(f"{len(rungs)} rungs, {len(strong)} lines: must be at least 1, and at most {len(_COLOURS)}")
    for name, line in lines.items():
        if len(line.entries) != len(rungs):
            raise ValueError(f"line {name!r}: {len(line.entries)} entries: must be {len(rungs)}")
    figure = style.drawing(1.2 + _WIDTH * len(rungs), 5)
    axes = figure.subplots()
    style.dress(axes, "", "", y_label)
    axes.axhline(0.5, color=style.INK, linewidth=1, linestyle=":")
    axes.text(len(rungs) - 0.55, 0.502, "chance", ha="right", va="bottom", fontsize=10, color=style.INK)
    for name, level in levels.items():
        axes.axhline(level, color=style.INK, linewidth=1)
        axes.text(len(rungs) - 0.55, level + 0.004, name, ha="right", va="bottom", fontsize=10, color=style.INK)
    for number, (name, line) in enumerate(lines.items()):
        _line(axes, name, line, number, offset=0.08 * (number - (len(lines) - 1) / 2))
    axes.set_xticks(range(len(rungs)), [textwrap.fill(rung, 20) for rung in rungs], fontsize=11)
    axes.set(xlim=(-0.5, len(rungs) - 0.5), ylim=(0.45, 1.04))
    axes.yaxis.label.set_fontsize(12)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=10, frameon=False)
    return style.save_drawing(figure, path)


def _line(axes: Axes, name: str, line: Line, number: int, offset: float) -> None:
    colour, dash = ("#888888", ":") if line.faint else (_COLOURS[number], _STYLES[number])
    places = [place for place, entry in enumerate(line.entries) if entry]
    values = [line.entries[place]["value"] for place in places]
    marker = "os^Dv"[number % 5]
    axes.plot(
        np.array(places) + offset, values, dash, marker=marker, color=colour, linewidth=1.8, markersize=7, label=name
    )
    for place in places:
        entry = line.entries[place]
        if "low" in entry:
            axes.plot([place + offset] * 2, [entry["low"], entry["high"]], color=colour, linewidth=2.2, alpha=0.7)


class Stated(NamedTuple):
    """What others published of one operating point and of their ROC curve.

    Attributes:
      alarms: 1 - specificity of the point.
      recall: its sensitivity.
      precision: its precision.
      best_balanced_accuracy: the largest on the curve that they draw.
    """

    alarms: float
    recall: float
    precision: float
    best_balanced_accuracy: float


def stated_curves(path: Path, curves: Mapping[str, tuple[np.ndarray, np.ndarray]], stated: Stated) -> Figure:
    """Draws ROC, and precision and recall, side by side, with a published point in both.

    Args:
      path: PNG file to write; the SVG goes beside it.
      curves: labels and probabilities by name, at most three.
      stated: what is published; above its line no point of the published ROC curve lies.

    Raises:
      ValueError: too many curves.
    """
    if len(curves) > len(_COLOURS):
        raise ValueError(f"{len(curves)} curves: must be at most {len(_COLOURS)}")
    figure = style.drawing(9.2, 4.4)
    left, right = figure.subplots(1, 2)
    style.dress(left, "ROC", "1 − specificity", "Sensitivity")
    style.dress(right, "Precision and recall", "Recall (sensitivity)", "Precision")
    for (name, (labels, probabilities)), colour, dash in zip(curves.items(), _COLOURS, _STYLES, strict=False):
        alarms, found, _ = metrics.roc_curve(labels, probabilities)
        precision, recall, _ = metrics.precision_recall_curve(labels, probabilities)
        areas = metrics.roc_auc_score(labels, probabilities), metrics.average_precision_score(labels, probabilities)
        left.plot(alarms, found, dash, color=colour, linewidth=1.8, label=f"{name}, area {areas[0]:.3f}")
        right.plot(recall, precision, dash, color=colour, linewidth=1.8, label=f"{name}, area {areas[1]:.3f}")
    best = stated.best_balanced_accuracy
    left.plot([0, 2 - 2 * best], [2 * best - 1, 1], color=style.INK, linewidth=1, label="Published curve: not above")
    for axes, point in ((left, (stated.alarms, stated.recall)), (right, (stated.recall, stated.precision))):
        axes.plot(*point, "X", color=style.INK, markersize=9, markeredgecolor="white", label="Published point")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        style.legend(axes, "lower left" if axes is right else "lower right")
    return style.save_drawing(figure, path)
