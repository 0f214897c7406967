"""95 % confidence intervals by drawing groups (lesions, patients) with replacement.

A resample is a vector of weights: how often each image's group was drawn. A statistic maps it to a number, so that
nothing is sorted or copied a thousand times, and the difference of two models is `lambda w: a(w) - b(w)`.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
from absl import logging

from segfusion_jax.evaluation import classification, segmentation

Statistic = Callable[[np.ndarray], float]  # weights [n], whole numbers >= 0 -> value, NaN where it is undefined
Formula = Callable[
    [float, float, float, float], float
]  # true positives, false positives, false negatives, true negatives


def interval(
    statistic: Statistic, groups: Sequence[Hashable], *, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """The 95 % percentile interval of `statistic` over resamples of whole groups.

    Equal `seed`, `groups` and `resamples` give equal draws. Resamples in which the statistic is undefined (one class
    only) are left out, and their number is logged.

    Args:
      statistic: value of the metric for weights [n]; the functions below make them.
      groups: [n] name of each image's group, all of one type.
      resamples: number of draws.
      seed: of the draws.

    Returns:
      The 2.5th and the 97.5th percentile.

    Raises:
      ValueError: fewer than two groups, no resamples, a statistic of another number of images, or a statistic that is
        undefined in every resample.
    """
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    if names.size < 2:
        raise ValueError(f"groups hold {names.size} distinct name(s): resampling needs at least 2")
    if resamples < 1:
        raise ValueError(f"resamples = {resamples}: must be at least 1")
    generator = np.random.default_rng(seed)
    draws = (
        np.bincount(generator.integers(names.size, size=names.size), minlength=names.size) for _ in range(resamples)
    )
    values = np.array([statistic(draw[index].astype(np.float64)) for draw in draws])
    defined = values[~np.isnan(values)]
    if not defined.size:
        raise ValueError(f"the statistic is undefined in all {resamples} resamples of {names.size} groups")
    if defined.size < resamples:
        logging.warning("%d of %d resamples hold one class only and were skipped", resamples - defined.size, resamples)
    low, high = np.percentile(defined, (2.5, 97.5))
    return float(low), float(high)


def mean(values: np.ndarray) -> Statistic:
    """The mean of per-image values [n], such as Dice."""
    values = np.asarray(values, dtype=np.float64)
    return lambda weights: float(weights @ values / weights.sum())


def roc_auc(labels: np.ndarray, probabilities: np.ndarray) -> Statistic:
    """Area under the ROC curve; tied scores count one half.

    Args:
      labels: as in `classification.check`.
      probabilities: as in `classification.check`.

    Raises:
      ValueError: as `classification.check`.
    """
    per_score = _weights_per_score(labels, probabilities)

    def statistic(weights: np.ndarray) -> float:
        malignant, benign = per_score(weights)
        pairs = malignant.sum() * benign.sum()
        if not pairs:
            return math.nan
        benign_below = np.cumsum(benign) - benign / 2
        return float(malignant @ benign_below / pairs)

    return statistic


def average_precision(labels: np.ndarray, probabilities: np.ndarray) -> Statistic:
    """Area under the precision-recall curve, without interpolation: scikit-learn's `average_precision_score`.

    Args:
      labels: as in `classification.check`.
      probabilities: as in `classification.check`.

    Raises:
      ValueError: as `classification.check`.
    """
    per_score = _weights_per_score(labels, probabilities)

    def statistic(weights: np.ndarray) -> float:
        malignant, benign = (per_class[::-1] for per_class in per_score(weights))
        if not malignant.any() or not benign.any():
            return math.nan
        hits = np.cumsum(malignant)
        called = hits + np.cumsum(benign)
        precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
        return float(malignant @ precision / hits[-1])

    return statistic


def macro_recall(targets: np.ndarray, decisions: np.ndarray) -> Statistic:
    """The mean over classes of the share of their images that is given the class; classes without images do not count.

    Args:
      targets: [n] numbers of the images' classes, from 0.
      decisions: [n] numbers of the classes that they are given.
    """
    hits = targets == decisions

    def statistic(weights: np.ndarray) -> float:
        images = np.bincount(targets, weights)
        found = np.bincount(targets, weights * hits)
        return float((found[images > 0] / images[images > 0]).mean())

    return statistic


def classification_statistics(labels: np.ndarray, probabilities: np.ndarray, threshold: float) -> dict[str, Statistic]:
    """The metrics of `classification.metrics` but `threshold` and `n`, under the same names.

    Raises:
      ValueError: as `classification.check`.
    """
    labels, probabilities = classification.check(labels, probabilities)
    decisions = probabilities >= threshold
    likelihood = np.clip(np.where(labels, probabilities, 1 - probabilities), np.finfo(np.float64).eps, 1)
    sensitivity = _of_counts(labels, decisions, lambda tp, fp, fn, tn: tp / (tp + fn))
    return {
        "accuracy": mean(decisions == labels),
        "precision": _of_counts(labels, decisions, lambda tp, fp, fn, tn: tp / (tp + fp) if tp + fp else 0.0),
        "recall": sensitivity,
        "f1": _of_counts(labels, decisions, lambda tp, fp, fn, tn: 2 * tp / (2 * tp + fp + fn)),
        "mcc": _of_counts(labels, decisions, _matthews),
        "roc_auc": roc_auc(labels, probabilities),
        "pr_auc": average_precision(labels, probabilities),
        "balanced_accuracy": _of_counts(
            labels, decisions, lambda tp, fp, fn, tn: (tp / (tp + fn) + tn / (tn + fp)) / 2
        ),
        "sensitivity": sensitivity,
        "specificity": _of_counts(labels, decisions, lambda tp, fp, fn, tn: tn / (tn + fp)),
        "brier": mean((probabilities - labels) ** 2),
        "log_loss": mean(-np.log(likelihood)),
        "prevalence": mean(labels),
    }


def segmentation_statistics(per_image: Sequence[Mapping[str, float]]) -> dict[str, Statistic]:
    """The metrics of `segmentation.summarise` but `n`, under the same names; `per_image` is what `overlap` returned."""
    columns = {name: np.array([scores[name] for scores in per_image]) for name in per_image[0]}
    columns["failure_rate"] = columns["jaccard"] < segmentation.FAILURE_JACCARD
    return {name: mean(values) for name, values in columns.items()}


def _weights_per_score(
    labels: np.ndarray, probabilities: np.ndarray
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Adds up the weights of the malignant and of the benign images at each distinct score, in rising order."""
    labels, probabilities = classification.check(labels, probabilities)
    scores, index = np.unique(probabilities, return_inverse=True)

    def per_score(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        malignant = np.bincount(index, weights * labels, minlength=scores.size)
        return malignant, np.bincount(index, weights, minlength=scores.size) - malignant

    return per_score


def _of_counts(labels: np.ndarray, decisions: np.ndarray, formula: Formula) -> Statistic:
    cells = np.stack([labels & decisions, ~labels & decisions, labels & ~decisions, ~labels & ~decisions])
    cells = cells.astype(np.float64)

    def statistic(weights: np.ndarray) -> float:
        tp, fp, fn, tn = (cells @ weights).tolist()
        return formula(tp, fp, fn, tn) if tp + fn and fp + tn else math.nan

    return statistic


def _matthews(tp: float, fp: float, fn: float, tn: float) -> float:
    scale = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return (tp * tn - fp * fn) / scale if scale else 0.0
