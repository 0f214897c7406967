"""Cleaning of masks on examples worked by hand, and its properties on drawn masks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from segfusion_jax.bridge.clean import clean
from segfusion_jax.bridge.levels import WHOLE
from segfusion_jax.config import Bridge


def pixels(*rows: str) -> np.ndarray:
    """Digits to probabilities: '9' is 255, '5' 142, '4' 113 and '0' 0."""
    return np.array([[int(digit) * 255 // 9 for digit in row] for row in rows], np.uint8)


class TestClean:
    CONFIG = Bridge(min_area=0.0, max_border=1.0)

    def test_the_largest_component_stays_with_its_probabilities(self):
        mask, fallback = clean(pixels("99000", "99000", "00000", "00777", "00999"), self.CONFIG)
        assert fallback == ""
        np.testing.assert_array_equal(mask, pixels("00000", "00000", "00000", "00777", "00999"))

    def test_diagonal_neighbours_are_not_connected(self):
        mask, _ = clean(pixels("9000", "0990", "0000", "0000"), self.CONFIG)
        np.testing.assert_array_equal(mask, pixels("0000", "0990", "0000", "0000"))

    def test_holes_are_filled(self):
        mask, _ = clean(pixels("00000", "05550", "05450", "05550", "00000"), self.CONFIG)
        np.testing.assert_array_equal(mask, pixels("00000", "05550", "05950", "05550", "00000"))

    def test_an_island_in_a_hole_is_filled_with_it(self):
        mask, _ = clean(pixels("55555", "50005", "50705", "50005", "55555"), self.CONFIG)
        np.testing.assert_array_equal(mask, pixels("55555", "59995", "59995", "59995", "55555"))

    def test_what_is_below_the_threshold_stays_soft(self):
        probability = pixels("0000", "4940", "0400", "0000")
        np.testing.assert_array_equal(clean(probability, self.CONFIG)[0], probability)

    def test_components_and_holes_are_those_of_scipy(self):
        rng = np.random.default_rng(0)
        for share in np.repeat(np.linspace(0.05, 0.95, 19), 40):
            hard = rng.random(rng.integers(1, 24, 2)) < share
            labels, _ = ndimage.label(hard)
            largest = labels == np.argmax(np.bincount(labels.ravel())[1:]) + 1 if hard.any() else ~hard
            expected = np.where(ndimage.binary_fill_holes(largest), WHOLE, 0)
            mask, _ = clean(np.where(hard, WHOLE, 0).astype(np.uint8), self.CONFIG)
            np.testing.assert_array_equal(mask, expected)

    @pytest.mark.parametrize(("threshold", "level", "lesion"), [(0.5, 127, False), (0.5, 128, True), (0.2, 51, True)])
    def test_the_threshold_is_a_probability(self, threshold, level, lesion):
        probability = np.zeros((4, 4), np.uint8)
        probability[1, 1] = level
        _, fallback = clean(probability, Bridge(threshold=threshold, min_area=0.0))
        assert fallback == ("" if lesion else "empty")

    @pytest.mark.parametrize(
        ("rows", "config", "reason"),
        [
            (("4444", "4444", "4444", "4444"), Bridge(), "empty"),
            (("0000", "0990", "0000", "0000"), Bridge(min_area=0.126), "tiny"),
            (("0000", "0990", "0000", "0000"), Bridge(min_area=0.125), ""),
            (("9990", "9999", "9999", "9999"), Bridge(max_border=0.91), "border"),  # 11 of the border's 12
            (("9990", "9999", "9999", "9999"), Bridge(max_border=0.92), ""),
            (("9999", "9009", "9009", "9999"), Bridge(max_border=0.9), "border"),
            (("9900", "0000", "0000", "0099"), Bridge(min_area=0.2), "tiny"),  # the largest alone is meant
            (("000000", "099999", *3 * ["090009"], "099999"), Bridge(min_area=0.5), ""),  # 16 of 36, 25 with its hole
        ],
    )
    def test_a_mask_that_makes_no_sense_falls_back_to_the_whole_image(self, rows, config, reason):
        mask, fallback = clean(pixels(*rows), config)
        assert fallback == reason
        if reason:
            np.testing.assert_array_equal(mask, np.full_like(mask, WHOLE))

    @given(hnp.arrays(np.uint8, st.tuples(st.integers(2, 12), st.integers(2, 12))), st.floats(0.01, 0.99))
    @settings(deadline=None)
    def test_properties(self, probability, threshold):
        config = Bridge(threshold=threshold, min_area=0.02, max_border=0.9)
        before = probability.copy()
        mask, fallback = clean(probability, config)
        np.testing.assert_array_equal(probability, before)
        assert mask.shape == probability.shape
        assert mask.dtype == np.uint8
        if fallback:
            assert (mask == 255).all()
        else:
            again, fallback = clean(mask, config)
            assert fallback == ""
            np.testing.assert_array_equal(again, mask)
            lesion = mask >= threshold * 255
            assert lesion.any()
            assert (mask[~lesion] == probability[~lesion])[probability[~lesion] < threshold * 255].all()
