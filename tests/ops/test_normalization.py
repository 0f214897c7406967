"""Batch norm and activations against formulas in float64, whose gradients autodiff makes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from scipy.special import expit

from segfusion_jax.ops.normalization import batch_norm, channel_moments, identity, scale_shift
from tests.ops import reference

EPSILON = 1e-3
every_activation = pytest.mark.parametrize("activation", reference.ACTIVATIONS, ids=reference.NAMES)


def arguments(shape):
    """x with means and deviations of its own in each channel, scale, bias and the output's gradient."""
    x, scale, bias, gradient = reference.draw(0, shape, shape[-1:], shape[-1:], shape)
    return (
        x * np.linspace(0.5, 2, shape[-1], dtype="f4") + np.linspace(-1, 1, shape[-1], dtype="f4"),
        scale,
        bias,
        gradient,
    )


def formula(x, scale, bias, activation, epsilon=EPSILON):
    axes = tuple(range(x.ndim - 1))
    return activation((x - x.mean(axes)) / jnp.sqrt(x.var(axes) + epsilon) * scale + bias)


def normalize(x, scale, bias, activation, axis_name=None):
    return batch_norm(x, channel_moments(x), scale, bias, EPSILON, activation, axis_name)


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (2, 3, 5, 33), (3, 70, 90, 24), (4, 1, 1, 16), (70000, 1)])
def test_channel_moments(route, shape):
    x = arguments(shape)[0]
    total, square = channel_moments(x)
    expected = reference.moments(x.astype(np.float64))
    reference.assert_close(total / len(x), expected[0] / len(x), 1e-5)
    reference.assert_close(square, expected[1], 1e-5)


@every_activation
@pytest.mark.parametrize("shape", [(7, 3), (2, 3, 5, 33), (1, 60, 60, 8)])
def test_scale_shift_and_its_gradients(route, shape, activation):
    x, scale, shift, gradient = arguments(shape)
    value, slope = reference.ACTIVATIONS[activation]
    before = x.astype(np.float64) * scale + shift
    inner, axes = gradient * slope(before), tuple(range(x.ndim - 1))
    expected = value(before), (inner * scale, (inner * x).sum(axes), inner.sum(axes))

    def call(x, scale, shift):
        return scale_shift(x, scale, shift, activation)

    reference.assert_close(reference.value_and_gradients(call, gradient, x, scale, shift), expected)


@every_activation
@pytest.mark.parametrize("shape", [(2, 5, 7, 33), (1, 40, 37, 24)])
def test_batch_norm_and_its_gradients(route, shape, activation):
    x, scale, bias, gradient = arguments(shape)
    expected = reference.in_float64(functools.partial(formula, activation=activation), gradient, x, scale, bias)

    def call(x, scale, bias):
        return normalize(x, scale, bias, activation)[0]

    reference.assert_close(reference.value_and_gradients(call, gradient, x, scale, bias), expected, 2e-5)
    y, mean, var = normalize(x, scale, bias, activation)  # not compiled
    axes = tuple(range(x.ndim - 1))
    reference.assert_close((y, mean, var), (expected[0], x.mean(axes, np.float64), x.var(axes, np.float64)), 2e-5)


@pytest.mark.parametrize("activation", [identity, jax.nn.silu, jax.nn.hard_swish])
def test_bfloat16(activation):
    x, scale, bias, gradient = arguments((2, 5, 7, 6))
    x, gradient = x.astype(jnp.bfloat16), gradient.astype(jnp.bfloat16)
    expected = reference.in_float64(functools.partial(formula, activation=activation), gradient, x, scale, bias)
    actual = reference.value_and_gradients(lambda *a: normalize(*a, activation)[0], gradient, x, scale, bias)
    y, (dx, dscale, dbias) = actual
    assert y.dtype == dx.dtype == jnp.bfloat16 and dscale.dtype == dbias.dtype == np.float32
    reference.assert_close(actual, expected, 2e-2)
    # what is not rounded at the end is computed in float32
    reference.assert_close((dscale, dbias), expected[1][1:], 1e-5)


def test_no_gradient_goes_through_the_statistics(route):
    x, scale, bias, _ = arguments((2, 3, 4, 5))

    def total(x, scale, bias):
        _, mean, var = normalize(x, scale, bias, jax.nn.relu)
        return (mean + var).sum() + sum(array.sum() for array in channel_moments(x))

    moments = channel_moments(x)
    for gradient in jax.grad(total, (0, 1, 2))(x, scale, bias):
        assert not np.any(gradient)
    through = jax.grad(lambda m: batch_norm(x, m, scale, bias, EPSILON, jax.nn.relu, None)[0].sum())(moments)
    assert not np.any(through)


def on_devices(function):
    """Over four devices, of which each holds a quarter of x and of the gradient."""
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    specs = P("data"), P(), P(), P("data")
    return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=(P("data"), P()), check_vma=False)


def in_vmap(function):
    def spread(x, scale, bias, gradient):
        quarters = (array.reshape(4, -1, *array.shape[1:]) for array in (x, gradient))
        split, same = jax.vmap(function, (0, None, None, 0), axis_name="data")(
            next(quarters), scale, bias, next(quarters)
        )
        return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), split), jax.tree.map(lambda a: a[0], same)

    return spread


@pytest.mark.parametrize("spread", [on_devices, in_vmap])
def test_devices_that_share_their_statistics_are_one_large_batch(route, spread):
    x, scale, bias, gradient = arguments((8, 3, 5, 33))
    y, (dx, dscale, dbias) = reference.in_float64(
        functools.partial(formula, activation=jax.nn.silu), gradient, x, scale, bias
    )

    def share(x, scale, bias, gradient):
        (y, mean, var), vjp = jax.vjp(lambda *a: normalize(*a, jax.nn.silu, "data"), x, scale, bias)
        dx, dscale, dbias = vjp((gradient, jnp.zeros_like(mean), jnp.zeros_like(var)))
        return (y, dx), (mean, var, *jax.lax.psum((dscale, dbias), "data"))

    expected = (y, dx), (x.mean((0, 1, 2)), x.var((0, 1, 2)), dscale, dbias)
    reference.assert_close(jax.jit(spread(share))(x, scale, bias, gradient), expected, 2e-5)


@pytest.mark.parametrize("value", [0.0, 3.1, -1e4])
def test_constant_channels(route, value):
    x, scale, bias, gradient = arguments((2, 4, 4, 3))
    x[..., 1] = value
    (y, mean, var), vjp = jax.vjp(lambda *a: normalize(*a, jax.nn.relu), x, scale, bias)
    gradients = vjp((gradient, jnp.zeros_like(mean), jnp.zeros_like(var)))
    assert 0 <= var[1] <= 1e-6 * value**2 and mean[1] == pytest.approx(value, rel=1e-6)
    assert all(np.isfinite(array).all() for array in (y, *gradients))
    if value == 0:
        np.testing.assert_allclose(y[..., 1], max(bias[1], 0), rtol=1e-6)


def test_a_variance_far_smaller_than_the_mean(route):
    # the mean's square is 10,000 times the variance; XLA adds up in float32, the kernels in float64 where it matters
    tolerance = 1e-2 if route == "native" else 0.1
    x = (100 + np.random.default_rng(0).normal(size=(40, 25, 20, 3))).astype(np.float32)
    y, mean, var = normalize(x, np.ones(3, "f4"), np.zeros(3, "f4"), identity)
    np.testing.assert_allclose(mean, x.mean((0, 1, 2), np.float64), rtol=1e-5)
    np.testing.assert_allclose(var, x.var((0, 1, 2), np.float64), rtol=tolerance)
    np.testing.assert_allclose(y.std((0, 1, 2)), 1, rtol=tolerance)


@pytest.mark.parametrize("activation", list(reference.ACTIVATIONS)[:4], ids=reference.NAMES[:4])
def test_activations_are_accurate_where_exponentials_overflow(route, activation):
    z = np.concatenate([np.linspace(-100, 100, 20001), np.linspace(-1, 1, 2001)]).astype(np.float32)[:, None]
    one, none = np.ones(1, "f4"), np.zeros(1, "f4")
    y, vjp = jax.vjp(lambda x: scale_shift(x, one, none, activation), z)
    value, slope = reference.ACTIVATIONS[activation]
    wide = z.astype(np.float64)
    np.testing.assert_allclose(y, value(wide), rtol=1e-6, atol=1e-35)
    kink = np.isclose(np.abs(z), 3) | (z == 0)
    gradient = np.where(kink, slope(wide), vjp(np.ones_like(z))[0])
    np.testing.assert_allclose(gradient, slope(wide), rtol=2e-6, atol=2e-7)


def test_the_reference_of_silu_is_accurate_too():
    assert reference.ACTIVATIONS[jax.nn.silu][0](np.float64(-50)) == pytest.approx(-50 * np.exp(-50), rel=1e-12)
    assert expit(-50) > 0


@every_activation
def test_nan_and_infinity_stay_in_view(route, activation):
    x = np.array([np.nan, np.inf, -np.inf, 1], np.float32)[:, None].repeat(20, 1)
    y = np.asarray(scale_shift(x, np.ones(20, "f4"), np.zeros(20, "f4"), activation))
    assert np.isnan(y[0]).all()
    np.testing.assert_array_equal(y[1], 1.0 if activation is jnp.tanh else np.inf)
    if activation is jax.nn.relu:
        assert not y[2].any()
    elif activation is not jnp.tanh:
        assert not np.isfinite(y[2]).any()  # 0 x -inf, or what rounds to it
    assert np.isfinite(y[3]).all()


@pytest.mark.parametrize("activation", [jax.nn.relu, jax.nn.silu])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_nan_makes_all_of_its_channel_nan(route, activation, value):
    x, scale, bias, gradient = arguments((2, 5, 4, 19))
    x[1, 2, 3, 17] = value
    y, (dx, *_) = reference.value_and_gradients(lambda *a: normalize(*a, activation)[0], gradient, x, scale, bias)
    for array in (y, dx):
        assert (np.isnan(array).any((0, 1, 2)) == (np.arange(19) == 17)).all()
    assert np.isnan(y[..., 17]).all()


def test_elsewhere_both_moments_are_one_pass_and_no_gradient_is_kept_between_two():
    x, scale = jnp.ones((2, 4, 5, 8), jnp.bfloat16), jnp.ones(8)

    def text(function):
        return jax.jit(function).trace(x).lower(lowering_platforms=("cuda",)).as_text()

    def loss(x):
        return normalize(x, scale, scale, jax.nn.silu)[0].astype(jnp.float32).sum()

    assert text(channel_moments).count("stablehlo.reduce(") == 1
    assert "optimization_barrier" not in text(loss)
    assert "optimization_barrier" in text(jax.grad(loss))


def test_of_no_images_nothing_is_made(route):
    x, scale, bias = jnp.zeros((0, 4, 5, 3)), jnp.ones(3), jnp.zeros(3)
    assert scale_shift(x, scale, bias, jax.nn.silu).shape == x.shape
    assert normalize(x, scale, bias, jax.nn.silu)[0].shape == x.shape
    np.testing.assert_array_equal(channel_moments(x), np.zeros((2, 3)))


def test_a_scale_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"scale of shape \(1,\): must be \(3,\)"):
        scale_shift(jnp.zeros((2, 3)), jnp.ones(1), jnp.zeros(3), identity)
