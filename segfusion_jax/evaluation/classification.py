"""Benign or malignant: the threshold, chosen on validation data, and the metrics of the decisions and the scores.

Everywhere, label 1 is malignant and an image is called malignant when its probability is at least the threshold.
"""

import numpy as np
from sklearn import metrics as sk_metrics


def check(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities that can be scored.

    Args:
      labels: [n] bool or integers, 0 benign and 1 malignant, both present.
      probabilities: [n] of malignancy, in [0, 1].

    Returns:
      The labels as bool [n] and the probabilities as float64 [n].

    Raises:
      ValueError: shapes differ, a label is neither 0 nor 1, only one class is present, or a probability is not a number
        in [0, 1].
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if labels.ndim != 1 or labels.shape != probabilities.shape:
        raise ValueError(f"labels {labels.shape} and probabilities {probabilities.shape}: must be of one shape, (n,)")
    strange = labels[~np.isin(labels, (0, 1))]
    if strange.size:
        raise ValueError(f"labels hold {strange[0]!r}: must be 0 (benign) or 1 (malignant)")
    malignant = int(np.count_nonzero(labels))
    if malignant in (0, labels.size):
        raise ValueError(f"{malignant} of {labels.size} images are malignant: both classes must be present")
    strange = probabilities[~((probabilities >= 0) & (probabilities <= 1))]  # true for NaN too
    if strange.size:
        raise ValueError(f"probabilities hold {strange[0]}: must be in [0, 1]")
    return labels.astype(bool), probabilities


def choose_threshold(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The threshold with the largest balanced accuracy (Youden's J = sensitivity + specificity - 1).

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
    labels, probabilities = check(labels, probabilities)
    scores, index = np.unique(probabilities, return_inverse=True)
    malignant = np.bincount(index, labels)
    benign = np.bincount(index, ~labels)
    # J = [benign below / benign] - [malignant below / malignant], multiplied out: whole numbers, so that ties are exact
    youden = np.cumsum(benign) * malignant.sum() - np.cumsum(malignant) * benign.sum()
    best = int(np.argmax(youden))
    if youden[best] <= 0:
        return 0.0
    low, high = scores[best], scores[best + 1]
    middle = low + (high - low) / 2
    return float(middle if middle > low else high)  # nothing fits between neighbouring floats


def metrics(labels: np.ndarray, probabilities: np.ndarray, threshold: float) -> dict[str, float]:
    """Metrics of the decisions at `threshold` and of the probabilities themselves.

    Args:
      labels: as in `check`.
      probabilities: as in `check`.
      threshold: probability in [0, 1] from which an image is called malignant.

    Returns:
      `accuracy`, `precision` (0 when nothing is called malignant), `recall`, `f1`, `mcc` (Matthews correlation, 0 when
      all decisions agree), `roc_auc`, `pr_auc` (average precision; its chance level is the prevalence),
      `balanced_accuracy`, `sensitivity`, `specificity`, `brier`, `log_loss` (nats), `prevalence`, `threshold` and `n`.

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
        "balanced_accuracy": sk_metrics.balanced_accuracy_score(labels, decisions),
        "sensitivity": sensitivity,
        "specificity": sk_metrics.recall_score(labels, decisions, pos_label=False),
        "brier": sk_metrics.brier_score_loss(labels, probabilities),
        "log_loss": sk_metrics.log_loss(labels, probabilities),
        "prevalence": labels.mean(),
        "threshold": threshold,
        "n": labels.size,
    }
    return {name: float(value) for name, value in values.items()}
