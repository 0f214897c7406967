"""Depthwise convolution with its own gradients.

XLA's grouped convolution is 15-30 times slower on a CPU than adding up shifted, scaled copies of the input, and its
weight gradient is slower still. On a CPU all three passes are therefore written as shifts; elsewhere they stay `lax`
convolutions, which cuDNN and the TPU's compiler serve well.
"""

import functools
import itertools
import operator
from typing import cast

import jax
import jax.numpy as jnp
from jax import lax

from segfusion_jax.ops import native
from segfusion_jax.ops.normalization import NATIVE_ACTIVATIONS, Activation, Moments, channel_moments, identity
from segfusion_jax.ops.window import Padding, check_channels, check_window


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise_moments(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> tuple[jax.Array, Moments]:
    """Convolves each channel with a kernel of its own, and adds up what a batch norm after it needs.

    Args:
      x: [batch, height, width, channels].
      kernel: [size, size, channels], of x's dtype.
      stride: of both axes.
      padding: zeros added ((above, below), (left, right)).

    Returns:
      [batch, new_height, new_width, channels], and its `Moments`, through which no gradient goes.

    Raises:
      ValueError: the kernel does not fit the image.
    """
    check_window(x, kernel, stride, padding)
    options = {"stride": stride, "padding": padding}
    return _either(_native_moments, _shifted_moments, _lax_moments, options, x, kernel)


def _forward(x, kernel, stride, padding):
    return depthwise_moments(x, kernel, stride, padding), (x, kernel)


def _backward(stride, padding, residuals, cotangents):
    options = {"stride": stride, "padding": padding}
    return _either(_native_gradients, _shifted_gradients, _lax_gradients, options, *residuals, cotangents[0])


depthwise_moments.defvjp(_forward, _backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def depthwise_conv(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, stride: int, padding: Padding, activation: Activation = identity
) -> jax.Array:
    """activation(convolution + bias); x, kernel, stride, padding as above, bias [channels] of x's dtype."""
    check_window(x, kernel, stride, padding)
    check_channels(x.shape[-1], bias=bias)
    options = {"stride": stride, "padding": padding, "activation": activation}
    in_native = _native_conv if activation in NATIVE_ACTIVATIONS else _shifted_conv
    return _either(in_native, _shifted_conv, _lax_conv, options, x, kernel, bias)


def _conv_forward(x, kernel, bias, stride, padding, activation):
    return depthwise_conv(x, kernel, bias, stride, padding, activation), (x, kernel, bias)


def _conv_backward(stride, padding, activation, residuals, gradient):
    def in_steps(x, kernel, bias):
        y, _ = cast(tuple, depthwise_moments(x, kernel, stride, padding))
        return activation(y + bias)

    return jax.vjp(in_steps, *residuals)[1](gradient)


depthwise_conv.defvjp(_conv_forward, _conv_backward)


def _either(in_native, in_shifts, in_lax, options, *arrays):
    in_native, in_shifts, in_lax = (functools.partial(f, **options) for f in (in_native, in_shifts, in_lax))

    def without_native(*arrays):
        return lax.platform_dependent(*arrays, cpu=in_shifts, default=in_lax)

    is_built = arrays[1].shape[0] in (3, 5) and options["stride"] in (1, 2)
    return native.either(in_native, without_native, *arrays) if is_built else without_native(*arrays)


def _lax_linear(x, kernel, *, stride, padding):
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None, :],
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _lax_conv(x, kernel, bias, *, stride, padding, activation):
    return activation(_lax_linear(x, kernel, stride=stride, padding=padding) + bias)


def _lax_moments(x, kernel, *, stride, padding):
    y = _lax_linear(x, kernel, stride=stride, padding=padding)
    return y, channel_moments(y)


def _lax_gradients(x, kernel, gradient, *, stride, padding):
    return jax.vjp(functools.partial(_lax_linear, stride=stride, padding=padding), x, kernel)[1](gradient)


def _native_conv(x, kernel, bias, *, stride, padding, activation):
    return _native_call(x, kernel, bias, stride, padding, NATIVE_ACTIVATIONS[activation], moments=0)[0]


def _native_moments(x, kernel, *, stride, padding):
    no_bias = jnp.zeros((0,), x.dtype)
    y, *moments = _native_call(x, kernel, no_bias, stride, padding, 0, moments=x.shape[-1])
    return y, tuple(moments)


def _native_call(x, kernel, bias, stride, padding, activation, *, moments):
    size = kernel.shape[0]
    sides = ((side + sum(pad) - size) // stride + 1 for side, pad in zip(x.shape[1:3], padding, strict=True))
    shape = (x.shape[0], *sides, x.shape[3])
    outputs = tuple(jax.ShapeDtypeStruct(s, x.dtype) for s in (shape, (moments,), (moments,)))
    window = native.window(size, stride, padding)
    return native.call("depthwise", outputs, x, kernel, bias, activation=activation, **window)


def _native_gradients(x, kernel, gradient, *, stride, padding):
    like_x, like_kernel = (jax.ShapeDtypeStruct(array.shape, array.dtype) for array in (x, kernel))
    window = native.window(kernel.shape[0], stride, padding)
    dx = native.call("depthwise_input_gradient", like_x, gradient, kernel, **window)
    return dx, native.call("depthwise_kernel_gradient", like_kernel, x, gradient, **window)


def _shifted_conv(x, kernel, bias, *, stride, padding, activation):
    return activation(_shifted_linear(x, kernel, stride=stride, padding=padding) + bias)


def _shifted_moments(x, kernel, *, stride, padding):
    y = _shifted_linear(x, kernel, stride=stride, padding=padding)
    return y, channel_moments(y)


def _shifted_linear(x, kernel, *, stride, padding):
    size = kernel.shape[0]
    return _sum(window * kernel[i, j] for i, j, window in _windows(_pad(x, padding), size, stride))


def _shifted_gradients(x, kernel, gradient, *, stride, padding):
    return _input_gradient(x, kernel, gradient, stride, padding), _kernel_gradient(x, kernel, gradient, stride, padding)


def _input_gradient(x, kernel, gradient, stride, padding):
    """The gradient, spread out by the stride and padded back, convolved with the flipped kernel."""
    size = kernel.shape[0]
    config = [(0, 0, 0)]
    for length, steps, (before, _) in zip(x.shape[1:3], gradient.shape[1:3], padding, strict=True):
        spread = (steps - 1) * stride + 1
        low = size - 1 - before
        config.append((low, length + size - 1 - spread - low, stride - 1))
    padded = lax.pad(gradient, jnp.zeros((), gradient.dtype), [*config, (0, 0, 0)])
    return _sum(window * kernel[size - 1 - i, size - 1 - j] for i, j, window in _windows(padded, size, 1))


def _kernel_gradient(x, kernel, gradient, stride, padding):
    """All taps in one variadic reduction: one by one, XLA:CPU's column sums cost several times as much."""
    size = kernel.shape[0]
    gradient = gradient.astype(jnp.float32)
    products = [window.astype(jnp.float32) * gradient for _, _, window in _windows(_pad(x, padding), size, stride)]
    zeros = [jnp.zeros((), jnp.float32)] * len(products)
    sums = lax.reduce(products, zeros, lambda a, b: [p + q for p, q in zip(a, b, strict=True)], (0, 1, 2))
    return jnp.stack(sums).reshape(kernel.shape).astype(kernel.dtype)


def _windows(padded, size, stride):
    """Yields (row, column, the inputs that the kernel's tap at (row, column) meets), for every tap."""
    batch, height, width, channels = padded.shape
    rows, columns = (height - size) // stride + 1, (width - size) // stride + 1
    for i, j in itertools.product(range(size), range(size)):
        end = (batch, i + (rows - 1) * stride + 1, j + (columns - 1) * stride + 1, channels)
        yield i, j, lax.slice(padded, (0, i, j, 0), end, (1, stride, stride, 1))


def _pad(x, padding):
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)])


def _sum(terms):
    return functools.reduce(operator.add, terms)
