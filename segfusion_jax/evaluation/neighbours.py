"""What memory alone can do: an image gets the label of the most similar one that is known."""

from typing import NamedTuple

import numpy as np

from segfusion_jax.evaluation import arrays

_ROWS = 1024  # images whose distances to all known ones are held at once


class Recalled(NamedTuple):
    """What the nearest of the known images say.

    Attributes:
      nearest: [n] int, which known image is nearest; of equally near ones the first.
      probabilities: [n] float64, b / (b + m) of the distances b and m to the nearest benign and the nearest malignant
        one; 1/2 where both are 0. At least 1/2 where the nearest of all is malignant.
    """

    nearest: np.ndarray
    probabilities: np.ndarray


def recall(known: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> Recalled:
    """Returns the nearest of the known images to each that is asked for, by Euclidean distance, and its label's weight.

    >>> recall(np.array([[0.0], [4.0]]), np.array([0, 1]), np.array([[1.0], [4.0]])).probabilities
    array([0.25, 1.  ])

    Args:
      known: [k, features] of the known images.
      labels: [k], 0 benign, 1 malignant; both must be among them.
      asked: [n, features] of the others.

    Raises:
      ValueError: labels that are not such, or as many as there are known images; or features of unequal numbers.
    """
    labels, known = np.asarray(labels), np.asarray(known, np.float64)
    asked = np.asarray(asked, np.float64)
    arrays.binary(labels, np.zeros(labels.shape))
    if labels.all() or not labels.any():
        raise ValueError(f"all {labels.size} known images are of one class: there must be both")
    if known.ndim != 2 or asked.ndim != 2 or known.shape[1] != asked.shape[1] or len(known) != labels.size:
        raise ValueError(
            f"known {known.shape}, labels {labels.shape}, asked {asked.shape}: must be [k, f], [k], [n, f]"
        )
    parts = [_recall(known, labels.astype(bool), asked[start : start + _ROWS]) for start in range(0, len(asked), _ROWS)]
    nearest, probabilities = zip(*parts, strict=True) if parts else ((np.zeros(0, int),), (np.zeros(0),))
    return Recalled(np.concatenate(nearest), np.concatenate(probabilities))


def _recall(known: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    squares = (known**2).sum(1) + (asked**2).sum(1)[:, None] - 2 * asked @ known.T
    distances = np.sqrt(np.maximum(squares, 0))
    benign, malignant = distances[:, ~labels].min(1), distances[:, labels].min(1)
    total = benign + malignant
    return distances.argmin(1), np.divide(benign, total, out=np.full_like(total, 0.5), where=total > 0)
