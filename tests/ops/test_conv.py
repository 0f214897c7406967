"""Convolutions and their gradients against NumPy in float64, and NumPy's against `lax`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from segfusion_jax.models.layers import zero_padding
from segfusion_jax.ops.conv import conv, conv_moments, transposed_conv_3x3
from tests.ops import reference

NONE, ONE = ((0, 0), (0, 0)), ((1, 1), (1, 1))
CASES = [
    # shape, filters, size, stride, padding
    ((2, 4, 5, 70), 3, 1, 1, NONE),
    ((1, 1, 1, 3), 1, 1, 1, NONE),
    ((3, 20, 19, 5), 33, 1, 1, NONE),
    ((2, 6, 7, 3), 5, 3, 1, ONE),
    ((1, 1, 1, 1), 1, 3, 1, ONE),
    ((2, 5, 4, 24), 40, 3, 1, ((2, 0), (0, 1))),
    ((1, 40, 37, 5), 17, 3, 1, ONE),
    ((2, 5, 9, 33), 40, 3, 1, ONE),  # from here to the next gap, of 32 channels and filters: Winograd's
    ((1, 1, 1, 40), 70, 3, 1, ONE),
    ((2, 9, 6, 40), 33, 3, 1, NONE),
    ((1, 8, 3, 32), 32, 3, 1, ((2, 2), (0, 1))),
    ((5, 33, 17, 32), 33, 3, 1, ONE),
    ((2, 8, 6, 24), 40, 3, 2, ((0, 1), (0, 1))),
    ((2, 8, 6, 24), 40, 3, 2, ONE),
    ((2, 7, 5, 3), 33, 3, 2, ONE),
    ((1, 1, 2, 5), 1, 3, 2, ((1, 1), (0, 1))),
    ((1, 38, 41, 3), 16, 3, 2, ((0, 1), (1, 1))),
]


@pytest.mark.parametrize("case", [CASES[3], CASES[5], CASES[12], CASES[0]])
def test_the_reference_is_laxs_convolution(case):
    shape, filters, size, stride, padding = case
    x, kernel = reference.draw(0, shape, (size, size, shape[-1], filters))
    expected = reference.conv(x, kernel, stride, padding)
    (gradient,) = reference.draw(1, expected.shape)

    def in_lax(x, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=numbers)

    actual = reference.in_float64(in_lax, gradient, x, kernel)
    gradients = reference.conv_gradients(x, kernel, stride, padding, gradient)
    reference.assert_close(actual, (expected, gradients), 1e-12)


def check_moments(shape, filters, size, stride, padding, dtype=np.float32, tolerance=1e-5):
    x, kernel = reference.draw(0, shape, (size, size, shape[-1], filters), dtype=dtype)
    reference.check_moments(conv_moments, x, kernel, stride, padding, tolerance)


@pytest.mark.parametrize("case", CASES)
def test_value_moments_and_gradients(route, case):
    check_moments(*case)


@pytest.mark.parametrize("case", [CASES[0], CASES[3], CASES[12]])
def test_bfloat16(case):
    check_moments(*case, dtype=jnp.bfloat16, tolerance=2e-2)


@st.composite
def windows(draw, sizes=(1, 3, 3, 3)):
    """Shape, filters, size, stride, padding."""
    channels = st.one_of(st.integers(1, 40), st.sampled_from([1, 8, 16, 32, 33, 48, 64]))
    size, filters = draw(st.sampled_from(sizes)), draw(channels)
    stride = 1 if size == 1 else draw(st.sampled_from([1, 2]))
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 12)), draw(st.integers(1, 12)), draw(channels))
    fitting = [((0, 0), (0, 0))] if min(shape[1:3]) >= size else []
    usual = [zero_padding(name, shape, size, stride) for name in ("same", "symmetric")]
    return shape, filters, size, stride, draw(st.sampled_from([*usual, *fitting]))


@given(windows())
@settings(max_examples=60, derandomize=True, deadline=None, database=None)
def test_any_window(case):
    check_moments(*case)


@pytest.mark.parametrize("activation", reference.ACTIVATIONS, ids=reference.NAMES)
@pytest.mark.parametrize("case", [CASES[2], CASES[3], CASES[7], CASES[14]], ids=["1x1", "3x3", "winograd", "strided"])
def test_bias_and_activation(route, case, activation):
    shape, filters, size, stride, padding = case
    x, kernel, bias = reference.draw(0, shape, (size, size, shape[-1], filters), (filters,))
    kernel /= np.sqrt(kernel[..., 0].size) / 3  # so that all of the activation is met
    reference.check_activation(conv, x, kernel, bias, stride, padding, activation)


@pytest.mark.parametrize("case", [CASES[2], CASES[6], CASES[7]])
def test_it_needs_no_jit(route, case):
    shape, filters, size, stride, padding = case
    x, kernel, bias = reference.draw(0, shape, (size, size, shape[-1], filters), (filters,))
    expected = reference.conv(x, kernel, stride, padding) + bias
    reference.assert_close(conv(x, kernel, bias, stride, padding), expected)
    dkernel = jax.grad(lambda kernel: conv_moments(x, kernel, stride, padding)[0].sum())(kernel)
    ones = np.ones_like(expected)
    reference.assert_close(dkernel, reference.conv_gradients(x, kernel, stride, padding, ones)[1])


@pytest.mark.parametrize("activation", [jax.nn.silu, jnp.tanh])
def test_bfloat16_with_an_activation(activation):
    x, kernel, bias = reference.draw(0, (2, 5, 4, 3), (3, 3, 3, 5), (5,), dtype=jnp.bfloat16)
    y = conv(x, kernel, bias, 1, ONE, activation)
    assert y.dtype == jnp.bfloat16
    before = reference.conv(x, kernel, 1, ONE) + bias.astype(np.float64)
    reference.assert_close(y, reference.ACTIVATIONS[activation][0](before), 2e-2)


@pytest.mark.parametrize("case", [CASES[2], CASES[6], CASES[11], CASES[14]], ids=["1x1", "3x3", "winograd", "strided"])
def test_nan_and_infinity_stay_in_view(route, case):
    shape, filters, size, stride, padding = case
    x, kernel, bias = reference.draw(0, shape, (size, size, shape[-1], filters), (filters,))
    for value in (np.nan, np.inf):
        x[-1, -1, -1, 0] = value
        y = np.asarray(conv(x, np.abs(kernel), bias, stride, padding, jax.nn.relu))
        assert not np.isfinite(y[-1, -1, -1]).any()
        assert np.isfinite(y[:-1]).all() and np.isfinite(y[-1, 0, 0]).all()
        _, moments = conv_moments(x, kernel, stride, padding)
        assert not np.isfinite(np.stack(moments)).any()


@pytest.mark.parametrize(
    ("shape", "channels", "filters"), [((2, 3, 4), 3, 2), ((1, 1, 1), 1, 33), ((2, 5, 2), 40, 24), ((1, 30, 37), 5, 17)]
)
def test_transposed_conv_and_its_gradients(route, shape, channels, filters):
    x, kernel, bias = reference.draw(0, (*shape, channels), (3, 3, channels, filters), (filters,))
    batch, height, width = shape
    (gradient,) = reference.draw(1, (batch, 2 * height, 2 * width, filters))
    padding = ((0, 1), (0, 1))  # 'SAME' of an even side: by definition it is the transpose of that convolution
    like_y = np.zeros(gradient.shape)
    y = reference.conv_gradients(like_y, kernel.swapaxes(2, 3), 2, padding, x)[0] + bias
    dx = reference.conv(gradient, kernel.swapaxes(2, 3), 2, padding)
    dkernel = reference.conv_gradients(gradient, kernel.swapaxes(2, 3), 2, padding, x)[1].swapaxes(2, 3)
    actual = reference.value_and_gradients(transposed_conv_3x3, gradient, x, kernel, bias)
    reference.assert_close(actual, (y, (dx, dkernel, gradient.sum((0, 1, 2)))))


def test_transposed_conv_by_hand(route):
    # one row of kernel taps, so that rows do not mix: input a, b -> a·k0, a·k1, a·k2 + b·k0, b·k1
    kernel = jnp.zeros((3, 3, 1, 1)).at[0, :, 0, 0].set(jnp.array([1.0, 10.0, 100.0]))
    output = transposed_conv_3x3(jnp.array([2.0, 3.0]).reshape(1, 1, 2, 1), kernel, jnp.full((1,), 0.5))
    np.testing.assert_array_equal(output[0, :, :, 0] - 0.5, [[2, 20, 203, 30], [0, 0, 0, 0]])


def test_transposed_conv_keeps_bfloat16():
    x, kernel, bias = reference.draw(0, (1, 2, 2, 3), (3, 3, 3, 2), (2,), dtype=jnp.bfloat16)
    (gradient,) = reference.draw(1, (1, 4, 4, 2), dtype=jnp.bfloat16)
    narrow = reference.value_and_gradients(transposed_conv_3x3, gradient, x, kernel, bias)
    assert {array.dtype for array in jax.tree.leaves(narrow)} == {jnp.dtype(jnp.bfloat16)}
    wide = (array.astype(np.float32) for array in (gradient, x, kernel, bias))
    reference.assert_close(narrow, reference.value_and_gradients(transposed_conv_3x3, *wide), 2e-2)


@pytest.mark.parametrize("size", [1, 3])
def test_of_no_images_nothing_is_made(route, size):
    padding = zero_padding("same", (0, 4, 5, 3), size, 1)
    x, kernel, bias, gradient = reference.draw(0, (0, 4, 5, 3), (size, size, 3, 2), (2,), (0, 4, 5, 2))

    def both(x, kernel, bias):
        return conv_moments(x, kernel, 1, padding)[0] + conv(x, kernel, bias, 1, padding, jax.nn.silu)

    y, (dx, dkernel, dbias) = reference.value_and_gradients(both, gradient, x, kernel, bias)
    assert y.shape == gradient.shape and dx.shape == x.shape
    assert not dkernel.any() and not dbias.any()


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "message"),
    [
        ((7, 7, 3, 2), 1, ONE, "size must be 3, or 1"),
        ((1, 1, 3, 2), 2, NONE, "size must be 3, or 1 with stride 1"),
        ((3, 3, 3), 1, ONE, r"must be \(size, size, channels, filters\)"),
        ((3, 1, 3, 2), 1, ONE, "must begin with"),
        ((3, 3, 4, 2), 1, ONE, r"image of shape \(1, 5, 2, 3\)"),
        ((3, 3, 3, 2), 1, ((3, 0), (1, 1)), "from 0 to 2"),
        ((3, 3, 3, 2), 1, ((1, 1), (-1, 1)), "from 0 to 2"),
        ((1, 1, 3, 2), 1, ONE, "from 0 to 0"),
        ((3, 3, 3, 2), 0, ONE, "must be >= 1"),
        ((3, 3, 3, 2), 1, NONE, "not be smaller than the kernel"),
    ],
)
def test_windows_that_are_not_built_are_refused(route, kernel, stride, padding, message):
    x, kernel = jnp.zeros((1, 5, 2, 3)), jnp.zeros(kernel)
    for call in (conv_moments, functools.partial(conv, bias=jnp.zeros(kernel.shape[-1]))):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(functools.partial(call, stride=stride, padding=padding), x, kernel)


def test_shapes_that_do_not_fit_are_refused():
    x, kernel, bias = jnp.zeros((1, 4, 4, 3)), jnp.zeros((3, 3, 3, 2)), jnp.zeros(2)
    with pytest.raises(ValueError, match=r"bias of shape \(1,\): must be \(2,\)"):
        conv(x, kernel, bias[:1], 1, ONE)
    with pytest.raises(ValueError, match="bias of shape"):
        transposed_conv_3x3(x, kernel, bias[:1])
    with pytest.raises(ValueError, match="must begin with"):
        transposed_conv_3x3(x, kernel[:, :, :2], bias)
    with pytest.raises(ValueError, match=r"must be \(3, 3, channels, filters\)"):
        transposed_conv_3x3(x, kernel[:1, :1], bias)


def test_many_images_make_accurate_moments(route):
    x, kernel = np.full((3, 320, 320, 1), 1.0001, np.float32), np.ones((1, 1, 1, 1), np.float32)
    _, (total, square) = conv_moments(x, kernel, 1, NONE)
    reference.assert_close((total[0], square[0]), (x.size * 1.0001, x.size * 1.0001**2), 1e-5)  # one by one: 1e-3
