"""Intervals that hold where a bootstrap has none: of a score on few images that may be perfect."""

from collections.abc import Sequence

import numpy as np
from scipy import optimize

_Z = 1.959964


def roc_auc_interval(value: float, positives: int, negatives: int) -> tuple[float, float]:
    """Returns the 95 % interval of a ROC-AUC by the number of images alone, as if none were related.

    It is Newcombe's fifth method (Statistics in Medicine 2006, 25:559): all areas whose standard error, by Hanley and
    McNeil, does not rule `value` out. Of a perfect score it is not empty:

    >>> low, high = roc_auc_interval(1.0, 8, 8)
    >>> f"{low:.2f} to {high:.2f}"
    '0.74 to 1.00'
    """

    def excess(area: float) -> float:
        images = (positives + negatives) / 2 - 1
        shape = 1 + images * ((1 - area) / (2 - area) + area / (1 + area))
        return (value - area) ** 2 - _Z**2 * area * (1 - area) * shape / (positives * negatives)

    low = optimize.brentq(excess, 0, value) if 0 < value < 1 else value and optimize.brentq(excess, 0, 1 - 1e-9)
    high = optimize.brentq(excess, value, 1) if 0 < value < 1 else value or optimize.brentq(excess, 1e-9, 1)
    return float(low), float(high)  # pyright: ignore[reportArgumentType]


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Returns the 95 % interval of the mean of values in [0, 1] by their spread; all of it where there is but one."""
    if len(values) < 2:
        return 0.0, 1.0
    half = _Z * float(np.std(values, ddof=1)) / len(values) ** 0.5
    middle = float(np.mean(values))
    return max(0.0, middle - half), min(1.0, middle + half)
