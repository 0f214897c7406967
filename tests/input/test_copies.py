"""Copies that the protocol "paper" augments before it splits."""

import numpy as np

from segfusion_jax.input import decode
from segfusion_jax.input.examples import Examples
from tests.input import fakes


def test_a_copy_is_augmented_and_always_the_same():
    records = fakes.Records()
    rows = [fakes.Row(3, f"id3~{copy}", 0, copy) for copy in range(4)]
    pairs = [decode.read(records, row) for row in rows]  # pyright: ignore[reportArgumentType]
    again = [decode.read(records, row) for row in rows]  # pyright: ignore[reportArgumentType]
    for (image, mask), (same_image, same_mask) in zip(pairs, again, strict=True):
        np.testing.assert_array_equal(image, same_image)
        np.testing.assert_array_equal(mask, same_mask)
    original = fakes.mask(3)
    np.testing.assert_array_equal(pairs[0][1], original)
    copies = [mask for _, mask in pairs[1:]]
    assert all(mask is not None and not np.array_equal(mask, original) for mask in copies)
    assert not np.array_equal(copies[0], copies[1])


def test_no_two_copies_are_moved_alike(monkeypatch):
    drawn = []

    def augment(image, mask, augmentation, rng):
        drawn.append(rng.random())
        return image, mask

    monkeypatch.setattr(decode, "augment", augment)
    for position in (3, 4):
        for copy in (1, 2):
            decode.read(fakes.Records(), fakes.Row(position, "id", 0, copy))  # pyright: ignore[reportArgumentType]
    assert len(set(drawn)) == 4


def test_the_bridges_mask_of_a_copy_is_not_moved_again():
    rows = [fakes.Row(3, "id3", 0, copy) for copy in (0, 1)]
    examples = Examples(fakes.Records(), rows, fakes.SIZE, masks=fakes.Masks())  # pyright: ignore[reportArgumentType]
    np.testing.assert_array_equal(examples[0]["mask"], examples[1]["mask"])
    assert (examples[0]["mask"] == 103).all()
