"""A split that images bring along, as it will be followed: who is in which part, told before anything is trained."""

import collections
import dataclasses
from collections.abc import Sequence

from segfusion_jax.config import Data, Splits
from segfusion_jax.datasets import classes
from segfusion_jax.datasets.groups import joined
from segfusion_jax.datasets.images import Stored
from segfusion_jax.datasets.record import Problem, Record
from segfusion_jax.datasets.splits import deal
from segfusion_jax.datasets.table import Row

_FACTS = {field.name for field in dataclasses.fields(Row)}
_PARTS = ("train", "validation", "test", "unused")


def own_split_told(
    records: Sequence[Record], stored: Sequence[Stored | Problem], data: Data
) -> tuple[list[str], int, bool]:
    """Returns what is to be said of the images' own split, how many folds it has, 0 = none, and whether it can be
    followed.

    Args:
      records: the images.
      stored: what is kept of each, or why it cannot be used.
      data: config of how they are read.
    """
    given = collections.Counter(record.partition for record in records if record.partition)
    if not given:
        return [], 0, True
    counts = ", ".join(f"{count} {_named(part)}" for part, count in given.most_common())
    lines = [
        f"split as given: {counts}" + (f"; {empty} say nothing" if (empty := len(records) - given.total()) else "")
    ]
    folds = sum(part.isdecimal() for part in given)
    rows, cuts = _rows(records, stored)
    targets, told = classes.targets([(row.diagnosis, row.malignant) for row in rows], data)
    rows = [dataclasses.replace(row, target=target) for row, target in zip(rows, targets, strict=True)]
    try:
        splits = Splits(num_folds=folds) if folds else Splits()
        dealt = deal(joined(rows, cuts=cuts), splits, data.sources, possible=told.possible)
    except ValueError as error:
        return [*lines, f"CANNOT BE FOLLOWED: {error}"], folds, False
    for part in (part for part in _PARTS if any(row.split == part for row in dealt)):
        lines.append(f"  as it is followed, {_counts([row for row in dealt if row.split == part], told)} in {part}")
    return lines, folds, True


def _rows(records: Sequence[Record], stored: Sequence[Stored | Problem]) -> tuple[list[Row], list[bytes]]:
    """Returns what is known of each image that can be used, and its `cut_hashes`."""
    rows, cuts = [], []
    for record, one in zip(records, stored, strict=True):
        if isinstance(one, Stored):
            facts = {name: value for name, value in (vars(one) | vars(record)).items() if name in _FACTS}
            rows.append(Row(position=len(rows), has_mask=record.mask is not None, **facts))
            cuts.append(bytes.fromhex(one.cut_hashes))
    return rows, cuts


def _counts(rows: Sequence[Row], told: classes.Told) -> str:
    found = collections.Counter(told.labels[row.target] if row.target >= 0 else "without a label" for row in rows)
    listed = ", ".join(f"{found[name]} {name}" for name in (*told.labels, "without a label") if found[name])
    return f"{len(rows)} images in {len({row.group for row in rows})} groups ({listed})"


def _named(part: str) -> str:
    return f"in fold {part}" if part.isdecimal() else part
