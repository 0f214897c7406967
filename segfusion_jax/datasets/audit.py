"""Facts about prepared data for the report: counts, what was left out, and how much an image-level split would leak."""

import collections
from collections.abc import Sequence
from typing import Any

import numpy as np

from segfusion_jax.datasets.record import Problem
from segfusion_jax.datasets.table import Row


def audit(rows: Sequence[Row], problems: Sequence[Problem] = ()) -> dict[str, Any]:
    """Counts per split, images left out, and leakage.

    Args:
      rows: all images, with their splits.
      problems: images left out.

    Returns:
      JSON-able: `images`, `groups`; `splits` (for each: images, groups, malignant, benign, unlabelled, with_mask,
      diagnoses); `left_out` (count for each kind of problem); and `siblings_in_training`: the share of test images with
      an image of the same group in train or validation, under `this_split` and under a random `image_level_split` of
      the same size.
    """
    names = ("train", "validation", "test")
    return {
        "images": len(rows),
        "groups": len({row.group for row in rows}),
        "splits": {name: _counts([row for row in rows if row.split == name]) for name in names},
        "left_out": dict(collections.Counter(problem.kind for problem in problems)),
        "siblings_in_training": {
            "this_split": sibling_share(rows),
            "image_level_split": expected_sibling_share([row.group for row in rows], _test_size(rows)),
        },
    }


def sibling_share(rows: Sequence[Row]) -> float:
    """Share of test images with an image of their group in train or validation; 0 unless the split is broken."""
    training = {row.group for row in rows if row.split != "test"}
    return sum(row.group in training for row in rows if row.split == "test") / max(1, _test_size(rows))


def expected_sibling_share(groups: Sequence[str], test_size: int) -> float:
    """Expected share of test images with a sibling outside test, had `test_size` images been drawn one by one.

    An image of a group of g, itself in test, has no sibling outside with the hypergeometric probability that its g - 1
    siblings are among the test_size - 1 other test images: product of (test_size - j) / (images - j), j = 1..g-1.
    """
    if not test_size:
        return 0.0
    total = len(groups)
    sizes = collections.Counter(collections.Counter(groups).values())
    with_sibling = 0.0
    for size, count in sizes.items():
        others = np.arange(1, size)
        alone = np.prod(np.clip(test_size - others, 0, None) / (total - others))
        with_sibling += size * count * (1 - alone)
    return float(with_sibling / total)


def _test_size(rows: Sequence[Row]) -> int:
    return sum(row.split == "test" for row in rows)


def _counts(rows: Sequence[Row]) -> dict[str, Any]:
    labels = collections.Counter(row.malignant for row in rows)
    return {
        "images": len(rows),
        "groups": len({row.group for row in rows}),
        "malignant": labels[1],
        "benign": labels[0],
        "unlabelled": labels[-1],
        "with_mask": sum(row.has_mask for row in rows),
        "diagnoses": dict(sorted(collections.Counter(row.diagnosis or "unknown" for row in rows).items())),
    }
