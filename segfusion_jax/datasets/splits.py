"""Images that belong together (groups), and the dealing of groups to test, validation and cross-fitting folds."""

import hashlib
from collections.abc import Iterable, Sequence

from segfusion_jax import config
from segfusion_jax.datasets.record import Record


def groups(
    records: Sequence[Record], image_hashes: Sequence[str], duplicate_pairs: Iterable[tuple[str, str]] = ()
) -> list[str]:
    """The group of each record, named after the smallest image id in it.

    Records share a group if a chain of equal lesion, patient, image id (an ISIC 2019 `_downsampled` id counts as its
    original), content hash or published duplicate pair joins them. Unknown ids ("") join nothing.

    Args:
      records: what is grouped.
      image_hashes: one content hash for each record.
      duplicate_pairs: image ids that show the same picture; ids that no record has are passed over.
    """
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node: tuple[str, str]) -> tuple[str, str]:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for record, image_hash in zip(records, image_hashes, strict=True):
        for kind, name in (("lesion", record.lesion_id), ("patient", record.patient_id), ("hash", image_hash)):
            if name:
                parent[root((kind, name))] = root(_image_node(record.image_id))
    for first, second in duplicate_pairs:
        parent[root(_image_node(first))] = root(_image_node(second))
    roots = [root(_image_node(record.image_id)) for record in records]
    names: dict[tuple[str, str], str] = {}
    for node, record in zip(roots, records, strict=True):
        names[node] = min(names.get(node, record.image_id), record.image_id)
    return [names[node] for node in roots]


def assign(group_names: Sequence[str], splits: config.Splits) -> tuple[list[str], list[int]]:
    """Split and fold of each image from the name of its group alone, so that adding images moves no other group.

    Args:
      group_names: the group of each image.
      splits: fractions are of groups, and met on average.

    Returns:
      Splits, each "train", "validation" or "test", and folds in 0..num_folds-1, or -1 in test. Folds are independent of
      the division into train and validation.
    """
    names, folds = [], []
    for group in group_names:
        place = _uniform(splits.seed, "split", group)
        in_test, in_validation = place < splits.test_fraction, place < splits.test_fraction + splits.validation_fraction
        names.append("test" if in_test else "validation" if in_validation else "train")
        folds.append(-1 if in_test else int(_uniform(splits.seed, "fold", group) * splits.num_folds))
    return names, folds


def _image_node(image_id: str) -> tuple[str, str]:
    return "image", image_id.removesuffix("_downsampled")


def _uniform(seed: int, purpose: str, name: str) -> float:
    """A number in [0, 1) that depends on the arguments only."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{name}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
