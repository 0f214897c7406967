"""Sections of metrics.json: values with their intervals over groups, of plain arrays."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from segfusion_jax.evaluation import bootstrap, calibration, weighted
from segfusion_jax.evaluation import classification as of_decisions
from segfusion_jax.evaluation import segmentation as of_masks

Section = dict[str, Any]
"""Metric to its entry, as of `bootstrap.entries`."""


def classification(
    labels: np.ndarray, probabilities: np.ndarray, groups: Sequence[Hashable], threshold: float, *, resamples: int
) -> Section:
    """Returns the metrics of `classification.metrics`, and how many groups there are.

    Args:
      labels: [n] bool, True = malignant; both classes present.
      probabilities: [n] of malignancy, in [0, 1].
      groups: [n] name of each image's group.
      threshold: probability from which an image is called malignant.
      resamples: number of resamples of the groups, for the intervals.

    Raises:
      ValueError: as `classification.metrics` and `bootstrap.entries`.
    """
    values = of_decisions.metrics(labels, probabilities, threshold)
    statistics = weighted.classification_statistics(labels, probabilities, threshold)
    section = bootstrap.entries(values, statistics, groups, resamples=resamples)
    return section | {"groups": {"value": len(set(groups))}}


def operating_point(
    labels: np.ndarray, probabilities: np.ndarray, groups: Sequence[Hashable], threshold: float, *, resamples: int
) -> Section:
    """Returns the metrics of `classification.operating_point`; arguments and errors as of `classification`."""
    values = of_decisions.operating_point(labels, probabilities, threshold)
    statistics = weighted.operating_statistics(labels, probabilities, threshold)
    return bootstrap.entries(values, statistics, groups, resamples=resamples)


def ranking(labels: np.ndarray, probabilities: np.ndarray, groups: Sequence[Hashable], *, resamples: int) -> Section:
    """Returns the metrics of `classification` that need no threshold: ROC-AUC, average precision and the prevalence."""
    section = classification(labels, probabilities, groups, 0.5, resamples=resamples)
    return {name: section[name] for name in ("roc_auc", "pr_auc", "prevalence", "n", "groups")}


def probabilities(
    targets: np.ndarray, of_classes: np.ndarray, groups: Sequence[Hashable], *, resamples: int
) -> Section:
    """Returns how right the probabilities of classes are: the log loss of the labels, and the expected calibration
    error of the most probable class, whose label is whether it is the right one.

    Args:
      targets: [n] number of each image's class.
      of_classes: [n, classes], rows sum to 1.
      groups: [n] name of each image's group.
      resamples: number of resamples of the groups, for the interval of the log loss.

    Raises:
      ValueError: as `expected_calibration_error` and `bootstrap.entries`.
    """
    of_labels = np.take_along_axis(of_classes, targets[:, None], axis=1)[:, 0]
    losses = -np.log(np.maximum(of_labels, np.finfo(np.float64).eps))
    right = of_classes.argmax(axis=1) == targets
    values = {
        "log_loss": float(losses.mean()),
        "ece": calibration.expected_calibration_error(right, of_classes.max(axis=1)),
    }
    return bootstrap.entries(values, {"log_loss": weighted.mean(losses)}, groups, resamples=resamples)


def against_the_rest(
    targets: np.ndarray,
    of_classes: np.ndarray,
    names: Sequence[str],
    groups: Sequence[Hashable],
    *,
    resamples: int,
) -> dict[str, Section]:
    """Returns how well the probability of each class ranks, by its name: `ranking` of each that some images are of and
    some are not.

    Arguments and errors are those of `diagnosis`.
    """
    there = [number for number in range(len(names)) if 0 < np.count_nonzero(targets == number) < len(targets)]
    return {
        names[number]: ranking(targets == number, of_classes[:, number], groups, resamples=resamples)
        for number in there
    }


def diagnosis(
    targets: np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str],
    shares: Sequence[float],
    groups: Sequence[Hashable],
    *,
    resamples: int,
) -> dict[str, Section]:
    """Returns the metrics of the most probable class, `diagnosis`, and `confusion`, counts of true and given classes.

    And `diagnosis_equal_shares`, of the class that would be the most probable one if all were equally frequent: of all
    decisions from these probabilities the one of the best balanced accuracy.

    Args:
      targets: [n] number of each image's class; at least two classes present.
      probabilities: [n, classes], rows sum to 1.
      names: names of the classes.
      shares: share of each class in the images for which the probabilities hold, from 0.
      groups: [n] name of each image's group.
      resamples: number of resamples of the groups, for the intervals.

    Raises:
      ValueError: as `classification.multiclass_metrics` and `bootstrap.entries`.
    """
    values = of_decisions.multiclass_metrics(targets, probabilities)
    statistics = weighted.multiclass_statistics(targets, probabilities)
    equal = calibration.of_equal_classes(probabilities, shares)
    equal_values = of_decisions.multiclass_metrics(targets, equal)
    equal_statistics = weighted.multiclass_statistics(targets, equal)
    shown = ("balanced_accuracy", "accuracy")
    counts = of_decisions.confusion_matrix(targets, probabilities.argmax(axis=1), len(names)).tolist()
    return {
        "diagnosis": bootstrap.entries(values, statistics, groups, resamples=resamples),
        "diagnosis_equal_shares": bootstrap.entries(
            {name: equal_values[name] for name in shown},
            {name: equal_statistics[name] for name in shown},
            groups,
            resamples=resamples,
        ),
        "confusion": {name: dict(zip(names, row, strict=True)) for name, row in zip(names, counts, strict=True)},
    }


def segmentation(per_image: Sequence[Mapping[str, float]], groups: Sequence[Hashable], *, resamples: int) -> Section:
    """Returns the means of `segmentation.summarise`, and how many groups there are.

    Args:
      per_image: what `segmentation.score` returned for each of n images, at least one.
      groups: [n] name of each image's group.
      resamples: number of resamples of the groups, for the intervals.

    Raises:
      ValueError: as `segmentation.summarise` and `bootstrap.entries`.
    """
    values, statistics = of_masks.summarise(per_image), weighted.segmentation_statistics(per_image)
    section = bootstrap.entries(values, statistics, groups, resamples=resamples)
    return section | {"groups": {"value": len(set(groups))}}
