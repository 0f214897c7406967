"""How a training went."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from segfusion_jax.report.plots import style

TITLES = {"roc_auc": "ROC-AUC", "macro_roc_auc": "ROC-AUC, mean over classes"}


def training_curves(path: Path, history: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws one panel for each metric over the epochs, training beside validation.

    Args:
      path: PNG file to write; the SVG goes beside it.
      history: rows of metrics.jsonl: `step`, `epoch`, `split` ("train" or "validation") and any numeric metrics; a
        metric may be missing from a row. Many rows are drawn as means of neighbours.

    Raises:
      ValueError: no row holds a metric.
    """
    names = [name for row in history for name, value in row.items() if isinstance(value, int | float)]
    names = [name for name in dict.fromkeys(names) if name not in ("step", "epoch")]
    if not names:
        raise ValueError(f"history of {len(history)} row(s) holds no metric")
    columns = min(2, len(names))
    rows = math.ceil(len(names) / columns)
    figure = style.drawing(2.9 * columns, 2.4 * rows + 0.3)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        style.dress(axes, TITLES.get(name, name.replace("_", " ").capitalize()), "Epoch", "")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        for split, colour, line in (("train", style.BLUE, "-"), ("validation", style.VERMILLION, "--")):
            points = [(row["epoch"], row[name]) for row in history if row["split"] == split and name in row]
            if points:
                epochs, values = _means(points)
                marker = "o" if len(points) <= 30 else ""
                axes.plot(epochs, values, color=colour, linestyle=line, linewidth=1.6, marker=marker, markersize=3.5)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    style.legend_above(figure, {"Training": (style.BLUE, "-"), "Validation": (style.VERMILLION, "--")})
    return style.save_drawing(figure, path)


def _means(points: Sequence[tuple[float, float]], most: int = 40) -> tuple[list[float], list[float]]:
    """Returns means of neighbours, at most `most` of them: the last epoch of each, and the mean value."""
    parts = np.array_split(points, min(len(points), most))
    return [float(part[-1, 0]) for part in parts], [float(part[:, 1].mean()) for part in parts]
