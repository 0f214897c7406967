"""Decisions and probabilities of a classifier at a glance: confusion matrix, histogram, reliability."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from sklearn import metrics as sk_metrics

from segfusion_jax.evaluation import classification
from segfusion_jax.report.plots import style

MALIGNANT = ("Share that is malignant", "Probability of malignancy")
"""What the axes of a reliability diagram are called where probabilities are of malignancy."""


class Reliability(NamedTuple):
    """How often images of like probability were malignant."""

    name: str  # such as "Calibrated"
    mean: np.ndarray  # [bins] mean probability of the images of each bin
    share: np.ndarray  # [bins] share of them that is malignant
    low: np.ndarray  # [bins] 95 % interval of the share
    high: np.ndarray  # [bins]
    probabilities: np.ndarray  # [n] of malignancy, all of them


def confusion_matrix(
    path: Path,
    targets: np.ndarray,
    decisions: np.ndarray,
    names: Sequence[str] = style.SIDES,
    what: str = "diagnosis",
) -> Figure:
    """Draws counts of decisions by diagnosis, shaded by their share of the diagnosis.

    Args:
      path: PNG file to write; the SVG goes beside it.
      targets: [n] bool or integers, number of each image's class.
      decisions: [n] bool or integers, number of the class that it is given.
      names: [classes] name of each class, at least two.
      what: what a class is called.

    Raises:
      ValueError: there are no images or fewer than two classes, shapes differ, or a number is not of a class.
    """
    targets, decisions = np.asarray(targets), np.asarray(decisions)
    if targets.ndim != 1 or targets.shape != decisions.shape or not targets.size or len(names) < 2:
        shapes = f"targets {targets.shape}, decisions {decisions.shape}, {len(names)} names"
        raise ValueError(f"{shapes}: must be of one shape, (n,), of at least one image and two classes")
    classes = np.arange(len(names))
    strange = np.setdiff1d([targets, decisions], classes)
    if strange.size:
        raise ValueError(f"targets or decisions hold {strange[0]}: must be whole numbers from 0 to {len(names) - 1}")
    counts = sk_metrics.confusion_matrix(targets.astype(int), decisions.astype(int), labels=classes)
    images = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(images, 1)
    side = max(style.SQUARE[0], 1.6 + 0.58 * len(names))
    figure = style.drawing(side, 0.95 * side)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    many = len(names) > 3
    for row, column in np.ndindex(counts.shape):
        text = f"{counts[row, column]:,}\n{100 * shares[row, column]:.{0 if many else 1}f} %"
        axes.text(
            column,
            row,
            text if images[row] else "–",
            ha="center",
            va="center",
            fontsize=9.5 if many else 13,
            color="white" if shares[row, column] > 0.5 else style.INK,
            linespacing=1.3,
        )
    titles = [name if what == "class" else name[:1].upper() + name[1:] for name in names]
    axes.set_xticks(
        classes, titles, rotation=35 if many else 0, ha="right" if many else "center", rotation_mode="anchor"
    )
    axes.set_yticks(classes, titles, rotation=0 if many else 90, va="center")
    axes.set(xlabel="Called by the model", ylabel=what.capitalize())
    axes.set_title(f"Decisions (share of the {what})", fontsize=11, color=style.INK)
    axes.tick_params(length=0, labelsize=9, colors=style.INK)
    axes.spines[:].set_visible(False)
    return style.save_drawing(figure, path)


def probability_histogram(
    path: Path, labels: np.ndarray, probabilities: np.ndarray, threshold: float, names: tuple[str, str] = style.SIDES
) -> Figure:
    """Draws how the probabilities of each class are spread, as shares of the class, with the threshold.

    Args:
      path: PNG file to write; the SVG goes beside it.
      labels: [n] 0 benign, 1 malignant; both present.
      probabilities: [n] of malignancy, in [0, 1].
      threshold: probability from which an image is called malignant.
      names: names of labels 0 and 1.

    Raises:
      ValueError: as `classification.check`.
    """
    labels, probabilities = classification.check(labels, probabilities)
    figure, axes = style.single("Probabilities by diagnosis", f"Probability of '{names[1]}'", "Share of the class")
    bins = np.linspace(0, 1, 26)
    for name, members, colour, fill in (
        (names[0], ~labels, style.BLUE, 0.35),
        (names[1], labels, style.VERMILLION, 0.0),
    ):
        share = np.histogram(probabilities[members], bins)[0] / members.sum()
        label = f"{name[:1].upper() + name[1:]} (n = {members.sum():,})"
        axes.stairs(share, bins, fill=True, color=colour, alpha=fill)
        axes.stairs(share, bins, color=colour, linewidth=1.6, label=label)
    axes.axvline(threshold, color=style.INK, linewidth=1, linestyle="--", label=f"Threshold {threshold:.3f}")
    axes.set_xlim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    style.legend(axes, "best")
    return style.save_drawing(figure, path)


def reliability_diagram(path: Path, curves: Sequence[Reliability], words: tuple[str, str] = MALIGNANT) -> Figure:
    """Draws observed shares against probabilities, before and after calibration, over a histogram of probabilities.

    Args:
      path: PNG file to write; the SVG goes beside it.
      curves: one or two: before calibration, and after it.
      words: what the observed shares and the probabilities are called.

    Raises:
      ValueError: another number of curves, bins of different numbers, or no probabilities.
    """
    if len(curves) not in (1, 2):
        raise ValueError(f"{len(curves)} curves: must be one or two")
    for curve in curves:
        shapes = [np.shape(values) for values in (curve.mean, curve.share, curve.low, curve.high)]
        if len(set(shapes)) > 1 or len(shapes[0]) != 1 or not np.size(curve.probabilities):
            raise ValueError(f"curve {curve.name!r}: shapes {shapes}: must all be (bins,), with probabilities")
    figure = style.drawing(4.4, 5.2)
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    style.dress(axes, "Reliability", "", words[0])
    style.dress(below, "", words[1], "Images")
    axes.plot([0, 1], [0, 1], color=style.INK, linewidth=1, linestyle=":", label="Perfect calibration")
    looks = ((style.VERMILLION, "--", "s"), (style.BLUE, "-", "o"))
    for curve, (colour, line, marker) in zip(curves, looks[-len(curves) :], strict=True):
        whiskers = np.maximum([curve.share - curve.low, curve.high - curve.share], 0)
        axes.errorbar(
            curve.mean,
            curve.share,
            whiskers,
            color=colour,
            linestyle=line,
            linewidth=1.5,
            marker=marker,
            markersize=4.5,
            elinewidth=1,
            capsize=2.5,
            label=curve.name,
        )
        counts, edges = np.histogram(curve.probabilities, np.linspace(0, 1, 26))
        below.stairs(counts, edges, color=colour, linestyle=line, linewidth=1.3)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    style.legend(axes, "upper left")
    return style.save_drawing(figure, path)
