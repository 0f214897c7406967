"""Resizing on the device against OpenCV's."""

import jax
import numpy as np
import pytest

from segfusion_jax.bridge import resize as host
from segfusion_jax.bridge.traced_resize import crop, resize


def noise(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, *size, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("old", "most"), [((24, 32), 1), ((50, 36), 1), ((75, 100), 1), ((100, 140), 1), ((192, 256), 2)]
)
@pytest.mark.parametrize("new", [(24, 32), (40, 40), (61, 30)])
def test_as_the_host_to_a_level_of_grey_for_each_time_it_rounds(old, most, new):
    images = noise(old)
    found = np.asarray(jax.jit(lambda x: resize(x, new))(images.astype(np.float32)))
    expected = np.stack([host.resize(image, new) for image in images]).astype(int)
    assert np.abs(found - expected).max() <= most and np.ptp(expected) > 50


def test_each_image_is_cut_at_its_own_place():
    images = noise((50, 36))
    rows, columns = (np.array([0, 10]), np.array([50, 35])), (np.array([5, 0]), np.array([36, 12]))
    found = np.asarray(jax.jit(lambda x: crop(x, rows, columns, (20, 20)))(images.astype(np.float32)))
    parts = images[0, 0:50, 5:36], images[1, 10:35, 0:12]
    expected = np.stack([host.resize(np.ascontiguousarray(part), (20, 20)) for part in parts]).astype(int)
    assert np.abs(found - expected).max() <= 1
