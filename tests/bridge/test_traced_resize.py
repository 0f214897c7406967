"""Resizing on the device against OpenCV's."""

import jax
import numpy as np
import pytest

from segfusion_jax.bridge import resize as host
from segfusion_jax.bridge.traced_resize import crop, resize

NEW = [(24, 32), (40, 40), (61, 30), (7, 64)]


def noise(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, *size, 3)).astype(np.uint8)


def differences(images: np.ndarray, new: tuple[int, int]) -> np.ndarray:
    found = np.asarray(jax.jit(lambda x: resize(x, new))(images.astype(np.float32)))
    expected = np.stack([host.resize(image, new) for image in images]).astype(int)
    assert np.ptp(expected) > 20
    return found - expected


@pytest.mark.parametrize("old", [(1, 1), (5, 32), (24, 32), (27, 19), (48, 30), (49, 37), (48, 64), (71, 95)])
@pytest.mark.parametrize("new", NEW)
def test_the_hosts_where_it_does_not_halve(old, new):
    if host.spare_factor(old, new) >= 2 and old[0] % 2 == old[1] % 2 == 0:
        pytest.skip("the host halves")
    off = differences(noise(old), new)
    shrinks = old[0] > new[0] or old[1] > new[1]  # sums of floats that lie between two levels go either way
    assert np.abs(off).max() <= shrinks and (off != 0).mean() <= 0.01


@pytest.mark.parametrize(("old", "halvings"), [((100, 140), 1), ((200, 260), 2), ((400, 512), 3)])
def test_where_the_host_halves_it_rounds_up_each_time_by_an_eighth_on_average(old, halvings):
    off = differences(noise(old), (24, 32))
    assert np.abs(off).max() <= 1
    np.testing.assert_allclose(off.mean(), -halvings / 8, atol=0.02)


def test_each_image_is_cut_at_its_own_place():
    images = noise((50, 36))
    rows, columns = (np.array([0, 10]), np.array([50, 35])), (np.array([5, 0]), np.array([36, 12]))
    found = np.asarray(jax.jit(lambda x: crop(x, rows, columns, (20, 20)))(images.astype(np.float32)))
    parts = images[0, 0:50, 5:36], images[1, 10:35, 0:12]
    expected = np.stack([host.resize(np.ascontiguousarray(part), (20, 20)) for part in parts]).astype(int)
    np.testing.assert_array_equal(found, expected)
