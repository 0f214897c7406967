"""Depthwise convolution in its three forms against NumPy in float64, which test_conv.py compares with `lax`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from jax import lax

from segfusion_jax.ops import native
from segfusion_jax.ops.depthwise import depthwise_conv, depthwise_moments
from tests.ops import reference
from tests.ops.test_conv import windows

CASES = [
    # shape, size, stride, padding
    ((2, 6, 7, 5), 3, 1, ((1, 1), (1, 1))),
    ((1, 7, 6, 33), 3, 2, ((1, 1), (0, 1))),
    ((2, 8, 6, 24), 3, 2, ((1, 1), (1, 1))),
    ((2, 9, 5, 40), 5, 1, ((2, 2), (2, 2))),
    ((1, 8, 7, 70), 5, 2, ((1, 2), (2, 2))),
    ((2, 8, 8, 3), 5, 2, ((2, 2), (2, 2))),
    ((3, 5, 8, 16), 3, 2, ((0, 0), (2, 0))),  # the last column of the input is never read
    ((1, 1, 1, 1), 5, 2, ((2, 2), (2, 2))),
    ((1, 1, 1, 24), 3, 1, ((1, 1), (1, 1))),
    ((1, 35, 33, 17), 5, 1, ((2, 2), (2, 2))),
    ((9, 5, 4, 8), 3, 2, ((0, 1), (0, 1))),
    ((2, 8, 9, 5), 7, 1, ((3, 3), (3, 3))),  # from here on, what has no kernel
    ((2, 4, 5, 3), 1, 1, ((0, 0), (0, 0))),
    ((2, 8, 9, 5), 3, 3, ((1, 0), (1, 1))),
]


@pytest.fixture(params=["native", "shifts", "lax"])
def route(request, monkeypatch):
    """Runs a test with the kernels, then on a CPU without a compiler, and then, on the CPU too, as on a GPU."""
    if request.param == "native":
        request.getfixturevalue("kernels")
    else:
        monkeypatch.setattr(native, "available", lambda: False)
    if request.param == "lax":
        monkeypatch.setattr(lax, "platform_dependent", lambda *args, default, **platforms: default(*args))


def check_moments(shape, size, stride, padding, dtype=np.float32, tolerance=1e-5):
    x, kernel = reference.draw(0, shape, (size, size, shape[-1]), dtype=dtype)
    reference.check_moments(depthwise_moments, x, kernel, stride, padding, tolerance)


@pytest.mark.parametrize("case", CASES)
def test_value_moments_and_gradients(route, case):
    check_moments(*case)


@pytest.mark.parametrize("case", [CASES[1], CASES[3]])
def test_bfloat16(case):
    check_moments(*case, dtype=jnp.bfloat16, tolerance=2e-2)


@given(windows(sizes=(3, 5)))
@settings(max_examples=50, derandomize=True, deadline=None, database=None)
def test_any_window(case):
    shape, _, size, stride, padding = case
    check_moments(shape, size, stride, padding)


@pytest.mark.parametrize("activation", reference.ACTIVATIONS, ids=reference.NAMES)
@pytest.mark.parametrize("case", [CASES[1], CASES[3]])
def test_bias_and_activation(route, case, activation):
    shape, size, stride, padding = case
    x, kernel, bias = reference.draw(0, shape, (size, size, shape[-1]), shape[-1:])
    reference.check_activation(depthwise_conv, x, kernel, bias, stride, padding, activation)


def test_it_needs_no_jit(route):
    shape, size, stride, padding = CASES[1]
    x, kernel, bias = reference.draw(0, shape, (size, size, shape[-1]), shape[-1:])
    expected = reference.conv(x, kernel, stride, padding) + bias
    reference.assert_close(depthwise_conv(x, kernel, bias, stride, padding), expected)
    dx = jax.grad(lambda x: depthwise_moments(x, kernel, stride, padding)[0].sum())(x)
    ones = np.ones_like(expected)
    reference.assert_close(dx, reference.conv_gradients(x, kernel, stride, padding, ones)[0])


@pytest.mark.parametrize("stride", [1, 2])
def test_nan_and_infinity_stay_in_view(route, stride):
    x, kernel, bias = reference.draw(0, (2, 5, 5, 20), (3, 3, 20), (20,))
    for value in (np.nan, np.inf):
        x[1, 4, 4, 18] = value
        y = np.asarray(depthwise_conv(x, np.abs(kernel), bias, stride, ((1, 1), (1, 1)), jax.nn.relu))
        assert not np.isfinite(y[1, -1, -1, 18])
        assert np.isfinite(np.delete(y, 18, axis=-1)).all() and np.isfinite(y[0]).all() and np.isfinite(y[1, 0]).all()
        moments = np.stack(depthwise_moments(x, kernel, stride, ((1, 1), (1, 1)))[1])
        assert (np.isfinite(moments).all(0) == (np.arange(20) != 18)).all()


def test_bfloat16_kernel_gradient_is_summed_in_float32():
    # 1024 ones: a bfloat16 sum stops growing at 256
    x, kernel, bias = (
        jnp.ones((1, 32, 32, 1), jnp.bfloat16),
        jnp.ones((1, 1, 1), jnp.bfloat16),
        jnp.zeros(1, "bfloat16"),
    )

    def total(kernel):
        return depthwise_conv(x, kernel, bias, 1, ((0, 0), (0, 0))).astype(jnp.float32).sum()

    assert jax.grad(total)(kernel).item() == 1024


@pytest.mark.parametrize(("platform", "convolves"), [("cpu", False), ("cuda", True), ("tpu", True)])
def test_only_the_cpu_shifts(platform, convolves, monkeypatch):
    monkeypatch.setattr(native, "available", lambda: False)
    step = jax.jit(jax.grad(lambda x, k: depthwise_moments(x, k, 1, ((1, 1), (1, 1)))[0].sum(), (0, 1)))
    lowered = step.trace(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2))).lower(lowering_platforms=(platform,))
    assert ("stablehlo.convolution" in lowered.as_text()) == convolves


def test_of_no_images_nothing_is_made(route):
    x, kernel, bias, gradient = reference.draw(0, (0, 4, 5, 3), (3, 3, 3), (3,), (0, 4, 5, 3))
    call = functools.partial(depthwise_conv, stride=1, padding=((1, 1), (1, 1)), activation=jax.nn.silu)
    y, (dx, dkernel, dbias) = reference.value_and_gradients(lambda *a: call(*a), gradient, x, kernel, bias)
    assert y.shape == dx.shape == x.shape
    assert not dkernel.any() and not dbias.any()


@pytest.mark.parametrize(
    ("kernel", "padding", "message"),
    [
        ((3, 3, 3, 2), ((1, 1), (1, 1)), r"must be \(size, size, channels\)"),
        ((3, 5, 3), ((1, 1), (1, 1)), "must begin with"),
        ((3, 3, 1), ((1, 1), (1, 1)), "must begin with"),
        ((3, 3, 3), ((1, 3), (1, 1)), "from 0 to 2"),
        ((5, 5, 3), ((1, 1), (1, 1)), "not be smaller than the kernel"),
    ],
)
def test_windows_that_do_not_fit_are_refused(kernel, padding, message):
    x, kernel = jnp.zeros((1, 5, 2, 3)), jnp.zeros(kernel)
    with pytest.raises(ValueError, match=message):
        depthwise_moments(x, kernel, 1, padding)
    with pytest.raises(ValueError, match=message):
        depthwise_conv(x, kernel, jnp.zeros(3), 1, padding)


def test_a_bias_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"bias of shape \(1,\): must be \(3,\)"):
        depthwise_conv(jnp.zeros((1, 4, 4, 3)), jnp.zeros((3, 3, 3)), jnp.zeros(1), 1, ((1, 1), (1, 1)))
