"""The arrays that can be judged: labels or classes of images, and the probabilities that a model gives them."""

from collections.abc import Hashable, Sequence

import numpy as np


def binary(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of malignancy; one class alone will do.

    Args:
      labels: [n] bool or integers, 0 benign and 1 malignant.
      probabilities: [n] of malignancy, in [0, 1].

    Returns:
      The labels as bool [n] and the probabilities as float64 [n].

    Raises:
      ValueError: shapes differ, there are no images, a label is neither 0 nor 1, or a probability is not a number in
        [0, 1].
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if labels.ndim != 1 or labels.shape != probabilities.shape:
        raise ValueError(f"labels {labels.shape} and probabilities {probabilities.shape}: must be of one shape, (n,)")
    if not labels.size:
        raise ValueError("labels are of 0 images: at least one is needed")
    strange = labels[~np.isin(labels, (0, 1))]
    if strange.size:
        raise ValueError(f"labels hold {strange[0]!r}: must be 0 (benign) or 1 (malignant)")
    _check_probabilities(probabilities)
    return labels.astype(bool), probabilities


def multiclass(targets: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns classes of images and the probabilities of all classes.

    Args:
      targets: [n] integers, the number of each image's class, from 0.
      probabilities: [n, classes] that sum to 1 in each row.

    Returns:
      The targets as int64 [n] and the probabilities as float64 [n, classes].

    Raises:
      ValueError: shapes do not fit, there are no images or fewer than two classes, a target is no class, or a row is no
        distribution.
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if probabilities.ndim != 2 or probabilities.shape[1] < 2:
        raise ValueError(f"probabilities {probabilities.shape}: must be (n, classes) of at least 2 classes")
    targets = classes(targets, probabilities.shape[1])
    if len(targets) != len(probabilities):
        raise ValueError(f"targets {targets.shape} and probabilities {probabilities.shape}: must be of equally many")
    _check_probabilities(probabilities)
    sums = probabilities.sum(axis=1)
    strange = sums[np.abs(sums - 1) > 1e-3]
    if strange.size:
        raise ValueError(f"probabilities of an image sum to {strange[0]}: must sum to 1")
    return targets, probabilities


def classes(targets: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns the numbers of images' classes as int64 [n].

    Args:
      targets: [n] integers or bool, from 0 to `num_classes` - 1.
      num_classes: how many there are.

    Raises:
      ValueError: another shape, another kind of number, no images, or a number that is no class.
    """
    targets = np.asarray(targets)
    if targets.ndim != 1 or not targets.size or targets.dtype.kind not in "biu":
        raise ValueError(f"{targets.dtype} array of shape {targets.shape}: must be whole numbers, (n,), n at least 1")
    strange = targets[(targets < 0) | (targets >= num_classes)]
    if strange.size:
        raise ValueError(f"class {strange[0]}: must be from 0 to {num_classes - 1}")
    return targets.astype(np.int64)


def named(groups: Sequence[Hashable]) -> list[Hashable]:
    """Returns the names of images' groups.

    >>> named(["a", "b", "a"])
    ['a', 'b', 'a']

    Raises:
      ValueError: some are missing: None, NaN, or a text that is empty or says so.
    """
    names = list(groups)
    missing = [number for number, name in enumerate(names) if _is_missing(name)]
    if missing:
        raise ValueError(
            f"groups: {len(missing)} of {len(names)} are missing, first that of image {missing[0]}, "
            f"{names[missing[0]]!r}: all of these would count as one patient. Name the group of an image that stands "
            f"alone after the image, such as 'image {missing[0]}', or leave it out"
        )
    return names


def _is_missing(name: Hashable) -> bool:
    if isinstance(name, str):
        return name.strip().lower() in ("", "nan", "none", "null", "<na>", "nat", "n/a")
    try:
        return name is None or bool(name != name)
    except (TypeError, ValueError):  # pandas' NA is neither equal nor unequal
        return True


def _check_probabilities(probabilities: np.ndarray) -> None:
    strange = probabilities[~((probabilities >= 0) & (probabilities <= 1))]  # true for NaN too
    if strange.size:
        raise ValueError(f"probabilities hold {strange[0]}: must be in [0, 1]")
