"""Cuts of drawn pictures are found, whole pictures of other lesions are not."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from segfusion_jax.datasets import groups
from segfusion_jax.datasets.cuts import cut_pairs
from segfusion_jax.datasets.hashes import NUM_CUTS, cut_hashes, perceptual_hash
from segfusion_jax.datasets.near_duplicates import near_duplicates
from tests.datasets import official
from tests.datasets.rows import row


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Drawn lesions, [144, 192, 3], one of each."""
    by_lesion = {record.lesion_id: record for record in official.drawn(40)}
    return [np.asarray(Image.open(io.BytesIO(record.image.read()))) for record in by_lesion.values()]


def found(pictures: list[np.ndarray]) -> list[tuple[int, int]]:
    return cut_pairs([perceptual_hash(one) for one in pictures], [cut_hashes(one) for one in pictures])


CUTS = {
    "centre square": lambda image: image[:, 24:168],
    "a little to the right": lambda image: image[:, 29:173],
    "smaller and lower": lambda image: image[6:142, 28:164],
    "two thirds": lambda image: image[24:120, 32:160],
    "seven tenths, enlarged": lambda image: cv2.resize(image[22:122, 29:163], (300, 225)),
    "two thirds, mirrored": lambda image: image[24:120, 32:160][:, ::-1],
}


@pytest.mark.parametrize("name", CUTS)
def test_a_cut_is_found_and_nothing_else(name, pictures):
    cut = np.ascontiguousarray(CUTS[name](pictures[3]))
    assert found([*pictures, cut]) == [(3, len(pictures))]
    assert (3, len(pictures)) not in near_duplicates([perceptual_hash(one) for one in [*pictures, cut]])


def test_pictures_and_their_copies_are_no_cuts(pictures):
    assert found(pictures) == [] and found([]) == []
    assert len(cut_hashes(pictures[0])) == 32 * NUM_CUTS
    assert len(cut_hashes(np.zeros((1, 1, 3), np.uint8))) == 32 * NUM_CUTS


def test_cuts_join_groups(pictures):
    several = [*pictures[:3], np.ascontiguousarray(CUTS["two thirds"](pictures[1]))]
    rows = [row(i, perceptual_hash=perceptual_hash(one).hex()) for i, one in enumerate(several)]
    joined = groups.joined(rows, cuts=[cut_hashes(one) for one in several])
    assert [one.group for one in joined] == [one.cut for one in joined] == ["I0000", "I0001", "I0002", "I0001"]
    assert [one.lookalike for one in joined] == [one.picture for one in joined] == [f"I000{i}" for i in range(4)]
