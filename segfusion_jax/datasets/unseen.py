"""Images that a model has never seen, told by what the model carries of its own split."""

import collections
import dataclasses
import re
from collections.abc import Mapping, Sequence

import numpy as np

from segfusion_jax.datasets.components import components
from segfusion_jax.datasets.near_duplicates import near_duplicates
from segfusion_jax.datasets.salted import matches
from segfusion_jax.datasets.table import Part, Row

SEEN = ("train", "validation")
"""The splits whose images a model was trained on or chosen by."""
_ISIC = re.compile(r"ISIC_\d+")


def unseen(rows: Sequence[Row], parts: Sequence[Part]) -> tuple[tuple[Row, ...], dict[str, int]]:
    """Returns the images whose whole group the model was neither trained on nor chosen by.

    An image is one of the model's if their ids are equal (of the ISIC archive's, without what folders and
    `_downsampled` copies add; salted ones by `salted`) or if `near_duplicates` connects their pictures, where the model
    carries hashes of them.

    Args:
      rows: images, with their groups.
      parts: what each of the model's images was used for.

    Returns:
      The images, and of those that are left out how many for which reason: "same id", "same picture" or "relative",
      which is an image in a group with one of the former.
    """
    own = [part for part in parts if part.split in SEEN]
    ids = [_plain(row.image_id) for row in rows]
    known = matches(ids, (_plain(part.image_id) for part in own))
    by_id = [image_id in known for image_id in ids]
    hashes = [part.perceptual_hash for part in own if part.perceptual_hash]
    by_picture = _pictured([row.perceptual_hash for row in rows], hashes)
    seen = {row.group for row, *same in zip(rows, by_id, by_picture, strict=True) if any(same)}
    reasons = collections.Counter(
        "same id" if same_id else "same picture" if same_picture else "relative"
        for row, same_id, same_picture in zip(rows, by_id, by_picture, strict=True)
        if row.group in seen
    )
    return tuple(row for row in rows if row.group not in seen), dict(reasons)


def without_seen(
    rows: Sequence[Row], saw: Mapping[str, Sequence[Part]]
) -> tuple[list[Row], list[Row], dict[str, dict[str, int]]]:
    """Parts images that no model of several has seen from the others.

    Args:
      rows: images, with their groups.
      saw: the images of each model, by what it is called.

    Returns:
      The images that none has seen; the others, as "unused"; and of these, by model, how many for which reason, as
      `unseen` gives them.
    """
    fresh, told = tuple(rows), {}
    for name, parts in saw.items():
        fresh, reasons = unseen(fresh, parts)
        told |= {name: reasons} if reasons else {}
    kept = {row.image_id for row in fresh}
    left_out = [dataclasses.replace(row, split="unused", fold=-1) for row in rows if row.image_id not in kept]
    return list(fresh), left_out, told


def _plain(image_id: str) -> str:
    """Returns the archive's own id, such as ISIC_0024306, whatever a collection adds; else the id itself."""
    name = image_id.rpartition("/")[2].removesuffix("_downsampled")
    return name if _ISIC.fullmatch(name) else image_id


def _pictured(hashes: Sequence[str], own: Sequence[str]) -> list[bool]:
    """Returns whether each picture of `hashes` is connected with one of `own`."""
    pairs = near_duplicates([bytes.fromhex(value) for value in (*hashes, *own)])
    cluster = components(pairs, len(hashes) + len(own))
    return np.isin(cluster[: len(hashes)], cluster[len(hashes) :]).tolist()
