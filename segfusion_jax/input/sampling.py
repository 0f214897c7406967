"""Which example comes when: endless orders of indices whose i-th is a function of the seed and i."""

import dataclasses
from collections.abc import Sequence

import grain
import numpy as np


def shuffled(count: int, seed: int) -> grain.MapDataset:
    """Passes over all examples, each in a new order."""
    return grain.MapDataset.range(count).seed(seed).shuffle().repeat()


def weighted(weights: Sequence[float] | np.ndarray, seed: int) -> grain.MapDataset:
    """Examples drawn with replacement, each in proportion to its weight; an example of weight 0 never.

    Raises:
      ValueError: a weight is negative or not finite, or all are 0.
    """
    array = np.asarray(weights, np.float64)
    for index in np.flatnonzero(~(np.isfinite(array) & (array >= 0)))[:1]:
        raise ValueError(f"weights[{index}] = {array[index]}: must be finite and not negative")
    if not array.any():
        raise ValueError(f"all {len(array)} weights are 0: at least one must be positive")
    return grain.MapDataset.range(1).seed(seed).repeat().random_map(_Drawn(np.cumsum(array / array.max())))


def class_balanced(labels: Sequence[int] | np.ndarray) -> np.ndarray:
    """Weights with which each class of `labels` is drawn equally often in expectation: [len(labels)] float64."""
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return 1 / counts[classes]


@dataclasses.dataclass(frozen=True)
class _Drawn(grain.transforms.RandomMap):
    cumulative: np.ndarray

    def random_map(self, element: int, rng: np.random.Generator) -> int:
        """The first index whose cumulative weight exceeds the number drawn, which is below the total."""
        return int(np.searchsorted(self.cumulative, rng.random() * self.cumulative[-1], side="right"))
