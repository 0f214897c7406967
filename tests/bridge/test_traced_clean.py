"""Cleaning of masks on the device against SciPy's, on the host: regions that are hard to follow, and limits."""

import jax
import numpy as np
import pytest
from scipy import ndimage

from segfusion_jax import bridge as host
from segfusion_jax.bridge.traced_clean import FALLBACKS, clean
from segfusion_jax.config import Bridge


def drawn(size: tuple[int, int]) -> np.ndarray:
    """Noise of several grains, an empty mask, a whole one, and a spiral, the longest of ways; uint8."""
    rng = np.random.default_rng(0)
    masks = [np.zeros(size), np.full(size, 255), 200 * spiral(size)]
    for grain in (0, 1, 2, 4):
        for power in (0.3, 1, 3):
            noise = ndimage.gaussian_filter(rng.normal(size=size), grain)
            masks.append(255 * ((noise - noise.min()) / np.ptp(noise)) ** power)
    return np.round(masks).astype(np.uint8)


def spiral(size: tuple[int, int]) -> np.ndarray:
    """A way of one pixel's width that turns inwards and leaves one pixel free beside it."""
    way = np.zeros(size, int)
    place, step, turns = np.array([0, -1]), np.array([0, 1]), 0
    while turns < 2:
        ahead = [place + reach * step for reach in (1, 2)]
        inside = [((0, 0) <= p).all() and (p < size).all() for p in ahead]
        if inside[0] and not way[tuple(ahead[0])] and not (inside[1] and way[tuple(ahead[1])]):
            place, turns = ahead[0], 0
            way[tuple(place)] = 1
        else:
            step, turns = np.array([step[1], -step[0]]), turns + 1
    return way


@pytest.mark.parametrize(("size", "threshold"), [((16, 32), 0.2), ((33, 20), 0.5)])
def test_the_same_as_on_the_host(size, threshold):
    bridge = Bridge(threshold=threshold, min_area=0.1, max_border=0.5)
    masks = drawn(size)
    cleaned, numbers = jax.device_get(jax.jit(lambda m: clean(m, bridge))(masks.astype(np.int32)))
    expected, fallbacks = zip(*(host.clean(mask, bridge) for mask in masks), strict=True)
    np.testing.assert_array_equal(cleaned, expected)
    assert [FALLBACKS[number] for number in numbers] == list(fallbacks)
    assert set(fallbacks) == set(FALLBACKS)


def test_the_first_of_regions_of_one_size_is_kept():
    mask = np.zeros((1, 16, 16), np.int32)
    mask[0, 2:5, 9:12] = mask[0, 3:6, 2:5] = mask[0, 10:13, 5:8] = 255
    cleaned, _ = jax.jit(lambda m: clean(m, Bridge(min_area=0.0)))(mask)
    assert (
        np.asarray(cleaned[0] > 0) == ((np.indices((16, 16))[0] < 5) & (np.indices((16, 16))[1] > 8) & (mask[0] > 0))
    ).all()


@pytest.mark.parametrize(("pixels", "fallback"), [(15, "tiny"), (16, ""), (30, ""), (31, "border")])
def test_limits_belong_to_what_is_allowed(pixels, fallback):
    """Of pixels one after the other along the border, 60 in all, of 256."""
    bridge = Bridge(min_area=16 / 256, max_border=30 / 60)
    way = [(0, i) for i in range(15)] + [(i, 15) for i in range(15)] + [(15, 15 - i) for i in range(15)]
    mask = np.zeros((1, 16, 16), np.uint8)
    mask[0][tuple(np.array(way[:pixels]).T)] = 255
    _, number = jax.jit(lambda m: clean(m, bridge))(mask.astype(np.int32))
    assert FALLBACKS[number[0]] == host.clean(mask[0], bridge)[1] == fallback
