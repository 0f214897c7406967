"""How frequent classes are where some labels leave several of them possible, and what makes them count alike."""

from collections.abc import Sequence

import numpy as np

_STEPS = 10_000


def class_counts(targets: Sequence[int] | np.ndarray, possible: np.ndarray) -> np.ndarray:
    """Returns the number of images of each class, float64 [classes], those of coarse labels shared out.

    They are shared out in the proportions of the result itself (expectation maximisation: Dempster, Laird and Rubin,
    J. R. Stat. Soc. B 39 (1977)), which is the most likely one if the classes of a label are as frequent among its
    images as elsewhere: what a model would learn that sees nothing of the images.

    >>> possible = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1]], bool)
    >>> class_counts(np.array([0, 0, 1, 1, 1, 2, 3, 3]), possible)  # two images are of class 1 or 2
    array([2. , 4.5, 1.5])

    Args:
      targets: [n] numbers of the images' labels, from 0.
      possible: [labels, classes] bool, the classes that each label leaves possible; the first labels are the classes.
    """
    numbers = np.bincount(np.asarray(targets, np.int64), minlength=len(possible)).astype(np.float64)
    inside = possible[numbers > 0].astype(np.float64)
    numbers = numbers[numbers > 0]
    counts = np.ones(possible.shape[1])
    for _ in range(_STEPS):
        before = counts
        counts = (numbers[:, None] * (inside * before) / (inside @ before)[:, None]).sum(axis=0)
        if np.abs(counts - before).max() <= 1e-9 * numbers.sum():
            break
    return counts


def balancing(counts: np.ndarray, possible: np.ndarray) -> np.ndarray:
    """Returns the weight of each label's images by which all classes count alike, float64 [labels].

    It is the share that its classes would have together if all were equally frequent, over the share that they have.
    Weighted so, a model that sees nothing of the images learns equal shares.

    Args:
      counts: [classes] number of images of each class, as of `class_counts`.
      possible: as in `class_counts`.
    """
    return possible.sum(axis=1) * counts.sum() / (counts.size * (possible @ counts))
