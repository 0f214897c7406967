"""Framing and masking on examples worked by hand, and their properties on drawn masks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segfusion_jax.bridge import masked
from segfusion_jax.config import BRIDGE_MODES, Bridge

IMAGE = np.linspace(0.25, 1.0, 48, dtype=np.float32).reshape(4, 4, 3)
MASK = np.array([[0.0, 0.0, 0.0, 0.0], [0.0, 0.5, 1.0, 0.4], [0.0, 0.75, 0.25, 0.0], [0, 0, 0, 0]], np.float32)[
    ..., None
]
HARD = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]], np.float32)[..., None]  # 0.5 is lesion

BY_HAND = {
    "none": IMAGE,
    "crop": IMAGE,
    "black": IMAGE * HARD,
    "dilate": IMAGE * HARD,
    "crop_dilate": IMAGE * HARD,
    "dim": np.where(HARD == 1, IMAGE, np.float32(0.4) * IMAGE),
    "soft": IMAGE * MASK,
    "channel": np.concatenate([IMAGE, MASK], -1),
    "background_only": np.where(HARD == 1, 0, IMAGE),
    "mask_only": np.repeat(HARD, 3, -1),
}


class TestApply:
    @pytest.mark.parametrize("mode", BRIDGE_MODES)
    def test_by_hand_on_the_host_and_on_the_device(self, mode):
        config = Bridge(mode=mode, alpha=0.4)
        on_host = masked.apply(IMAGE, MASK, config)
        assert type(on_host) is np.ndarray
        assert on_host.dtype == np.float32
        np.testing.assert_allclose(on_host, BY_HAND[mode], rtol=1e-6)
        batch = jax.jit(functools.partial(masked.apply, bridge=config))(IMAGE[None], MASK[None])
        np.testing.assert_allclose(batch, BY_HAND[mode][None], rtol=1e-6)

    def test_the_threshold_is_the_configs(self):
        kept = masked.apply(IMAGE, MASK, Bridge(mode="black", threshold=0.25))[..., 0] > 0
        np.testing.assert_array_equal(kept, MASK[..., 0] >= 0.25)

    def test_a_whole_mask_changes_no_mode_that_shows_the_lesion(self):
        for mode in ("black", "dim", "soft", "dilate", "crop_dilate"):
            np.testing.assert_allclose(masked.apply(IMAGE, np.ones_like(MASK), Bridge(mode=mode)), IMAGE, rtol=1e-6)

    @pytest.mark.parametrize("mode", BRIDGE_MODES)
    def test_bfloat16_stays_bfloat16(self, mode):
        output = masked.apply(jnp.asarray(IMAGE, jnp.bfloat16), jnp.asarray(MASK, jnp.bfloat16), Bridge(mode=mode))
        assert output.dtype == jnp.bfloat16


def lesion_mask(height: int, width: int, rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    mask[rows, columns] = 255
    return mask


def positions(height: int, width: int) -> np.ndarray:
    """An image whose pixels tell where they are: (row, column, 0)."""
    return np.stack([*np.indices((height, width)), np.zeros((height, width), int)], -1).astype(np.uint8)


class TestFrame:
    @pytest.mark.parametrize("mode", [mode for mode in BRIDGE_MODES if mode not in ("dilate", "crop", "crop_dilate")])
    def test_other_modes_change_nothing(self, mode):
        image, mask = positions(6, 8), lesion_mask(6, 8, slice(2, 4), slice(3, 5))
        framed = masked.frame(image, mask, Bridge(mode=mode))
        np.testing.assert_array_equal(framed[0], positions(6, 8))
        np.testing.assert_array_equal(framed[1], lesion_mask(6, 8, slice(2, 4), slice(3, 5)))

    def test_crop_box_with_margin(self):
        # a lesion of 10 rows and 20 columns; a margin of 0.2 adds 2 rows and 4 columns at each side
        image, mask = positions(50, 100), lesion_mask(50, 100, slice(20, 30), slice(40, 60))
        cut, cut_mask = masked.frame(image, mask, Bridge(mode="crop", margin=0.2))
        np.testing.assert_array_equal(cut, image[18:32, 36:64])
        np.testing.assert_array_equal(cut_mask, mask[18:32, 36:64])

    def test_crop_box_ends_at_the_image(self):
        image, mask = positions(50, 100), lesion_mask(50, 100, slice(0, 10), slice(85, 99))
        cut, _ = masked.frame(image, mask, Bridge(mode="crop", margin=0.5))
        np.testing.assert_array_equal(cut, image[0:15, 78:100])

    def test_image_and_mask_are_cut_each_at_its_own_resolution(self):
        image, mask = positions(100, 200), lesion_mask(25, 40, slice(5, 10), slice(10, 20))
        cut, cut_mask = masked.frame(image, mask, Bridge(mode="crop", margin=0.0))
        np.testing.assert_array_equal(cut, image[20:40, 50:100])
        np.testing.assert_array_equal(cut_mask, np.full((5, 10), 255))

    def test_crop_of_an_empty_mask_is_the_whole_image(self):
        image, mask = positions(6, 8), np.zeros((3, 4), np.uint8)
        cut, cut_mask = masked.frame(image, mask, Bridge(mode="crop"))
        np.testing.assert_array_equal(cut, image)
        np.testing.assert_array_equal(cut_mask, mask)

    @pytest.mark.parametrize("margin", [0.0, 0.1, 1 / 3])
    def test_a_box_has_no_more_pixels_than_its_margin_asks_for(self, margin):
        for side in range(16, 200):
            first, last = side // 3, side // 2
            mask = lesion_mask(side, 16, slice(first, last), slice(0, 16))
            _, cut = masked.frame(positions(side, 16), mask, Bridge(mode="crop", margin=margin))
            extra = margin * (last - first)
            # a share of a pixel counts as one, rounding errors do not
            top, bottom = np.floor(first - extra + 1e-6), np.ceil(last + extra - 1e-6)
            assert len(cut) == min(bottom, side) - max(top, 0), side

    def test_dilation_is_a_disc_of_that_share_of_the_diagonal(self):
        # the diagonal of 30 x 40 is 50: 0.1 of it are 5 pixels
        mask = lesion_mask(30, 40, slice(15, 16), slice(20, 21))
        image, grown = masked.frame(positions(30, 40), mask, Bridge(mode="dilate", dilation=0.1))
        rows, columns = np.indices((30, 40))
        inside = (rows - 15) ** 2 + (columns - 20) ** 2 <= 25
        np.testing.assert_array_equal(grown, np.where(inside, 255, 0))
        np.testing.assert_array_equal(image, positions(30, 40))

    def test_dilation_of_an_empty_mask_is_empty(self):
        _, grown = masked.frame(positions(6, 8), np.zeros((6, 8), np.uint8), Bridge(mode="dilate", dilation=0.3))
        np.testing.assert_array_equal(grown, 0)

    def test_crop_dilate_cuts_to_the_grown_mask(self):
        mask = lesion_mask(30, 40, slice(15, 16), slice(20, 21))
        image, cut = masked.frame(positions(30, 40), mask, Bridge(mode="crop_dilate", dilation=0.1, margin=0.0))
        np.testing.assert_array_equal(image, positions(30, 40)[10:21, 15:26])
        assert cut.shape == (11, 11)
        assert set(np.unique(cut)) == {0, 255}

    @given(
        hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12))),
        st.tuples(st.integers(1, 30), st.integers(1, 30)),
        st.sampled_from(["crop", "crop_dilate"]),
        st.floats(0, 1),
    )
    @settings(deadline=None)
    def test_a_crop_holds_all_of_the_lesion(self, mask, size, mode, margin):
        lesion = mask >= 127.5
        assume(lesion.any())
        config = Bridge(mode=mode, margin=margin, dilation=0.05)
        cut, cut_mask = masked.frame(positions(*size), mask, config)
        assert cut_mask[cut_mask >= 127.5].size >= lesion.sum()
        assert 0 not in cut.shape
        # each lesion pixel of the mask covers a stretch of the image; its middle must be in the cut
        for axis, length in enumerate(size):
            middles = (np.flatnonzero(lesion.any(1 - axis)) + 0.5) * length / mask.shape[axis]
            kept = cut[..., axis]
            assert kept.min() <= middles.min()
            assert middles.max() <= kept.max() + 1
