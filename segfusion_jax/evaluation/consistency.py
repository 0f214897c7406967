"""Arithmetic that figures of one and the same test must meet, for reading what others publish."""

import math

import numpy as np


def alarm_rate(precision: float, recall: float, prevalence: float) -> float:
    """Returns 1 - specificity where precision, recall and the malignant share are these.

    Of n images n p r are found; found / precision are called, so n p r (1 - precision) / precision are false alarms.

    >>> round(alarm_rate(0.9, 0.9, 0.5), 6)
    0.1

    Raises:
      ValueError: an argument outside (0, 1].
    """
    _check(precision=precision, recall=recall, prevalence=prevalence)
    return prevalence * recall * (1 - precision) / precision / (1 - prevalence)


def accuracy(precision: float, recall: float, prevalence: float) -> float:
    """Returns the accuracy that goes with precision, recall and malignant share: 1 less misses and false alarms.

    >>> round(accuracy(0.98, 0.98, 0.5), 6)
    0.98

    Raises:
      ValueError: an argument outside (0, 1].
    """
    alarms = alarm_rate(precision, recall, prevalence)
    return 1 - prevalence * (1 - recall) - (1 - prevalence) * alarms


def largest_accuracy(balanced_accuracy: float, prevalence: float) -> float:
    """Returns the largest accuracy where no point of a ROC curve has a larger balanced accuracy than this.

    With sensitivity s, specificity t and (s + t) / 2 <= b, accuracy is (s + t) / 2 + (p - 1/2) (s - t), and |s - t| is
    at most 2 (1 - b): together b + |2 p - 1| (1 - b).

    >>> largest_accuracy(0.9, 0.5)
    0.9

    Raises:
      ValueError: an argument outside (0, 1].
    """
    _check(balanced_accuracy=balanced_accuracy, prevalence=prevalence)
    return balanced_accuracy + abs(2 * prevalence - 1) * (1 - balanced_accuracy)


def largest_mcc(accuracy: float, prevalence: float) -> float:
    """Returns the largest Matthews correlation that an accuracy allows at a malignant share.

    Of the errors e = 1 - accuracy, x are misses and e - x false alarms. The largest value over x in [0, min(e, p)] with
    e - x <= 1 - p is looked for on a grid of 100,001 places.

    >>> round(largest_mcc(0.99, 0.5), 3)
    0.98

    Raises:
      ValueError: an argument outside (0, 1].
    """
    _check(accuracy=accuracy, prevalence=prevalence)
    errors, rest = 1 - accuracy, 1 - prevalence
    misses = np.linspace(max(0.0, errors - rest), min(errors, prevalence), 100_001)
    alarms = errors - misses
    hits, passes = prevalence - misses, rest - alarms
    below = np.sqrt((hits + alarms) * prevalence * rest * (passes + misses))
    values = np.divide(hits * passes - alarms * misses, below, out=np.zeros_like(below), where=below > 1e-12)
    return float(values.max())


def _check(**shares: float) -> None:
    for name, value in shares.items():
        if not 0 < value <= 1 or math.isnan(value):
            raise ValueError(f"{name} = {value}: must be above 0 and at most 1")
