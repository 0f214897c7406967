"""How good a model is for parts of the images: by sex, age, site, source, size of the image."""

import functools
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence

import numpy as np

from segfusion_jax.evaluation import arrays, bootstrap, weighted

UNKNOWN = "unknown"
AGES = ((30, "under 30"), (45, "30 to 44"), (60, "45 to 59"), (75, "60 to 74"), (math.inf, "75 and over"))
SIZES = (  # megapixels
    (0.5, "under 0.5 MP"),
    (2, "0.5 to 2 MP"),
    (8, "2 to 8 MP"),
    (math.inf, "8 MP and over"),
)
MIN_CLASS = 10
"""Images of a class below which nothing that rests on it is told."""
CLASSIFICATION = {"roc_auc": (True, False), "sensitivity": (True,), "specificity": (False,)}
"""Metrics of a subgroup, and the labels that each rests on."""
SEGMENTATION = ("dice", "failure_rate")
_BANDS = [name for _, name in AGES + SIZES]


def age_band(age: float) -> str:
    """Returns the age in bands of fifteen years, open at both ends, where images are few.

    ISIC rounds ages to five years: the bounds are such numbers, and the bands between them hold three of them each.

    Args:
      age: years; NaN = unknown.

    Raises:
      ValueError: a negative age.
    """
    if age < 0:
        raise ValueError(f"age = {age}: must be at least 0, or NaN for unknown")
    return UNKNOWN if math.isnan(age) else _band(age, AGES)


def size_band(width: int, height: int) -> str:
    """Returns the image's size in megapixels, roughly by fours: it tells the camera and often the hospital.

    HAM10000's 600 x 450 are 0.3, 1024 x 1024 in BCN20000 is 1, and the largest of ISIC 2020, 6000 x 4000, are 24.

    Args:
      width: pixels, as stored by the source.
      height: pixels.

    Raises:
      ValueError: a side below 1.
    """
    if width < 1 or height < 1:
        raise ValueError(f"image of {width} x {height} pixels: both sides must be at least 1")
    return _band(width * height / 1e6, SIZES)


def by_subgroup(
    facts: Mapping[str, Sequence[str]],
    labels: np.ndarray,
    probabilities: np.ndarray,
    threshold: float,
    groups: Sequence[Hashable],
    *,
    min_size: int = 50,
    min_class: int = MIN_CLASS,
    resamples: int = 2000,
    seed: int = 0,
    per_image: Sequence[Mapping[str, float] | None] | None = None,
) -> list[dict]:
    """Returns the metrics of each subgroup of images, at the same threshold for all.

    Args:
      facts: name of a fact, such as "sex", to its value for each image, [n]; "" is taken as unknown. A fact that has
        one value only is left out.
      labels: [n], as in `arrays.binary`.
      probabilities: [n], as in `arrays.binary`.
      threshold: probability from which an image is called malignant.
      groups: [n] name of each image's group; resampled within each subgroup.
      min_size: of a subgroup with fewer images only the sizes are told; its overlaps, if masks are fewer, are not.
      min_class: of a class with fewer images in a subgroup, nothing is told that rests on it.
      resamples: as in `bootstrap.intervals`.
      seed: as in `bootstrap.intervals`.
      per_image: [n] what `segmentation.score` returned, or None where an image has no mask.

    Returns:
      A dict for each value of each fact, bands by size, then other values by name, then unknown: `fact`, `value`, `n`,
      `positives`, `groups` (number of them), `withheld` (whether it is too small), `classification` (entries of
      `roc_auc`, `sensitivity` and `specificity`) and `segmentation` (`dice` and `failure_rate`). What rests
      on a class that is too rare in the subgroup is left out; both sections are empty where they are withheld.

    Raises:
      ValueError: as `arrays.binary`, or a fact, `groups` or `per_image` is of another number of images.
    """
    labels, probabilities = arrays.binary(labels, probabilities)
    per_image = [None] * labels.size if per_image is None else per_image
    aligned = {f"facts[{name!r}]": values for name, values in facts.items()}
    for name, values in (aligned | {"groups": groups, "per_image": per_image}).items():
        if len(values) != labels.size:
            raise ValueError(f"{name} has {len(values)} values: must be one for each of {labels.size} images")
    groups = arrays.named(groups)
    judged = functools.partial(
        _judged, threshold=threshold, min_size=min_size, min_class=max(min_class, 1), resamples=resamples, seed=seed
    )
    return [
        {"fact": fact, "value": value}
        | judged(labels[inside], probabilities[inside], [groups[i] for i in inside], [per_image[i] for i in inside])
        for fact, value, inside in _members(facts)
    ]


def _band(number: float, bands: Sequence[tuple[float, str]]) -> str:
    return next(name for end, name in bands if number < end)


def _members(facts: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yields a fact, a value, and the places of the images that have it, where a fact has several values."""
    for fact, values in facts.items():
        known = np.array([value or UNKNOWN for value in values])
        names = sorted(set(known.tolist()), key=_place)
        if len(names) > 1:
            yield from ((fact, name, np.flatnonzero(known == name)) for name in names)


def _place(value: str) -> tuple[bool, int, str]:
    return value == UNKNOWN, _BANDS.index(value) if value in _BANDS else len(_BANDS), value


def _judged(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: Sequence[Hashable],
    per_image: Sequence[Mapping[str, float] | None],
    *,
    threshold: float,
    min_size: int,
    min_class: int,
    resamples: int,
    seed: int,
) -> dict:
    section = functools.partial(_section, resamples=resamples, seed=seed)
    classified, segmented = {}, {}
    if labels.size >= min_size:
        statistics = weighted.classification_statistics(labels, probabilities, threshold)
        common = {label for label in (True, False) if (labels == label).sum() >= min_class}
        told = [name for name, needed in CLASSIFICATION.items() if common.issuperset(needed)]
        classified = section({name: statistics[name] for name in told}, groups)
    masked = [(scores, group) for scores, group in zip(per_image, groups, strict=True) if scores is not None]
    if len(masked) >= max(min_size, 1):
        overlaps, their_groups = zip(*masked, strict=True)
        statistics = weighted.segmentation_statistics(overlaps)
        segmented = section({name: statistics[name] for name in SEGMENTATION}, their_groups)
    return {
        "n": labels.size,
        "positives": int(labels.sum()),
        "groups": len(set(groups)),
        "withheld": labels.size < min_size,
        "classification": classified,
        "segmentation": segmented,
    }


def _section(
    statistics: Mapping[str, weighted.Statistic], groups: Sequence[Hashable], *, resamples: int, seed: int
) -> dict[str, dict[str, float]]:
    once = np.ones((1, len(groups)))
    values = {name: float(statistic(once)[0]) for name, statistic in statistics.items()}
    return bootstrap.entries(values, statistics, groups, resamples=resamples, seed=seed)
