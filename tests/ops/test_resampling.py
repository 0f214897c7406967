"""Pooling and repetition against NumPy and hand-worked cases."""

import jax.numpy as jnp
import numpy as np
import pytest

from segfusion_jax.ops.resampling import max_pool_2x2, upsample_2x
from tests.ops import reference


def test_max_pool_by_hand(route):
    image = jnp.array([[1, 2, 9, 0], [3, 4, 0, 0], [-5, -6, 0, 0], [-7, -8, 0, 7]], jnp.float32)
    batch = jnp.stack([image, -image], axis=-1)[None]
    expected = [[[4, -1], [9, 0]], [[-5, 8], [7, 0]]]
    np.testing.assert_array_equal(max_pool_2x2(batch), [expected])


@pytest.mark.parametrize(
    ("block", "first"),
    [
        ([[1, 1], [1, 1]], (0, 0)),
        ([[0, 2], [2, 2]], (1, 0)),  # the left column goes first
        ([[0, 3], [3, 0]], (1, 0)),
        ([[4, 0], [0, 4]], (0, 0)),
        ([[1, 2], [4, 3]], (1, 0)),
        ([[1, 2], [0, 3]], (1, 1)),
        ([[-0.0, 0.0], [0.0, 0.0]], (0, 0)),
    ],
)
def test_of_equal_values_the_first_gets_all_of_the_gradient(route, block, first):
    image = jnp.array(block, jnp.float32).reshape(1, 2, 2, 1).repeat(20, axis=-1)
    y, (gradient,) = reference.value_and_gradients(max_pool_2x2, jnp.full((1, 1, 1, 20), 5.0), image)
    expected = np.zeros((2, 2))
    expected[first] = 5
    np.testing.assert_array_equal(gradient[0], np.stack(20 * [expected], -1))
    assert (y == np.max(block)).all()


@pytest.mark.parametrize(
    "shape", [(2, 4, 6, 3), (1, 1, 1, 1), (2, 3, 4, 33), (1, 7, 5, 24), (3, 8, 1, 16), (1, 2, 2, 70)]
)
def test_max_pool_of_any_sides_and_its_gradient(route, shape):
    x = reference.draw(0, shape)[0] - 5  # zeros would win
    _, height, width, _ = shape
    padded = np.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), constant_values=-np.inf)
    expected = np.maximum.reduce([padded[:, i::2, j::2] for i in (0, 1) for j in (0, 1)])
    (cotangent,) = reference.draw(1, expected.shape)
    y, (gradient,) = reference.value_and_gradients(max_pool_2x2, cotangent, x)
    np.testing.assert_array_equal(y, expected)
    spread = [array.repeat(2, axis=1).repeat(2, axis=2)[:, :height, :width] for array in (expected, cotangent)]
    np.testing.assert_array_equal(gradient, np.where(x == spread[0], spread[1], 0))


@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_nan_and_infinity_stay_in_view(route, place):
    x = np.zeros((1, 2, 4, 17), np.float32)
    for value in (np.nan, np.inf):
        x[0, place[0], place[1], 3] = value
        y = max_pool_2x2(x)
        np.testing.assert_array_equal(y[0, 0, 0], np.where(np.arange(17) == 3, value, 0))
        assert not np.any(y[0, 0, 1])


def test_max_pool_keeps_bfloat16(route):
    (x,) = reference.draw(0, (2, 5, 4, 3), dtype=jnp.bfloat16)
    y = max_pool_2x2(x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y.astype(np.float32), max_pool_2x2(x.astype(np.float32)))


def test_integers_are_pooled_too(route):
    x = np.arange(2 * 4 * 6 * 3, dtype=np.uint32).reshape(2, 4, 6, 3)
    np.testing.assert_array_equal(max_pool_2x2(x), x[:, 1::2, 1::2])


def test_of_no_images_nothing_is_made(route):
    y, (dx,) = reference.value_and_gradients(max_pool_2x2, jnp.zeros((0, 2, 3, 3)), jnp.zeros((0, 3, 6, 3)))
    assert (y.shape, dx.shape) == ((0, 2, 3, 3), (0, 3, 6, 3))


def test_upsampling_repeats_pixels_and_adds_up_their_gradients():
    x, gradient = reference.draw(0, (2, 3, 5, 4), (2, 6, 10, 4))
    y, (dx,) = reference.value_and_gradients(upsample_2x, gradient, x)
    np.testing.assert_array_equal(y, x.repeat(2, axis=1).repeat(2, axis=2))
    reference.assert_close(dx, gradient.reshape(2, 3, 2, 5, 2, 4).sum((2, 4)))
