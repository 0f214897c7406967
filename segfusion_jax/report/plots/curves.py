"""What a classifier achieves at every threshold: ROC, precision and recall, net benefit, each with a 95 % band.

A band is pointwise: at each place of the horizontal axis, the 2.5th and the 97.5th percentile of the curves of the
resamples, in which whole groups (lesions, patients) are drawn with replacement.
"""

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.typing import LegendLocType

from segfusion_jax.evaluation import bootstrap, classification
from segfusion_jax.report.plots import style

Curve = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Weights of malignant and of benign images at each distinct score, from the highest score to the lowest, each
[scores] -> the curve at each place, [places]."""


@dataclasses.dataclass(frozen=True)
class Judged:
    """The images whose curve is drawn, what the model says of them, and how the band is drawn.

    Attributes:
      labels: [n] 0 benign, 1 malignant; both present.
      probabilities: [n] of malignancy, in [0, 1].
      threshold: probability from which an image is called malignant.
      groups: [n] name of each image's group, all of one type, at least two.
      resamples: number of samples that are drawn for the band.
      seed: seed of these draws.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    threshold: float
    groups: Sequence[Hashable]
    resamples: int = 1000
    seed: int = 0


def roc_curve(path: Path, images: Judged) -> Figure:
    """Draws sensitivity against 1 - specificity, with chance and the operating point at the threshold.

    Args:
      path: PNG file to write; the SVG goes beside it.
      images: what is drawn.

    Raises:
      ValueError: as `classification.check`, or groups or resamples that give no band.
    """
    scores = classification.metrics(images.labels, images.probabilities, images.threshold)
    places = np.linspace(0, 1, 201)

    def curve(malignant: np.ndarray, benign: np.ndarray) -> np.ndarray:
        return np.interp(places, _rate(benign), _rate(malignant))

    whole, *band = _band(curve, images)
    figure, axes = _unit_square(f"ROC curve, area {scores['roc_auc']:.3f}", "1 − specificity", "Sensitivity")
    axes.plot([0, 1], [0, 1], color=style.INK, linewidth=1, linestyle=":", label="Chance")
    malignant, benign = whole
    _model(axes, (places, *band), (_rate(benign), _rate(malignant)))
    _operating_point(axes, 1 - scores["specificity"], scores["sensitivity"], images.threshold)
    return _saved(figure, path, "lower right")


def pr_curve(path: Path, images: Judged) -> Figure:
    """Draws precision against recall, with chance (the prevalence) and the operating point at the threshold.

    Arguments and errors are those of `roc_curve`.
    """
    scores = classification.metrics(images.labels, images.probabilities, images.threshold)
    places = np.linspace(0, 1, 201)[1:]  # without a recall there is no precision

    def curve(malignant: np.ndarray, benign: np.ndarray) -> np.ndarray:
        recall, precision = _recall_and_precision(malignant, benign)
        return precision[np.searchsorted(recall, places - 1e-9)]

    whole, *band = _band(curve, images)
    recall, precision = _recall_and_precision(*whole)
    recall, precision = np.append(0, recall), np.append(precision[0], precision)
    title = f"Precision and recall, area {scores['pr_auc']:.3f}"
    figure, axes = _unit_square(title, "Recall (sensitivity)", "Precision")
    chance = f"Chance (prevalence {scores['prevalence']:.3f})"
    axes.axhline(scores["prevalence"], color=style.INK, linewidth=1, linestyle=":", label=chance)
    _model(axes, (places, *band), (recall, precision), drawstyle="steps-pre")
    if np.max(images.probabilities) >= images.threshold:  # precision is undefined where nothing is called malignant
        _operating_point(axes, scores["recall"], scores["precision"], images.threshold)
    return _saved(figure, path, "best")


def decision_curve(path: Path, images: Judged) -> Figure:
    """Draws the net benefit of the model against calling all images malignant, or none (Vickers & Elkin 2006).

    Threshold probabilities run to four times the prevalence, past which nobody would treat all, or further to include
    the threshold, and to 0.95 at most.

    Arguments and errors are those of `roc_curve`; the probabilities should be calibrated, since net benefit takes them
    at their word.
    """
    labels, probabilities = classification.check(images.labels, images.probabilities)
    prevalence = labels.mean()
    places = np.linspace(0, min(0.95, max(4 * prevalence, 1.25 * images.threshold)), 201)
    called = np.searchsorted(np.unique(-probabilities), -places, side="right")  # scores at or above each place
    odds = places / (1 - places)

    def curve(malignant: np.ndarray, benign: np.ndarray) -> np.ndarray:
        hits, alarms = (np.concatenate([[0], np.cumsum(weights)])[called] for weights in (malignant, benign))
        return (hits - odds * alarms) / (malignant.sum() + benign.sum())

    whole, *band = _band(curve, images)
    figure, axes = style.single("Decision curve", "Threshold probability", "Net benefit (per image)")
    axes.plot(places, prevalence - (1 - prevalence) * odds, color=style.VERMILLION, linestyle="--", label="Treat all")
    axes.axhline(0, color=style.INK, linewidth=1, linestyle=":", label="Treat none")
    _model(axes, (places, *band), (places, curve(*whole)))
    label = f"Threshold {images.threshold:.3f}"
    axes.axvline(images.threshold, color=style.INK, linewidth=1, linestyle="-.", label=label)
    axes.set(xlim=(0, places[-1]), ylim=(-0.3 * prevalence, 1.15 * max(prevalence, band[1].max())))
    return _saved(figure, path, "upper right")


def _band(curve: Curve, images: Judged) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray, np.ndarray]:
    """Returns the weights of all images, as `curve` takes them, and the lower and upper edge of the band, [places]."""
    labels, probabilities = classification.check(images.labels, images.probabilities)
    if len(images.groups) != labels.size:
        raise ValueError(f"{len(images.groups)} groups of {labels.size} images: must be one each")
    values, index = np.unique(-probabilities, return_inverse=True)

    def by_score(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.bincount(index, weights * labels, values.size), np.bincount(index, weights * ~labels, values.size)

    pairs = (
        by_score(weights) for part in bootstrap.draws(images.groups, images.resamples, images.seed) for weights in part
    )
    drawn = [curve(*pair) for pair in pairs if pair[0].any() and pair[1].any()]  # of one class only there is no curve
    if not drawn:
        raise ValueError(f"all {images.resamples} resamples hold one class only")
    low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
    return by_score(np.ones(labels.size)), low, high


def _rate(weights: np.ndarray) -> np.ndarray:
    """Returns the share that is called malignant as the threshold falls, from none to all, [scores + 1]."""
    called = np.concatenate([[0.0], np.cumsum(weights)])
    return called / called[-1]


def _recall_and_precision(malignant: np.ndarray, benign: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns both as the threshold falls, each [scores]."""
    hits, alarms = np.cumsum(malignant), np.cumsum(benign)
    precision = np.divide(hits, hits + alarms, out=np.zeros_like(hits), where=hits + alarms > 0)
    return hits / hits[-1], precision


def _unit_square(title: str, x_label: str, y_label: str) -> tuple[Figure, Axes]:
    """Returns an empty figure whose axes both go from 0 to 1."""
    figure, axes = style.single(title, x_label, y_label)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    return figure, axes


def _model(
    axes: Axes, band: Sequence[np.ndarray], line: tuple[np.ndarray, np.ndarray], drawstyle: str = "default"
) -> None:
    """Draws the band (places, lower edge, upper edge) and over it the line of all images."""
    places, low, high = band
    axes.fill_between(places, low, high, color=style.BLUE, alpha=style.BAND, linewidth=0, label="95 % band")
    axes.plot(*line, color=style.BLUE, linewidth=1.8, drawstyle=drawstyle, label="Model")


def _operating_point(axes: Axes, x: float, y: float, threshold: float) -> None:
    (point,) = axes.plot(x, y, "o", color=style.VERMILLION, markersize=8, label=f"Threshold {threshold:.3f}")
    point.set(markeredgecolor="white", clip_on=False, zorder=3)


def _saved(figure: Figure, path: Path, legend: LegendLocType) -> Figure:
    style.legend(figure.axes[0], legend)
    return style.save_drawing(figure, path)
