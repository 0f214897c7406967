"""The metrics of `classification` and of `segmentation` for weighted images, many weightings at once.

A whole weight counts an image so many times: the metrics are those of the images repeated. That is what `bootstrap`
asks for, without sorting or copying anything per resample.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from segfusion_jax.evaluation import arrays, classification, segmentation

Statistic = Callable[[np.ndarray], np.ndarray]
"""Weights [resamples, n] float64, at least 0, to values [resamples], NaN where the metric is undefined."""
Formula = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""True positives, false positives, false negatives, true negatives, each [resamples], to values [resamples]."""


def mean(values: np.ndarray) -> Statistic:
    """Returns the mean of per-image values [n], such as Dice; images whose value is NaN do not count."""
    values = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(values)
    columns = np.stack([np.where(known, values, 0.0), known], axis=1)

    def statistic(weights: np.ndarray) -> np.ndarray:
        total, counted = (weights @ columns).T
        return _ratio(total, counted, np.nan)

    return statistic


def roc_auc(labels: np.ndarray, probabilities: np.ndarray) -> Statistic:
    """Returns the area under the ROC curve; tied scores count one half.

    Args:
      labels: as in `arrays.binary`.
      probabilities: as in `arrays.binary`.

    Raises:
      ValueError: as `arrays.binary`.
    """
    follow = _roc_curve(*arrays.binary(labels, probabilities))

    def statistic(weights: np.ndarray) -> np.ndarray:
        hits, above, upto, benign = follow(weights)
        area = np.einsum("rs,rs->r", np.diff(hits), benign[:, None] - (above + upto) / 2)
        return _ratio(area, hits[:, -1] * benign, np.nan)

    return statistic


def average_precision(labels: np.ndarray, probabilities: np.ndarray) -> Statistic:
    """Returns the area under the precision-recall curve, without interpolation, as scikit-learn's average precision.

    Args:
      labels: as in `arrays.binary`.
      probabilities: as in `arrays.binary`.

    Raises:
      ValueError: as `arrays.binary`.
    """
    follow = _roc_curve(*arrays.binary(labels, probabilities))

    def statistic(weights: np.ndarray) -> np.ndarray:
        hits, _, alarms, benign = follow(weights)
        precision = _ratio(hits[:, 1:], hits[:, 1:] + alarms, 0.0)
        area = np.einsum("rs,rs->r", np.diff(hits), precision)
        return _ratio(area, np.where(benign > 0, hits[:, -1], 0.0), np.nan)

    return statistic


def partial_auc(
    labels: np.ndarray, probabilities: np.ndarray, min_sensitivity: float = classification.MIN_SENSITIVITY
) -> Statistic:
    """Returns the area of `classification.partial_auc`.

    Args:
      labels: as in `arrays.binary`.
      probabilities: as in `arrays.binary`.
      min_sensitivity: sensitivity above which the area counts, in [0, 1).

    Raises:
      ValueError: as `arrays.binary`, or `min_sensitivity` outside [0, 1).
    """
    if not 0 <= min_sensitivity < 1:
        raise ValueError(f"min_sensitivity = {min_sensitivity}: must be in [0, 1)")
    follow = _roc_curve(*arrays.binary(labels, probabilities))

    def statistic(weights: np.ndarray) -> np.ndarray:
        hits, above, upto, benign = follow(weights)
        least = min_sensitivity * hits[:, -1:]
        counted = np.diff(np.maximum(hits, least))  # the upper part of each step
        share = _ratio(counted, np.diff(hits), 0.0)
        area = np.einsum("rs,rs->r", counted, benign[:, None] - upto + share * (upto - above) / 2)
        return _ratio(area, hits[:, -1] * benign, np.nan)

    return statistic


def classification_statistics(labels: np.ndarray, probabilities: np.ndarray, threshold: float) -> dict[str, Statistic]:
    """Returns the metrics of `classification.metrics` but `ece`, `threshold` and `n`, under the same names.

    What needs only the images of one class, or no class, is defined without the other. `ece` is a sum of magnitudes:
    the noise of a resample adds to it, so that its percentiles lie too high, often above the value itself. See
    `calibration.calibrated_ece` instead.

    Raises:
      ValueError: as `arrays.binary`.
    """
    labels, probabilities = arrays.binary(labels, probabilities)
    decisions = probabilities >= threshold
    likelihood = np.clip(np.where(labels, probabilities, 1 - probabilities), np.finfo(np.float64).eps, 1)
    sensitivity, specificity = _shares_found(labels, decisions)
    return {
        "accuracy": mean(decisions == labels),
        "precision": _of_counts(labels, decisions, lambda tp, fp, fn, tn: _ratio(tp, tp + fp, 0.0)),
        "recall": sensitivity,
        "f1": _of_counts(labels, decisions, lambda tp, fp, fn, tn: _ratio(2 * tp, 2 * tp + fp + fn, 0.0)),
        "mcc": _of_counts(labels, decisions, _matthews),
        "roc_auc": roc_auc(labels, probabilities),
        "pr_auc": average_precision(labels, probabilities),
        "partial_auc": partial_auc(labels, probabilities),
        "balanced_accuracy": lambda weights: (sensitivity(weights) + specificity(weights)) / 2,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "brier": mean((probabilities - labels) ** 2),
        "log_loss": mean(-np.log(likelihood)),
        "prevalence": mean(labels),
    }


def operating_statistics(labels: np.ndarray, probabilities: np.ndarray, threshold: float) -> dict[str, Statistic]:
    """Returns the metrics of `classification.operating_point`, under the same names.

    Raises:
      ValueError: as `arrays.binary`.
    """
    labels, probabilities = arrays.binary(labels, probabilities)
    decisions = probabilities >= threshold
    sensitivity, specificity = _shares_found(labels, decisions)
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "ppv": _of_counts(labels, decisions, lambda tp, fp, fn, tn: _ratio(tp, tp + fp, 0.0)),
        "npv": _of_counts(labels, decisions, lambda tp, fp, fn, tn: _ratio(tn, tn + fn, 0.0)),
    }


def multiclass_statistics(targets: np.ndarray, probabilities: np.ndarray) -> dict[str, Statistic]:
    """Returns the metrics of `classification.multiclass_metrics` but `n`, under the same names.

    As there, classes without weight do not count; with fewer than two others, all but `accuracy` are undefined.

    Raises:
      ValueError: as `arrays.multiclass`.
    """
    targets, probabilities = arrays.multiclass(targets, probabilities)
    right = probabilities.argmax(axis=1) == targets
    present = np.unique(targets)
    recalls = [mean(np.where(targets == number, right, np.nan)) for number in present]
    areas = [roc_auc(targets == number, probabilities[:, number]) for number in present]
    return {"balanced_accuracy": _macro(recalls), "macro_roc_auc": _macro(areas), "accuracy": mean(right)}


def segmentation_statistics(per_image: Sequence[Mapping[str, float]]) -> dict[str, Statistic]:
    """Returns the mean of each metric over images, and from `jaccard` the shares `failure_rate` and `zero_rate`.

    Args:
      per_image: metric to value, the same metrics for each image, `jaccard` among them; NaN where one is undefined.
    """
    return {name: mean(values) for name, values in segmentation.columns(per_image).items()}


def _ratio(numerator: np.ndarray, denominator: np.ndarray, empty: float) -> np.ndarray:
    """Returns the quotient; `empty` where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full_like(denominator, empty), where=denominator > 0)


def _cumulated(values: np.ndarray) -> np.ndarray:
    """Sums over no column, over the first, over the first two and so on, [resamples, columns + 1]."""
    sums = np.zeros((len(values), values.shape[1] + 1))
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums


def _roc_curve(labels: np.ndarray, probabilities: np.ndarray) -> Callable[[np.ndarray], tuple[np.ndarray, ...]]:
    """Follows the curve down the distinct scores of malignant images; where it only moves sideways nothing is counted.

    Returns:
      A function of weights. It gives the weight of the malignant images called before the first score, after the first
      and so on, [resamples, scores + 1]; of the benign images above each score, [resamples, scores]; of those above or
      at it; and of all benign images, [resamples].
    """
    falling = np.argsort(-probabilities)
    malignant, benign = falling[labels[falling]], falling[~labels[falling]]
    scores, starts = np.unique(-probabilities[malignant], return_index=True)
    ends = np.append(starts, malignant.size)
    above, upto = (np.searchsorted(-probabilities[benign], scores, side) for side in ("left", "right"))

    def follow(weights: np.ndarray) -> tuple[np.ndarray, ...]:
        if weights.shape[1] != labels.size:
            raise ValueError(f"weights {weights.shape}: must be (resamples, {labels.size}), a column an image")
        hits, alarms = _cumulated(weights[:, malignant]), _cumulated(weights[:, benign])
        return hits[:, ends], alarms[:, above], alarms[:, upto], alarms[:, -1]

    return follow


def _shares_found(labels: np.ndarray, decisions: np.ndarray) -> tuple[Statistic, Statistic]:
    """Returns sensitivity and specificity, each a mean over the images of its class."""
    return mean(np.where(labels, decisions, np.nan)), mean(np.where(labels, np.nan, ~decisions))


def _of_counts(labels: np.ndarray, decisions: np.ndarray, formula: Formula) -> Statistic:
    """Returns a formula of the table of decisions, undefined unless both classes have weight."""
    cells = np.stack([labels & decisions, ~labels & decisions, labels & ~decisions, ~labels & ~decisions], axis=1)
    cells = cells.astype(np.float64)

    def statistic(weights: np.ndarray) -> np.ndarray:
        tp, fp, fn, tn = (weights @ cells).T
        return np.where((tp + fn > 0) & (fp + tn > 0), formula(tp, fp, fn, tn), np.nan)

    return statistic


def _matthews(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, tn: np.ndarray) -> np.ndarray:
    return _ratio(tp * tn - fp * fn, np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)), 0.0)


def _macro(of_classes: Sequence[Statistic]) -> Statistic:
    """Returns the mean over the classes that have weight, undefined for fewer than two."""

    def statistic(weights: np.ndarray) -> np.ndarray:
        values = np.stack([of_class(weights) for of_class in of_classes])
        known = (~np.isnan(values)).sum(axis=0)
        return _ratio(np.nansum(values, axis=0), np.where(known > 1, known, 0.0), np.nan)

    return statistic
