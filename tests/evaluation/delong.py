"""DeLong's variance of the area under the ROC curve, of one model and of two on the same images.

E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, Biometrics 44 (1988), in the form of X. Sun and W. Xu, IEEE Signal
Processing Letters 21 (2014), which needs only ranks: O(n log n). It takes images as independent, so that it is a check
of `bootstrap`, which takes groups, and not a replacement.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import special, stats

from segfusion_jax.evaluation import classification

_Z = float(stats.norm.ppf(0.975))


class Comparison(NamedTuple):
    """The areas under two ROC curves of the same images.

    Attributes:
      difference: area of the first less that of the second.
      low: lower end of the difference's 95 % interval.
      high: its upper end.
      p_value: two-sided, of the hypothesis that the areas are equal.
    """

    difference: float
    low: float
    high: float
    p_value: float


def auc_variance(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The variance of the area under the ROC curve.

    Args:
      labels: as in `classification.check`, at least two images of each class.
      probabilities: as in `classification.check`.

    Raises:
      ValueError: as `classification.check`, or a class with fewer than two images.
    """
    return float(_areas(labels, probabilities)[1][0, 0])


def interval(labels: np.ndarray, probabilities: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the area, symmetric in its logit, so that it stays within 0 and 1.

    Where the area is 0 or 1 the variance is 0, and both ends are the area: such data do not tell.

    Args:
      labels: as in `auc_variance`.
      probabilities: as in `auc_variance`.

    Raises:
      ValueError: as `auc_variance`.
    """
    (area,), covariance = _areas(labels, probabilities)
    if area in (0, 1):
        return float(area), float(area)
    half = _Z * math.sqrt(covariance[0, 0]) / (area * (1 - area))  # the logit's derivative is 1 / (a (1 - a))
    low, high = special.expit(special.logit(area) + np.array([-half, half]))
    return float(low), float(high)


def compare(labels: np.ndarray, a: np.ndarray, b: np.ndarray) -> Comparison:
    """The difference of two models' areas on the same images.

    Where the variance of the difference is 0 (equal rankings, or two that are perfect) the interval has no width, and
    the p-value is 1 for equal areas and 0 for others.

    Args:
      labels: as in `auc_variance`.
      a: probabilities of one model, as in `auc_variance`.
      b: those of the other.

    Raises:
      ValueError: as `auc_variance`.
    """
    areas, covariance = _areas(labels, a, b)
    difference = float(areas[0] - areas[1])
    error = math.sqrt(max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0.0))
    p_value = 2 * stats.norm.sf(abs(difference) / error) if error else float(difference == 0)
    return Comparison(difference, difference - _Z * error, difference + _Z * error, float(p_value))


def _areas(labels: np.ndarray, *models: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The areas, [models], and their covariance, [models, models]."""
    of_malignant, of_benign = zip(*(_placements(labels, probabilities) for probabilities in models), strict=True)
    counts = len(of_malignant[0]), len(of_benign[0])
    if min(counts) < 2:
        raise ValueError(f"{counts[0]} malignant and {counts[1]} benign images: a variance needs 2 of each")
    covariance = np.cov(of_malignant) / counts[0] + np.cov(of_benign) / counts[1]
    return np.mean(of_malignant, axis=1), np.atleast_2d(covariance)


def _placements(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each malignant image the share of benign ones below it, for each benign one that of malignant ones above.

    Ties count one half, as middle ranks do: an image's rank among all less its rank in its own class is the number of
    images of the other class below it.
    """
    labels, probabilities = classification.check(labels, probabilities)
    ranks = stats.rankdata(probabilities)
    malignant, benign = probabilities[labels], probabilities[~labels]
    below = (ranks[labels] - stats.rankdata(malignant)) / benign.size
    above = 1 - (ranks[~labels] - stats.rankdata(benign)) / malignant.size
    return below, above
