"""95 % confidence intervals by drawing groups (lesions, patients) with replacement.

A resample is a row of weights: how often each image's group was drawn. A statistic (see `weighted`) maps many rows to
as many numbers, so that nothing is sorted or copied a thousand times and all statistics share the same draws.

>>> from segfusion_jax.evaluation import weighted
>>> labels, probabilities = np.array([0, 0, 1, 0, 1, 1]), np.array([0.1, 0.4, 0.3, 0.2, 0.8, 0.7])
>>> low, high, undefined = interval(weighted.roc_auc(labels, probabilities), groups=["a", "b", "c", "d", "e", "f"])
>>> print(f"{low:.2f} to {high:.2f}, undefined in {undefined} of 2,000 resamples")
0.50 to 1.00, undefined in 57 of 2,000 resamples
"""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from segfusion_jax.evaluation import arrays
from segfusion_jax.evaluation.weighted import Statistic

CHUNK = 2**18  # weights drawn at once, at 8 bytes: they stay in the processor's cache


class Interval(NamedTuple):
    """A 95 % percentile interval.

    Attributes:
      low: the 2.5th percentile of the statistic over the resamples in which it is defined; NaN if there are none.
      high: the 97.5th percentile.
      undefined: number of the other resamples, such as those without a malignant image.
    """

    low: float
    high: float
    undefined: int


def draws(groups: Sequence[Hashable], resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yields how often each image's group was drawn, in parts: float64 [up to CHUNK / n, n], `resamples` rows in all.

    How they are cut does not change the draws.

    Raises:
      ValueError: fewer than two groups, a missing name, or no resamples.
    """
    names, index = np.unique(np.asarray(arrays.named(groups)), return_inverse=True)
    if names.size < 2:
        raise ValueError(f"groups hold {names.size} distinct name(s): resampling needs at least 2")
    if resamples < 1:
        raise ValueError(f"resamples = {resamples}: must be at least 1")
    generator = np.random.default_rng(seed)
    step = max(1, CHUNK // index.size)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = generator.integers(names.size, size=(rows, names.size)) + names.size * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * names.size).reshape(rows, names.size)
        yield counts[:, index].astype(np.float64)


def interval(statistic: Statistic, groups: Sequence[Hashable], *, resamples: int = 2000, seed: int = 0) -> Interval:
    """Returns the interval of one statistic: see `intervals`."""
    return intervals({"": statistic}, groups, resamples=resamples, seed=seed)[""]


def intervals(
    statistics: Mapping[str, Statistic], groups: Sequence[Hashable], *, resamples: int = 2000, seed: int = 0
) -> dict[str, Interval]:
    """Returns intervals of `statistics` over resamples of whole groups, the same resamples for all.

    Equal `groups`, `resamples` and `seed` give equal draws.

    Args:
      statistics: name to statistic.
      groups: [n] name of each image's group, all of one type.
      resamples: number of draws.
      seed: seed of the draws.

    Raises:
      ValueError: fewer than two groups, no resamples, or a statistic of another number of images.
    """
    parts = [[statistic(weights) for statistic in statistics.values()] for weights in draws(groups, resamples, seed)]
    values = (np.concatenate(part) for part in zip(*parts, strict=True))
    return {name: _percentiles(of_name) for name, of_name in zip(statistics, values, strict=True)}


def entries(
    values: Mapping[str, float],
    statistics: Mapping[str, Statistic],
    groups: Sequence[Hashable],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Returns values with their intervals, as `evaluate/metrics.json` holds them.

    Args:
      values: metric to its value; one that is NaN is left out.
      statistics: the statistics of those metrics of `values` that get an interval.
      groups: as in `intervals`, but one group alone will do: then there are no intervals.
      resamples: as in `intervals`.
      seed: as in `intervals`.

    Returns:
      Metric to `value`, and with a statistic `low` and `high`; `undefined` where that number is not 0. An interval
      without width is left out: if all of eight melanomas are found, all are found in every resample too, which says
      nothing about the ninth.

    Raises:
      ValueError: as `intervals`, or a statistic of no metric in `values`.
    """
    strange = statistics.keys() - values.keys()
    if strange:
        raise ValueError(f"statistics {sorted(strange)}: must be of the metrics {sorted(values)}")
    section = {name: {"value": float(value)} for name, value in values.items() if not math.isnan(value)}
    if len(set(arrays.named(groups))) < 2:
        return section
    known = {name: statistic for name, statistic in statistics.items() if name in section}
    for name, (low, high, undefined) in intervals(known, groups, resamples=resamples, seed=seed).items():
        if high > low:
            section[name] |= {"low": low, "high": high}
        if undefined:
            section[name]["undefined"] = undefined
    return section


def difference(a: Statistic, b: Statistic) -> Statistic:
    """Returns the statistic that is `a` less `b` in the same resamples: of two models on the same images, say."""
    return lambda weights: a(weights) - b(weights)


def average(statistics: Sequence[Statistic], sizes: Sequence[int]) -> Statistic:
    """Returns the mean of several statistics, each of its own images, which follow upon one another.

    With groups that are named alike in all of them it is that of several models, each trained and tested on other draws
    of the same images: a group that was drawn twice is resampled as one.

    Args:
      statistics: one for each part of the images.
      sizes: number of images in each part.
    """
    stops = np.cumsum(sizes)

    def statistic(weights: np.ndarray) -> np.ndarray:
        parts = zip(statistics, stops - sizes, stops, strict=True)
        return np.mean([of_part(weights[:, start:stop]) for of_part, start, stop in parts], axis=0)

    return statistic


def _percentiles(values: np.ndarray) -> Interval:
    defined = values[~np.isnan(values)]
    low, high = np.percentile(defined, (2.5, 97.5)) if defined.size else (math.nan, math.nan)
    return Interval(float(low), float(high), values.size - defined.size)
