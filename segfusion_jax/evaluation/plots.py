"""Figures of a run, as PNG files of 150 dpi.

Colours are of the Okabe-Ito palette, which stays distinct under every kind of colour blindness; line style says the
same again. Figures are objects of their own, without pyplot, so nothing global is touched and threads may draw.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter
from matplotlib.typing import LineStyleType
from sklearn import metrics as sk_metrics

from segfusion_jax.evaluation import classification

BLUE, VERMILLION, SKY, YELLOW = "#0072B2", "#D55E00", "#56B4E9", "#F0E442"
SIDES = ("benign", "malignant")  # what labels 0 and 1 are called
INK, FAINT = "#333333", "#D9D9D9"
DPI = 150
SQUARE = (4.4, 4.2)  # inches, of the figures that stand side by side in the report
CELL = 2.1  # inches, of one image in a grid


def roc_curve(path: Path, labels: np.ndarray, probabilities: np.ndarray, threshold: float) -> None:
    """Sensitivity against 1 - specificity, with the operating point at `threshold`.

    Args:
      path: PNG file to write.
      labels: [n] 0 benign, 1 malignant; both present.
      probabilities: [n] of malignancy, in [0, 1].
      threshold: probability from which an image is called malignant.

    Raises:
      ValueError: as `classification.check`.
    """
    labels, probabilities = classification.check(labels, probabilities)
    scores = classification.metrics(labels, probabilities, threshold)
    false_positive_rate, sensitivity, _ = sk_metrics.roc_curve(labels, probabilities)
    figure, axes = _unit_square("1 − specificity", "Sensitivity", f"ROC curve, area {scores['roc_auc']:.3f}")
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=":", label="Chance")
    axes.plot(false_positive_rate, sensitivity, color=BLUE, linewidth=2, label="Model")
    _operating_point(axes, 1 - scores["specificity"], scores["sensitivity"], threshold)
    axes.legend(loc="lower right", frameon=False)
    _save(figure, path)


def pr_curve(path: Path, labels: np.ndarray, probabilities: np.ndarray, threshold: float) -> None:
    """Precision against recall, with the prevalence (chance level) and the operating point at `threshold`.

    Args:
      path: PNG file to write.
      labels: [n] 0 benign, 1 malignant; both present.
      probabilities: [n] of malignancy, in [0, 1].
      threshold: probability from which an image is called malignant.

    Raises:
      ValueError: as `classification.check`.
    """
    labels, probabilities = classification.check(labels, probabilities)
    scores = classification.metrics(labels, probabilities, threshold)
    precision, recall, _ = sk_metrics.precision_recall_curve(labels, probabilities)
    figure, axes = _unit_square(
        "Recall (sensitivity)", "Precision", f"Precision and recall, area {scores['pr_auc']:.3f}"
    )
    prevalence = f"Chance (prevalence {scores['prevalence']:.3f})"
    axes.axhline(scores["prevalence"], color=INK, linewidth=1, linestyle=":", label=prevalence)
    axes.plot(recall, precision, color=BLUE, linewidth=2, drawstyle="steps-post", label="Model")
    if (probabilities >= threshold).any():  # precision is not defined where nothing is called malignant
        _operating_point(axes, scores["recall"], scores["precision"], threshold)
    axes.legend(loc="best", frameon=True, framealpha=0.85, edgecolor="none")
    _save(figure, path)


def confusion_matrix(path: Path, labels: np.ndarray, decisions: np.ndarray, names: tuple[str, str] = SIDES) -> None:
    """Counts of decisions by diagnosis, shaded by their share of the diagnosis.

    Args:
      path: PNG file to write.
      labels: [n] 0 benign, 1 malignant; both present.
      decisions: [n] 0 called benign, 1 called malignant.
      names: of 0 and 1.

    Raises:
      ValueError: as `classification.check`, or decisions are not 0 or 1.
    """
    labels, decisions = classification.check(labels, decisions)
    counts = sk_metrics.confusion_matrix(labels.astype(int), decisions, labels=[0, 1])
    shares = counts / counts.sum(axis=1, keepdims=True)
    names = (names[0].capitalize(), names[1].capitalize())
    figure = Figure(figsize=SQUARE, dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(2, 2):
        colour = "white" if shares[row, column] > 0.5 else INK
        text = f"{counts[row, column]:,}\n{100 * shares[row, column]:.1f} %"
        axes.text(column, row, text, ha="center", va="center", fontsize=13, color=colour, linespacing=1.4)
    axes.set_xticks([0, 1], names)
    axes.set_yticks([0, 1], names, rotation=90, va="center")
    axes.set(xlabel="Called by the model", ylabel="Diagnosis")
    axes.set_title("Decisions", fontsize=11, color=INK)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    _save(figure, path)


def probability_histogram(
    path: Path, labels: np.ndarray, probabilities: np.ndarray, threshold: float, names: tuple[str, str] = SIDES
) -> None:
    """How the probabilities of each class are spread, as shares of the class, with the threshold.

    Args:
      path: PNG file to write.
      labels: [n] 0 benign, 1 malignant; both present.
      probabilities: [n] of malignancy, in [0, 1].
      threshold: probability from which an image is called malignant.
      names: of labels 0 and 1.

    Raises:
      ValueError: as `classification.check`.
    """
    labels, probabilities = classification.check(labels, probabilities)
    figure = Figure(figsize=SQUARE, dpi=DPI, layout="constrained")
    axes = figure.subplots()
    _style(axes, f"Probability of '{names[1]}'", "Share of the class", "Probabilities by diagnosis")
    bins = np.linspace(0, 1, 26)
    for name, members, colour, fill in ((names[0], ~labels, BLUE, 0.35), (names[1], labels, VERMILLION, 0.0)):
        share = np.histogram(probabilities[members], bins)[0] / members.sum()
        label = f"{name.capitalize()} (n = {members.sum():,})"
        axes.stairs(share, bins, fill=True, color=colour, alpha=fill)
        axes.stairs(share, bins, color=colour, linewidth=1.6, label=label)
    axes.axvline(threshold, color=INK, linewidth=1, linestyle="--", label=f"Threshold {threshold:.3f}")
    axes.set_xlim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.legend(loc="upper center", frameon=True, framealpha=0.85, edgecolor="none")
    _save(figure, path)


def training_curves(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """One panel for each metric over the epochs, training beside validation.

    Args:
      path: PNG file to write.
      history: rows of metrics.jsonl: `step`, `epoch`, `split` ("train" or "validation") and any numeric metrics; a
        metric may be missing from a row. Many rows are drawn as means of neighbours.

    Raises:
      ValueError: no row holds a metric.
    """
    names = [name for row in history for name, value in row.items() if isinstance(value, int | float)]
    names = [name for name in dict.fromkeys(names) if name not in ("step", "epoch")]
    if not names:
        raise ValueError(f"history of {len(history)} row(s) holds no metric")
    rows = math.ceil(len(names) / 3)
    columns = math.ceil(len(names) / rows)
    figure = Figure(figsize=(3.4 * columns, 2.7 * rows + 0.3), dpi=DPI, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        _style(axes, "Epoch", "", name.replace("_", " "))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        for split, colour, line in (("train", BLUE, "-"), ("validation", VERMILLION, "--")):
            points = [(row["epoch"], row[name]) for row in history if row["split"] == split and name in row]
            if points:
                epochs, values = _means(points)
                marker = "o" if len(points) <= 30 else ""
                axes.plot(epochs, values, color=colour, linestyle=line, linewidth=1.6, marker=marker, markersize=3.5)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    _legend(figure, {"Training": (BLUE, "-"), "Validation": (VERMILLION, "--")})
    _save(figure, path)


def _means(points: Sequence[tuple[float, float]], most: int = 40) -> tuple[list[float], list[float]]:
    """Of neighbours, so that there are at most `most`: the last epoch of each mean, and the mean value."""
    parts = np.array_split(points, min(len(points), most))
    return [float(part[-1, 0]) for part in parts], [float(part[:, 1].mean()) for part in parts]


def segmentation_overlays(
    path: Path, panels: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, str]], columns: int = 4
) -> None:
    """Images with the contours of the annotated and of the predicted lesion.

    Args:
      path: PNG file to write.
      panels: image uint8 [height, width, 3], annotation bool [height, width], prediction bool [height, width], title.
      columns: most images side by side.

    Raises:
      ValueError: there are no panels.
    """
    if not panels:
        raise ValueError("panels is empty: there is no image to draw")
    columns = min(columns, len(panels))
    grid = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    figure, axes_grid = _image_grid(panels[0][0], len(grid), columns)
    for axes_row, row in zip(axes_grid, grid, strict=True):
        for axes, (image, annotation, prediction, title) in zip(axes_row, row, strict=False):
            axes.imshow(image)
            _contour(axes, annotation, SKY, "-")
            _contour(axes, prediction, YELLOW, "--")
            axes.set_title(title, fontsize=8, color=INK)
    _legend(figure, {"Annotation": (SKY, "-"), "Prediction": (YELLOW, "--")}, outlined=True)
    _save(figure, path)


def bridge_panels(path: Path, panels: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, str]]) -> None:
    """One row for each image: the image, its mask, and what the classifier sees of the two.

    Args:
      path: PNG file to write.
      panels: image uint8 [height, width, 3], mask uint8 [height, width], bridged uint8 [height, width, 3], title.

    Raises:
      ValueError: there are no panels.
    """
    if not panels:
        raise ValueError("panels is empty: there is no image to draw")
    figure, axes_grid = _image_grid(panels[0][0], len(panels), 3)
    for axes_row, (image, mask, bridged, title) in zip(axes_grid, panels, strict=True):
        axes_row[0].imshow(image)
        axes_row[1].imshow(mask, cmap="gray", vmin=0, vmax=255)
        axes_row[2].imshow(bridged)
        axes_row[0].set_ylabel(title, fontsize=8, color=INK)
    for axes, heading in zip(axes_grid[0], ("Image", "Mask", "Bridged"), strict=True):
        axes.set_title(heading, fontsize=10, color=INK)
    _save(figure, path)


def augmentation_sheet(path: Path, rows: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]]) -> None:
    """One row for each image: its augmented copies with the contour of the mask.

    Args:
      path: PNG file to write.
      rows: for each image its copies: image uint8 [height, width, 3] and mask uint8 [height, width], 0..255.

    Raises:
      ValueError: there are no rows, or one without copies.
    """
    if not rows or not all(rows):
        raise ValueError(f"rows hold {[len(row) for row in rows]} copies: every image needs at least one")
    figure, axes_grid = _image_grid(rows[0][0][0], len(rows), max(map(len, rows)))
    for axes_row, row in zip(axes_grid, rows, strict=True):
        for axes, (image, mask) in zip(axes_row, row, strict=False):
            axes.imshow(image)
            _contour(axes, mask > 127, SKY, "-")
    _save(figure, path)


def _unit_square(x_label: str, y_label: str, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SQUARE, dpi=DPI, layout="constrained")
    axes = figure.subplots()
    _style(axes, x_label, y_label, title)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    return figure, axes


def _style(axes: Axes, x_label: str, y_label: str, title: str) -> None:
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.set_title(title, fontsize=11, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)


def _operating_point(axes: Axes, x: float, y: float, threshold: float) -> None:
    label = f"Threshold {threshold:.3f}"
    axes.plot(x, y, "o", color=VERMILLION, markersize=8, markeredgecolor="white", label=label, clip_on=False, zorder=3)


def _image_grid(image: np.ndarray, rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    """A figure of cells without ticks, in the aspect of `image`."""
    height, width = image.shape[:2]
    figure = Figure(figsize=(CELL * columns, CELL * rows * height / width), dpi=DPI, layout="compressed")
    axes_grid = figure.subplots(rows, columns, squeeze=False)
    for axes in axes_grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    return figure, axes_grid


def _contour(axes: Axes, mask: np.ndarray, colour: str, line: str) -> None:
    if not mask.any():
        return
    height, width = mask.shape
    padded = np.pad(mask, 1).astype(np.float64)  # closes contours of lesions that touch the border
    lines = axes.contour(
        np.arange(-1, width + 1),
        np.arange(-1, height + 1),
        padded,
        [0.5],
        colors=colour,
        linestyles=line,
        linewidths=1.4,
    )
    lines.set_path_effects([patheffects.withStroke(linewidth=2.6, foreground="black", alpha=0.5)])
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def _legend(figure: Figure, lines: Mapping[str, tuple[str, LineStyleType]], *, outlined: bool = False) -> None:
    effects = [patheffects.withStroke(linewidth=3, foreground="black", alpha=0.5)] if outlined else []
    handles = [
        Line2D([], [], color=colour, linestyle=line, linewidth=1.8, label=name, path_effects=effects)
        for name, (colour, line) in lines.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
