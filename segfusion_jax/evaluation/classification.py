"""Benign or malignant: thresholds, chosen on validation data, and the metrics of the decisions and the scores.

Everywhere, label 1 is malignant and an image is called malignant when its probability is at least the threshold.

>>> labels, probabilities = np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.3, 0.8])
>>> threshold = choose_threshold(labels, probabilities)  # on validation images
>>> found = metrics(labels, probabilities, threshold)  # on test images
>>> found["roc_auc"], found["sensitivity"], found["specificity"]
(0.75, 1.0, 0.5)
"""

import math
from typing import NamedTuple

import numpy as np
from sklearn import metrics as sk_metrics

from segfusion_jax.evaluation import arrays, calibration

MIN_SENSITIVITY = 0.8  # below it, ISIC 2024 does not look at the ROC curve


class PredictiveValues(NamedTuple):
    """How often a call is right.

    Attributes:
      ppv: share of malignant images among those called malignant.
      npv: share of benign images among those called benign.
    """

    ppv: float
    npv: float


def check(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of both classes.

    Args:
      labels: [n] bool or integers, 0 benign and 1 malignant, both present.
      probabilities: [n] of malignancy, in [0, 1].

    Returns:
      The labels as bool [n] and the probabilities as float64 [n].

    Raises:
      ValueError: as `arrays.binary`, or only one class is present.
    """
    labels, probabilities = arrays.binary(labels, probabilities)
    malignant = int(np.count_nonzero(labels))
    if malignant in (0, labels.size):
        raise ValueError(f"{malignant} of {labels.size} images are malignant: both classes must be present")
    return labels, probabilities


def choose_threshold(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Returns the threshold with the largest balanced accuracy (Youden's J = sensitivity + specificity - 1).

    For validation data only: a threshold chosen on the data it is judged on flatters the model. It lies half-way
    between the two neighbouring scores that it separates. Of equally good ones the lowest is taken, which misses the
    fewest malignant images; where none is better than chance it is 0, and everything is called malignant.

    Args:
      labels: as in `check`.
      probabilities: as in `check`.

    Returns:
      A threshold in [0, 1].

    Raises:
      ValueError: as `check`.
    """
    scores, malignant, benign = _below(labels, probabilities)
    # J = [benign below / benign] - [malignant below / malignant], multiplied out: whole numbers, so that ties are exact
    youden = benign * malignant[-1] - malignant * benign[-1]
    return _cut(scores, int(np.argmax(youden)))


def threshold_for_sensitivity(labels: np.ndarray, probabilities: np.ndarray, level: float) -> float:
    """Returns the largest threshold whose sensitivity is at least `level`.

    For validation data only, as `choose_threshold`, and half-way between neighbouring scores like it.

    Args:
      labels: as in `check`.
      probabilities: as in `check`.
      level: sensitivity to reach, in (0, 1].

    Returns:
      A threshold in [0, 1]; 0, which calls everything malignant, if the image with the lowest score must be called.

    Raises:
      ValueError: as `check`, or a level outside (0, 1].
    """
    _check_level(level)
    scores, malignant, _ = _below(labels, probabilities)
    reached = (malignant[-1] - malignant) / malignant[-1] >= level
    return _cut(scores, int(np.flatnonzero(reached)[-1]))


def threshold_for_specificity(labels: np.ndarray, probabilities: np.ndarray, level: float) -> float:
    """Returns the smallest threshold whose specificity is at least `level`.

    For validation data only, as `choose_threshold`, and half-way between neighbouring scores like it.

    Args:
      labels: as in `check`.
      probabilities: as in `check`.
      level: specificity to reach, in (0, 1].

    Returns:
      A threshold in [0, 1]. If not even the highest score may be called malignant, it lies half-way between that score
      and 1; if that score is 1, it is the next number above 1.

    Raises:
      ValueError: as `check`, or a level outside (0, 1].
    """
    _check_level(level)
    scores, _, benign = _below(labels, probabilities)
    return _cut(scores, int(np.argmax(benign / benign[-1] >= level)))


def operating_point(labels: np.ndarray, probabilities: np.ndarray, threshold: float) -> dict[str, float]:
    """Returns what a threshold achieves: sensitivity, specificity and predictive values.

    Args:
      labels: as in `check`.
      probabilities: as in `check`.
      threshold: probability from which an image is called malignant, at least 0; above 1, nothing is called malignant.

    Returns:
      `sensitivity`, `specificity`, `ppv` and `npv`, each in [0, 1]. `ppv` is 0 when nothing is called malignant, `npv`
      is 0 when nothing is called benign. Both hold for the prevalence of these images: see `predictive_values`.

    Raises:
      ValueError: as `check`, or the threshold is negative or not a number.
    """
    labels, probabilities = check(labels, probabilities)
    if not threshold >= 0:
        raise ValueError(f"threshold = {threshold}: must be at least 0")
    called = probabilities >= threshold
    return {
        "sensitivity": float(called[labels].mean()),
        "specificity": float(1 - called[~labels].mean()),
        "ppv": float(labels[called].mean()) if called.any() else 0.0,
        "npv": float(1 - labels[~called].mean()) if not called.all() else 0.0,
    }


def predictive_values(sensitivity: float, specificity: float, prevalence: float) -> PredictiveValues:
    """Returns predictive values where the malignant share is `prevalence`, by Bayes' theorem.

    Sensitivity and specificity are taken to be the same there, which holds if only the shares of the classes differ.
    A value is 0 where nothing is called, as in `operating_point`.

    Raises:
      ValueError: an argument is outside [0, 1].
    """
    for name, value in (("sensitivity", sensitivity), ("specificity", specificity), ("prevalence", prevalence)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} = {value}: must be in [0, 1]")
    hits, misses = sensitivity * prevalence, (1 - sensitivity) * prevalence
    alarms, rejections = (1 - specificity) * (1 - prevalence), specificity * (1 - prevalence)
    return PredictiveValues(
        ppv=hits / (hits + alarms) if hits + alarms else 0.0,
        npv=rejections / (rejections + misses) if rejections + misses else 0.0,
    )


def partial_auc(labels: np.ndarray, probabilities: np.ndarray, min_sensitivity: float = MIN_SENSITIVITY) -> float:
    """Returns the area between the ROC curve and the line sensitivity = `min_sensitivity`, the metric of ISIC 2024.

    By the challenge's definition, labels and scores are flipped and the area is taken up to a false positive rate of
    1 - `min_sensitivity`, without McClish's correction (scikit-learn's `max_fpr` applies it). That is the mean
    specificity over the sensitivities from `min_sensitivity` to 1, times 1 - `min_sensitivity`.

    Args:
      labels: as in `check`.
      probabilities: as in `check`.
      min_sensitivity: sensitivity above which the area counts, in [0, 1).

    Returns:
      The area, in [0, 1 - `min_sensitivity`]; at 0.8, chance is 0.02 and the best 0.2.

    Raises:
      ValueError: as `check`, or `min_sensitivity` outside [0, 1).
    """
    labels, probabilities = check(labels, probabilities)
    if not 0 <= min_sensitivity < 1:
        raise ValueError(f"min_sensitivity = {min_sensitivity}: must be in [0, 1)")
    misses, specificity, _ = sk_metrics.roc_curve(~labels, -probabilities)
    end = 1 - min_sensitivity
    inside = misses <= end
    heights = np.append(specificity[inside], np.interp(end, misses, specificity))
    return float(np.trapezoid(heights, np.append(misses[inside], end)))


def metrics(labels: np.ndarray, probabilities: np.ndarray, threshold: float) -> dict[str, float]:
    """Returns metrics of the decisions at `threshold` and of the probabilities themselves.

    Args:
      labels: as in `check`.
      probabilities: as in `check`.
      threshold: probability in [0, 1] from which an image is called malignant.

    Returns:
      `accuracy`, `precision` (0 when nothing is called malignant), `recall`, `f1`, `mcc` (Matthews correlation, 0 when
      all decisions agree), `roc_auc`, `pr_auc` (average precision; its chance level is the prevalence), `partial_auc`,
      `balanced_accuracy`, `sensitivity`, `specificity`, `brier`, `log_loss` (nats), `ece` (as
      `calibration.expected_calibration_error`), `prevalence`, `threshold` and `n`.

    Raises:
      ValueError: as `check`, or the threshold is outside [0, 1].
    """
    labels, probabilities = check(labels, probabilities)
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold = {threshold}: must be in [0, 1]")
    decisions = probabilities >= threshold
    sensitivity = sk_metrics.recall_score(labels, decisions)
    values = {
        "accuracy": sk_metrics.accuracy_score(labels, decisions),
        "precision": sk_metrics.precision_score(labels, decisions) if decisions.any() else 0.0,
        "recall": sensitivity,
        "f1": sk_metrics.f1_score(labels, decisions),
        "mcc": sk_metrics.matthews_corrcoef(labels, decisions),
        "roc_auc": sk_metrics.roc_auc_score(labels, probabilities),
        "pr_auc": sk_metrics.average_precision_score(labels, probabilities),
        "partial_auc": partial_auc(labels, probabilities),
        "balanced_accuracy": sk_metrics.balanced_accuracy_score(labels, decisions),
        "sensitivity": sensitivity,
        "specificity": sk_metrics.recall_score(labels, decisions, pos_label=False),
        "brier": sk_metrics.brier_score_loss(labels, probabilities),
        "log_loss": sk_metrics.log_loss(labels, probabilities),
        "ece": calibration.expected_calibration_error(labels, probabilities),
        "prevalence": labels.mean(),
        "threshold": threshold,
        "n": labels.size,
    }
    return {name: float(value) for name, value in values.items()}


def multiclass_metrics(targets: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Returns metrics of a diagnosis among several.

    Args:
      targets: [n] integers, the number of each image's class.
      probabilities: [n, classes], rows sum to 1. An image is given its most probable class, of equals the first.

    Returns:
      `balanced_accuracy` (mean recall), `macro_roc_auc` (mean over classes of one class against the rest), each over
      the classes that `targets` hold, `accuracy` and `n`.

    Raises:
      ValueError: as `arrays.multiclass`, or all images are of one class.
    """
    targets, probabilities = arrays.multiclass(targets, probabilities)
    present = np.unique(targets)
    if present.size < 2:
        raise ValueError(f"all {targets.size} images are of class {present[0]}: at least 2 classes must be present")
    right = probabilities.argmax(axis=1) == targets
    return {
        "balanced_accuracy": float(np.mean([right[targets == number].mean() for number in present])),
        "macro_roc_auc": float(
            np.mean([sk_metrics.roc_auc_score(targets == number, probabilities[:, number]) for number in present])
        ),
        "accuracy": float(right.mean()),
        "n": float(targets.size),
    }


def confusion_matrix(targets: np.ndarray, decisions: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns numbers of images, [num_classes, num_classes] integers: a row per true, a column per given class.

    Args:
      targets: [n] numbers of the images' classes, from 0.
      decisions: [n] numbers of the classes that they are given.
      num_classes: how many there are.

    Raises:
      ValueError: `targets` and `decisions` differ in length or hold what is no class.
    """
    targets, decisions = arrays.classes(targets, num_classes), arrays.classes(decisions, num_classes)
    return sk_metrics.confusion_matrix(targets, decisions, labels=range(num_classes))


def _check_level(level: float) -> None:
    if not 0 < level <= 1:
        raise ValueError(f"level = {level}: must be above 0 and at most 1")


def _below(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the distinct scores, rising, and how many malignant and benign images lie below each, then how many in
    all.
    """
    labels, probabilities = check(labels, probabilities)
    scores, index = np.unique(probabilities, return_inverse=True)
    malignant, benign = (np.bincount(index[of_class], minlength=scores.size) for of_class in (labels, ~labels))
    return scores, np.append(0, np.cumsum(malignant)), np.append(0, np.cumsum(benign))


def _cut(scores: np.ndarray, place: int) -> float:
    """Returns the threshold from which scores[place] is called malignant and scores[place - 1] is not."""
    if place == 0:
        return 0.0
    low = scores[place - 1]
    high = scores[place] if place < scores.size else max(1.0, math.nextafter(low, 2))
    middle = low + (high - low) / 2
    return float(middle if middle > low else high)  # nothing fits between neighbouring floats
