"""Pooling and transposed convolution against hand-worked cases and the definition of a transpose."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from segfusion_jax.ops.resampling import max_pool_2x2, transposed_conv_3x3, upsample_2x


def whole_numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-2, 3, shape).astype(np.float32)


def transposed(x, kernel):
    """What a 'SAME' convolution of stride 2 does to the gradient of its output, by definition its transpose."""
    batch, height, width, _ = x.shape

    def convolution(y):
        swapped = kernel.transpose(0, 1, 3, 2)
        return lax.conv_general_dilated(y, swapped, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    image = jnp.zeros((batch, 2 * height, 2 * width, kernel.shape[-1]))
    return jax.vjp(convolution, image)[1](x)[0]


@pytest.mark.parametrize(("height", "width"), [(3, 4), (1, 1), (5, 2)])
def test_transposed_conv_and_its_gradients(height, width):
    x, kernel = whole_numbers(0, 2, height, width, 3), whole_numbers(1, 3, 3, 3, 2)
    gradient = whole_numbers(2, 2, 2 * height, 2 * width, 2)

    @functools.partial(jax.jit, static_argnums=0)
    def evaluate(conv, x, kernel, gradient):
        value, vjp = jax.vjp(conv, x, kernel)
        return value, *vjp(gradient)

    expected = evaluate(transposed, x, kernel, gradient)
    for own, wanted in zip(evaluate(transposed_conv_3x3, x, kernel, gradient), expected, strict=True):
        np.testing.assert_array_equal(own, wanted)


def test_transposed_conv_by_hand():
    # one row of kernel taps, so that rows do not mix: input a, b -> a·k0, a·k1, a·k2 + b·k0, b·k1
    kernel = jnp.zeros((3, 3, 1, 1)).at[0, :, 0, 0].set(jnp.array([1.0, 10.0, 100.0]))
    output = transposed_conv_3x3(jnp.array([2.0, 3.0]).reshape(1, 1, 2, 1), kernel)
    np.testing.assert_array_equal(output[0, :, :, 0], [[2, 20, 203, 30], [0, 0, 0, 0]])


def test_transposed_conv_keeps_bfloat16():
    x, kernel = whole_numbers(0, 1, 2, 2, 3), whole_numbers(1, 3, 3, 3, 2)
    narrow = transposed_conv_3x3(jnp.asarray(x, jnp.bfloat16), jnp.asarray(kernel, jnp.bfloat16))
    assert narrow.dtype == jnp.bfloat16
    np.testing.assert_array_equal(narrow.astype(jnp.float32), transposed_conv_3x3(x, kernel))


def test_max_pool_by_hand():
    image = jnp.array([[1, 2, 9, 0], [3, 4, 0, 0], [-5, -6, 0, 0], [-7, -8, 0, 7]], jnp.float32)
    batch = jnp.stack([image, -image], axis=-1)[None]
    expected = [[[4, -1], [9, 0]], [[-5, 8], [7, 0]]]
    np.testing.assert_array_equal(max_pool_2x2(batch), [expected])


def test_gradient_of_max_pool_goes_to_the_largest():
    image = jnp.array([[1.0, 2.0], [4.0, 3.0]]).reshape(1, 2, 2, 1)
    gradient = jax.grad(lambda x: 5 * max_pool_2x2(x).sum())(image)
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[0, 0], [5, 0]])


@pytest.mark.parametrize("block", [[[1, 1], [1, 1]], [[0, 2], [2, 2]], [[0, 3], [3, 0]], [[4, 0], [0, 4]]])
def test_of_equal_values_one_gets_all_of_max_pools_gradient(block):
    image = jnp.array(block, jnp.float32).reshape(1, 2, 2, 1)
    gradient = np.asarray(jax.grad(lambda x: 5 * max_pool_2x2(x).sum())(image))
    assert sorted(gradient.ravel()) == [0, 0, 0, 5]
    assert image[gradient == 5] == image.max()


@pytest.mark.parametrize(("height", "width"), [(3, 4), (4, 5), (1, 1), (7, 5)])
def test_max_pool_of_odd_sides_ends_with_half_a_block(height, width):
    x = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype(np.float32) - 5  # zeros would win
    padded = np.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), constant_values=-np.inf)
    expected = np.maximum.reduce([padded[:, i::2, j::2] for i in (0, 1) for j in (0, 1)])
    np.testing.assert_array_equal(max_pool_2x2(x), expected)
    gradient = jax.grad(lambda x: max_pool_2x2(x).sum())(jnp.asarray(x))
    np.testing.assert_array_equal(np.sort(gradient[gradient != 0]), np.ones(expected.size))


def test_upsampling_repeats_pixels():
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype(np.float32)
    np.testing.assert_array_equal(upsample_2x(x), x.repeat(2, axis=1).repeat(2, axis=2))
