"""Levels on the host and on the device: the same rounding and the same threshold."""

import fractions

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segfusion_jax.bridge.levels import is_lesion, to_levels, to_unit
from segfusion_jax.config import Bridge

LEVELS = np.arange(256, dtype=np.uint8)


def test_rounding_goes_to_the_nearest_level_on_both():
    probability = np.random.default_rng(0).uniform(0, 1, 9999).astype(np.float32)
    found = to_levels(probability)
    assert found.dtype == np.uint8
    assert np.abs(found - probability.astype(np.float64) * 255).max() <= 0.5 + 1e-5
    np.testing.assert_array_equal(jax.jit(to_levels)(probability), found)
    np.testing.assert_array_equal(to_levels(np.float32([0.0, 1.0])), [0, 255])


def test_levels_are_what_they_stand_for_on_both():
    np.testing.assert_allclose(to_unit(LEVELS), LEVELS / 255, rtol=1e-7)
    for levels in (LEVELS, LEVELS.astype(np.float32)):
        assert to_unit(levels).dtype == jax.jit(to_unit)(levels).dtype == np.float32
        np.testing.assert_array_equal(to_levels(jax.jit(to_unit)(levels)), LEVELS)


@pytest.mark.parametrize("threshold", [0.01, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.99])
def test_a_level_is_lesion_from_the_threshold_on(threshold):
    expected = [fractions.Fraction(level, 255) >= fractions.Fraction(str(threshold)) for level in range(256)]
    bridge = Bridge(threshold=threshold)
    np.testing.assert_array_equal(is_lesion(LEVELS, bridge), expected)
    np.testing.assert_array_equal(jax.jit(lambda x: is_lesion(x, bridge))(LEVELS.astype(jnp.int32)), expected)
