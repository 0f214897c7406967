"""A split that images bring along, in the column `split` of their table: it is followed to the last image.

Where it names no validation, that is taken from train: some images must choose the weights.
"""

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from segfusion_jax import config
from segfusion_jax.datasets.table import Row

_log = logging.getLogger(__name__)

SOURCE = "image_folder"
"""The collection whose `partition` is the user's own; of others it is the publisher's."""

Places = dict[str, tuple[str, int]]
"""Split and fold, -1 = none, by the id of an image or the name of a group."""


def named(rows: Sequence[Row]) -> dict[str, str]:
    """Returns what their table says of images: "train", "validation", "test", "unused" or the number of a fold."""
    return {row.image_id: row.partition for row in rows if row.source == SOURCE and row.partition}


def places(groups: Mapping[str, Sequence[Row]], splits: config.Splits, dealt: Places, possible: np.ndarray) -> Places:
    """Returns where the groups go that have images with a split of their own.

    Args:
      groups: all images, by group.
      splits: how the rest is dealt.
      dealt: where these groups would go if none were in 'test': their fold, and validation where the table names none.
      possible: which classes each target leaves possible, [targets, classes].

    Raises:
      ValueError: the split cannot be followed; names the images and the remedy.
    """
    own = named([row for members in groups.values() for row in members])
    _check(own, groups, splits, possible)
    folds = sorted({int(place) for place in own.values() if place.isdecimal()})
    first = _first_fold(folds, splits)
    followed = {}
    for name, members in groups.items():
        parts = {own[row.image_id] for row in members if row.image_id in own} - {"unused"}
        if len(parts) > 1:
            listed = ", ".join(f"{row.image_id} in {own[row.image_id]!r}" for row in members if row.image_id in own)
            raise ValueError(
                f"column split parts one lesion, patient or picture, group {name!r}: {listed}. Give all of them the "
                "same split there, or 'unused' to those that shall take no part"
            )
        for part in parts:
            if part.isdecimal():
                followed[name] = (dealt[name][0], int(part) - first)
            elif part == "train" and "validation" not in own.values():
                followed[name] = dealt[name]
            else:
                followed[name] = (part, -1 if part == "test" else dealt[name][1])
    taken = sum(split == "validation" for split, _ in followed.values())
    if taken and "validation" not in own.values():
        trained = sum(split != "test" for split, _ in followed.values())
        _log.info(
            "column split names no validation: %d of its %d groups to train on choose the weights", taken, trained
        )
    return followed


def _check(
    own: Mapping[str, str], groups: Mapping[str, Sequence[Row]], splits: config.Splits, possible: np.ndarray
) -> None:
    for name, value in (("protocol", splits.protocol != "grouped"), ("pool", splits.pool), ("table", splits.table)):
        if value:
            raise ValueError(
                f"splits.{name} = {getattr(splits, name)!r}: the images' own column split says where they belong; "
                f"leave splits.{name} at its default, or the column out"
            )
    rows = [row for members in groups.values() for row in members if row.source == SOURCE]
    empty = [row.image_id for row in rows if row.image_id not in own]
    if empty and {"train", "validation", "test"} <= set(own.values()):
        raise ValueError(
            f"column split is empty for {len(empty)} of {len(rows)} images, such as {', '.join(empty[:5])}, and names "
            "train, validation and test for others: name a split for these too, or 'unused'"
        )
    pictures: dict[str, set[int]] = {}
    for row in rows:
        if own.get(row.image_id, "unused") != "unused" and row.target >= 0:
            pictures.setdefault(row.picture, set()).add(row.target)
    twice = {picture for picture, targets in pictures.items() if not possible[[*targets]].all(axis=0).any()}
    if twice:
        listed = ", ".join(row.image_id for row in rows if row.picture in twice)
        raise ValueError(f"one picture with several labels: {listed}. Give 'unused' in column split to the wrong ones")


def _first_fold(folds: Sequence[int], splits: config.Splits) -> int:
    """Returns what the first fold is called, 0 or 1."""
    if not folds:
        return 0
    first = 0 if folds[0] == 0 else 1
    if folds != list(range(first, first + splits.num_folds)):
        raise ValueError(
            f"column split has the folds {', '.join(map(str, folds))}, and config.splits.num_folds = "
            f"{splits.num_folds}: they must be 0 to {splits.num_folds - 1}, or 1 to {splits.num_folds}; "
            f"--config.splits.num_folds={len(folds)} says how many there are"
        )
    return first
