"""Batch norm together with the activation after it, with its own gradients.

One pass over the input makes the statistics and one the output; the gradient takes two more, in which the activation is
computed again from the input, so that nothing but the input is kept.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from segfusion_jax.ops import native

Activation = Callable[[jax.Array], jax.Array]

MOMENTS = "batch norm moments"
"""Name, for policies of `jax.checkpoint`, of the means and variances that a batch norm works with."""

Moments = tuple[jax.Array, jax.Array]
"""Sums of an array and of its square over all axes but the last, each [channels] float32."""


def identity(x: jax.Array) -> jax.Array:
    """Returns x as it is: no activation."""
    return x


NATIVE_ACTIVATIONS = {identity: 0, jax.nn.relu: 1, jax.nn.silu: 2, jax.nn.hard_swish: 3}
"""Their numbers in cpu/activation.h."""


def channel_moments(x: jax.Array) -> Moments:
    """Sums x [..., channels] and its square over all axes but the last; no gradient goes through the sums."""
    return native.either(_native_moments, _jax_moments, lax.stop_gradient(x))


def check_channels(channels: int, **arrays: jax.Array) -> None:
    """Raises ValueError where one of the arrays, given by their names, is not of shape [channels]."""
    for name, array in arrays.items():
        if array.shape != (channels,):
            raise ValueError(f"{name} of shape {array.shape}: must be {(channels,)}")


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def scale_shift(x: jax.Array, scale: jax.Array, shift: jax.Array, activation: Activation) -> jax.Array:
    """Computes activation(x * scale + shift) in float32.

    Args:
      x: [..., channels].
      scale: [channels] float32, what values are multiplied by.
      shift: [channels] float32, what is added then.
      activation: activation of each element.

    Returns:
      An array of x's shape and dtype.
    """
    check_channels(x.shape[-1], scale=scale, shift=shift)
    return _either(_native_apply, _jax_apply, activation, x, scale, shift)


def _scale_shift_forward(x, scale, shift, activation):
    return scale_shift(x, scale, shift, activation), (x, scale, shift)


def _scale_shift_backward(activation, residuals, gradient):
    x, scale, shift = residuals
    none = jnp.zeros_like(scale)
    sums, products = _either(_native_sums, _jax_sums, activation, x, gradient, scale, shift)
    dx = _either(_native_gradient, _jax_gradient, activation, x, gradient, scale, shift, none, none)
    return dx, products, sums


scale_shift.defvjp(_scale_shift_forward, _scale_shift_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def batch_norm(
    x: jax.Array,
    moments: Moments,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    activation: Activation,
    axis_name: str | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises by the batch's own statistics (Ioffe and Szegedy, arXiv 1502.03167), then the activation.

    Args:
      x: [..., channels].
      moments: sums over x that `channel_moments` makes. The gradient of x is that of the whole: none goes through them.
      scale: [channels] float32, what values are multiplied by.
      bias: [channels] float32, what is added then.
      epsilon: added to the variance.
      activation: activation of each element.
      axis_name: axis of the devices that share their statistics; None for each device's own.

    Returns:
      Output of x's shape and dtype; mean and variance over all axes but the last, [channels] float32. They are for
      running averages: no gradient goes through them either.
    """
    return _batch_norm_forward(x, moments, scale, bias, epsilon, activation, axis_name)[0]


def _batch_norm_forward(x, moments, scale, bias, epsilon, activation, axis_name) -> tuple[Any, Any]:
    count = x.size // x.shape[-1]
    mean, square = (total / count for total in moments)
    if axis_name is not None:
        mean, square = lax.pmean((mean, square), axis_name)
    mean, var = checkpoint_name((mean, jnp.maximum(square - jnp.square(mean), 0.0)), MOMENTS)
    slope = scale * lax.rsqrt(var + epsilon)
    y = scale_shift(x, slope, bias - mean * slope, activation)
    return (y, mean, var), (x, mean, var, scale, bias)


def _batch_norm_backward(epsilon, activation, axis_name, residuals, cotangents):
    """Computes dx = slope (g - mean(g) - x^ mean(g x^)), g the gradient after the activation's, x^ the normalised x."""
    x, mean, var, scale, bias = residuals
    gradient = cotangents[0]
    rate = lax.rsqrt(var + epsilon)
    slope = scale * rate
    shift = bias - mean * slope
    sums, products = _either(_native_sums, _jax_sums, activation, x, gradient, slope, shift)
    dscale, dbias = rate * (products - mean * sums), sums
    count = x.size // x.shape[-1]
    mean_gradient, mean_product = dbias / count, dscale / count
    if axis_name is not None:
        mean_gradient, mean_product = lax.pmean((mean_gradient, mean_product), axis_name)
    linear = -slope * rate * mean_product
    constant = -slope * mean_gradient - linear * mean
    dx = _either(_native_gradient, _jax_gradient, activation, x, gradient, slope, shift, linear, constant)
    none = jnp.zeros_like(mean)
    return dx, (none, none), dscale, dbias


batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


def _either(in_native, in_jax, activation, *arrays):
    number = NATIVE_ACTIVATIONS.get(activation)
    kernel, fallback = functools.partial(in_native, number), functools.partial(in_jax, activation)
    return native.either(kernel, fallback, *arrays, is_built=number is not None)


def _native_moments(x):
    channels = jax.ShapeDtypeStruct(x.shape[-1:], x.dtype)
    return tuple(native.call("moments", (channels, channels), x))


def _native_apply(activation, x, scale, shift):
    return native.call("norm_act", jax.ShapeDtypeStruct(x.shape, x.dtype), x, scale, shift, activation=activation)


def _native_sums(activation, x, gradient, scale, shift):
    channels = jax.ShapeDtypeStruct(x.shape[-1:], x.dtype)
    outputs = native.call("norm_act_sums", (channels, channels), x, gradient, scale, shift, activation=activation)
    return tuple(outputs)


def _native_gradient(activation, x, gradient, *per_channel):
    like_x = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return native.call("norm_act_gradient", like_x, x, gradient, *per_channel, activation=activation)


def _jax_moments(x):
    return lax.platform_dependent(x, cuda=_moments_by_one_reduction, default=_moments_by_two)


def _moments_by_one_reduction(x):
    """For two reductions XLA reads what a matrix product made twice on a GPU; on a CPU one adds number after number."""
    wide, zero = x.astype(jnp.float32), jnp.zeros((), jnp.float32)
    axes = tuple(range(x.ndim - 1))
    return tuple(lax.reduce((wide, jnp.square(wide)), (zero, zero), lambda a, b: (a[0] + b[0], a[1] + b[1]), axes))


def _moments_by_two(x):
    axes = tuple(range(x.ndim - 1))
    wide = x.astype(jnp.float32)
    return wide.sum(axes), jnp.square(wide).sum(axes)


def _jax_apply(activation, x, scale, shift):
    return activation(x.astype(jnp.float32) * scale + shift).astype(x.dtype)


def _jax_sums(activation, x, gradient, scale, shift):
    axes = tuple(range(x.ndim - 1))
    inner = _before_activation(activation, x, gradient, scale, shift)
    return inner.sum(axes), (inner * x.astype(jnp.float32)).sum(axes)


def _jax_gradient(activation, x, gradient, scale, shift, linear, constant):
    """Computes the activation's gradient a second time; the barrier keeps XLA from storing it for the sums' pass.

    On a GPU it would be stored in float32, twice the bytes of the input that it is made of.
    """
    x, linear = lax.optimization_barrier((x, linear))
    inner = _before_activation(activation, x, gradient, scale, shift)
    return (inner * scale + x.astype(jnp.float32) * linear + constant).astype(x.dtype)


def _before_activation(activation, x, gradient, scale, shift):
    return jax.vjp(activation, x.astype(jnp.float32) * scale + shift)[1](gradient.astype(jnp.float32))[0]
