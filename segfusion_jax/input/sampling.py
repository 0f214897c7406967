"""Which example comes when: endless orders of indices whose i-th is a function of the seed and i."""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from segfusion_jax.evaluation.shares import class_counts

Order = Callable[[np.ndarray], np.ndarray]
"""Places [n] in the order, from 0, to indices [n] of examples. Can be sent to other processes."""

_BLOCK = 4096  # numbers that are drawn at a time


def shuffled(count: int, seed: int) -> Order:
    """Returns the order of passes over all examples, each pass in a new order."""
    return functools.partial(_shuffled, count, seed)


def weighted(weights: Sequence[float] | np.ndarray, seed: int) -> Order:
    """Returns an order of examples drawn with replacement, each in proportion to its weight; of weight 0 never.

    Raises:
      ValueError: a weight is negative or not finite, or all are 0.
    """
    array = np.asarray(weights, np.float64)
    for index in np.flatnonzero(~(np.isfinite(array) & (array >= 0)))[:1]:
        raise ValueError(f"weights[{index}] = {array[index]}: must be finite and not negative")
    if not array.any():
        raise ValueError(f"all {len(array)} weights are 0: at least one must be positive")
    return functools.partial(_weighted, np.cumsum(array / array.max()), seed)


def class_balanced(labels: Sequence[int] | np.ndarray, possible: np.ndarray | None = None) -> np.ndarray:
    """Returns weights, [len(labels)] float64, with which each class is drawn equally often in expectation.

    Args:
      labels: numbers of classes or of coarse labels.
      possible: as in `shares.class_counts`, where some are coarse; None: each label is a class.
    """
    if possible is not None:
        return (possible.sum(axis=1) / (possible @ class_counts(labels, possible)))[labels]
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return 1 / counts[classes]


def shared(labels: Sequence[str]) -> np.ndarray:
    """Returns weights, [len(labels)] float64, with which each label is drawn equally often in expectation.

    >>> shared(["a", "b", "b"]).tolist()
    [1.0, 0.5, 0.5]
    """
    _, which, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return 1 / counts[which]


def within(weights: np.ndarray, shares: np.ndarray, labels: Sequence[int] | np.ndarray) -> np.ndarray:
    """Returns `shares`, [n], scaled so that those of each label have the sum that its `weights`, [n], have."""
    which = np.unique(labels, return_inverse=True)[1]
    return shares * (np.bincount(which, weights) / np.bincount(which, shares))[which]


def _shuffled(count: int, seed: int, places: np.ndarray) -> np.ndarray:
    return _gathered(functools.partial(_permutation, count, seed), count, places)


def _weighted(cumulative: np.ndarray, seed: int, places: np.ndarray) -> np.ndarray:
    """Returns the first index whose cumulative weight exceeds the number drawn, which is below the total."""
    drawn = _gathered(functools.partial(_uniform, seed), _BLOCK, places) * cumulative[-1]
    return np.searchsorted(cumulative, drawn, side="right")


def _gathered(block: Callable[[int], np.ndarray], size: int, places: np.ndarray) -> np.ndarray:
    """Returns what stands at `places` in the endless row of blocks of `size`."""
    numbers, offsets = np.divmod(places, size)
    found = {number: block(number) for number in np.unique(numbers).tolist()}
    return np.array([found[number][offset] for number, offset in zip(numbers.tolist(), offsets.tolist(), strict=True)])


@functools.lru_cache(maxsize=8)
def _permutation(count: int, seed: int, number: int) -> np.ndarray:
    return np.random.default_rng((seed, 0, number)).permutation(count)


@functools.lru_cache(maxsize=8)
def _uniform(seed: int, number: int) -> np.ndarray:
    return np.random.default_rng((seed, 0, number)).random(_BLOCK)
