"""Images that belong together: those of one picture, look, cut, lesion or patient, and what chains of these join."""

import dataclasses
from collections.abc import Iterable, Sequence

from segfusion_jax.datasets.components import components
from segfusion_jax.datasets.cuts import cut_pairs
from segfusion_jax.datasets.near_duplicates import near_duplicates
from segfusion_jax.datasets.table import Row

Pairs = Sequence[tuple[int, int]]
"""Places of two rows that belong together."""


def joined(
    rows: Sequence[Row],
    duplicate_pairs: Iterable[tuple[str, str]] = (),
    lesion_pairs: Iterable[tuple[str, str]] = (),
    cuts: Sequence[bytes] | None = None,
) -> list[Row]:
    """Returns the rows with `picture`, `lookalike`, `cut` and `group`.

    Rows show the same picture if their content or their image id is equal (an ISIC 2019 `_downsampled` id counts as its
    original's) or if they are published as duplicates. They look alike if `near_duplicates` says so. They are
    cuts if `cut_pairs` does. They are of one group if a chain of equal pictures, looks, cuts, lesions or patients joins
    them. Unknown ids ("") join nothing.

    Args:
      rows: all images.
      duplicate_pairs: image ids that show the same picture; ids that no row has are passed over.
      lesion_pairs: image ids that are published as showing the same lesion.
      cuts: the `cut_hashes` of each row; None: no image is looked for in the middle of another.
    """
    same = _alike([row.sha256 for row in rows]) + _alike([row.image_id.removesuffix("_downsampled") for row in rows])
    looks = [bytes.fromhex(row.perceptual_hash) for row in rows]
    near, cut = near_duplicates(looks), cut_pairs(looks, cuts) if cuts else []
    return grouped(rows, same + places(rows, duplicate_pairs), near, cut, places(rows, lesion_pairs))


def grouped(rows: Sequence[Row], same: Pairs, near: Pairs, cut: Pairs, same_lesion: Pairs = ()) -> list[Row]:
    """Returns the rows with `picture`, `lookalike`, `cut` and `group`, by pairs of equal pictures, near duplicates,
    cuts and lesions, and by the ids of lesions and patients.
    """
    related = [*_alike([row.lesion_id for row in rows]), *_alike([row.patient_id for row in rows]), *same_lesion]
    ids = [row.image_id for row in rows]
    named = (_clusters(ids, links) for links in (same, near, cut, [*same, *near, *cut, *related]))
    return [
        dataclasses.replace(row, picture=picture, lookalike=lookalike, cut=cut, group=group)
        for row, picture, lookalike, cut, group in zip(rows, *named, strict=True)
    ]


def places(rows: Sequence[Row], pairs: Iterable[tuple[str, str]]) -> list[tuple[int, int]]:
    """Returns the places of pairs of image ids; pairs of which no row has one are passed over."""
    place = {row.image_id: number for number, row in enumerate(rows)}
    return [(place[first], place[second]) for first, second in pairs if {first, second} <= place.keys()]


def _alike(names: Sequence[str]) -> list[tuple[int, int]]:
    """Links that join the places of each name; "" joins nothing."""
    first: dict[str, int] = {}
    return [(first.setdefault(name, place), place) for place, name in enumerate(names) if name]


def _clusters(ids: Sequence[str], links: Pairs) -> list[str]:
    """Returns the smallest id in the connected component of each place."""
    labels = components(links, len(ids))
    names: dict[int, str] = {}
    for label, image_id in zip(labels.tolist(), ids, strict=True):
        names[label] = min(names.get(label, image_id), image_id)
    return [names[label] for label in labels.tolist()]
