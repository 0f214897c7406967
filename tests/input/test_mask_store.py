"""Masks that are written return under their image's id."""

import pickle

import pytest

from segfusion_jax.input import mask_store
from segfusion_jax.input.mask_store import MaskRow, MaskStore

ROWS = [
    MaskRow("ISIC_0000002", "0", 0.1 + 0.2, ""),
    MaskRow('odd, "id"', "0+1+2", 1.0, "empty"),
    MaskRow("ISIC_0000001", "1", 1e-9, ""),
]


@pytest.fixture
def store(tmp_path):
    mask_store.write(tmp_path / "masks", ((row, b"mask of " + row.image_id.encode()) for row in ROWS))
    return MaskStore(tmp_path / "masks")


def test_rows_return_in_order_and_exactly(store):
    assert store.rows == ROWS


@pytest.mark.parametrize("row", ROWS[::-1])
def test_masks_return_by_the_images_id(store, row):
    assert store.read(row.image_id) == b"mask of " + row.image_id.encode()


def test_an_unknown_image_is_a_key_error(store):
    with pytest.raises(KeyError, match="ISIC_0000003"):
        store.read("ISIC_0000003")


def test_a_used_store_can_be_sent_to_another_process(store):
    store.read(ROWS[0].image_id)
    assert pickle.loads(pickle.dumps(store)).read(ROWS[1].image_id) == b'mask of odd, "id"'


def test_writing_again_replaces_what_was_there(store, tmp_path):
    mask_store.write(tmp_path / "masks", [(ROWS[2], b"new")])
    new = MaskStore(tmp_path / "masks")
    assert new.rows == [ROWS[2]]
    assert new.read(ROWS[2].image_id) == b"new"
