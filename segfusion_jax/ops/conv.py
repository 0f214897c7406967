"""Convolution of size 1 or 3, and the transposed one that doubles height and width."""

import functools
from typing import cast

import jax
import jax.numpy as jnp
from jax import lax

from segfusion_jax.ops import native
from segfusion_jax.ops.normalization import (
    NATIVE_ACTIVATIONS,
    Activation,
    Moments,
    channel_moments,
    identity,
)
from segfusion_jax.ops.window import Padding, check_channels, check_window


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv_moments(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> tuple[jax.Array, Moments]:
    """Convolves, and adds up what a batch norm after it needs: on a CPU in the same pass.

    Args:
      x: [batch, height, width, channels].
      kernel: [size, size, channels, filters], of x's dtype; its size is 3, or 1 with a stride of 1.
      stride: of both axes.
      padding: zeros added ((above, below), (left, right)).

    Returns:
      [batch, new_height, new_width, filters], and its `Moments`, through which no gradient goes.

    Raises:
      ValueError: a kernel of another size, or one that does not fit the image.
    """
    _check(x, kernel, stride, padding)
    in_native = functools.partial(_native_moments, stride=stride, padding=padding)
    in_lax = functools.partial(_lax_moments, stride=stride, padding=padding)
    return native.either(in_native, in_lax, x, kernel)


def _moments_forward(x, kernel, stride, padding):
    return conv_moments(x, kernel, stride, padding), (x, kernel)


def _moments_backward(stride, padding, residuals, cotangents):
    options = {"stride": stride, "padding": padding}
    in_native, in_lax = functools.partial(_native_gradients, **options), functools.partial(_lax_gradients, **options)
    return native.either(in_native, in_lax, *residuals, cotangents[0])


conv_moments.defvjp(_moments_forward, _moments_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def conv(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, stride: int, padding: Padding, activation: Activation = identity
) -> jax.Array:
    """activation(convolution + bias); x, kernel, stride, padding as in `conv_moments`, bias [filters] of x's dtype."""
    _check(x, kernel, stride, padding)
    check_channels(kernel.shape[-1], bias=bias)
    options = {"stride": stride, "padding": padding, "activation": activation}
    in_native, in_lax = functools.partial(_native_conv, **options), functools.partial(_lax_conv, **options)
    return (
        in_lax(x, kernel, bias)
        if activation not in NATIVE_ACTIVATIONS
        else native.either(in_native, in_lax, x, kernel, bias)
    )


def _conv_forward(x, kernel, bias, stride, padding, activation):
    return conv(x, kernel, bias, stride, padding, activation), (x, kernel, bias)


def _conv_backward(stride, padding, activation, residuals, gradient):
    def in_steps(x, kernel, bias):
        y, _ = cast(tuple, conv_moments(x, kernel, stride, padding))
        return activation(y + bias)

    return jax.vjp(in_steps, *residuals)[1](gradient)


conv.defvjp(_conv_forward, _conv_backward)


@jax.custom_vjp
def transposed_conv_3x3(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Transposed convolution with a 3x3 kernel, stride 2 and 'SAME' padding, as Keras' Conv2DTranspose defines it.

    Args:
      x: [batch, height, width, channels].
      kernel: [3, 3, channels, filters], of x's dtype.
      bias: [filters], of x's dtype.

    Returns:
      [batch, 2 height, 2 width, filters].
    """
    if kernel.shape[0] != 3:
        raise ValueError(f"kernel of shape {kernel.shape}: must be of size 3")
    check_window(x, kernel, 1, ((1, 1), (1, 1)))
    check_channels(kernel.shape[-1], bias=bias)
    return native.either(_native_transposed_conv, _jax_transposed_conv, x, kernel, bias)


def _transposed_forward(x, kernel, bias):
    return transposed_conv_3x3(x, kernel, bias), (x, kernel)


def _transposed_backward(residuals, gradient):
    return native.either(_native_transposed_gradients, _jax_transposed_gradients, *residuals, gradient)


transposed_conv_3x3.defvjp(_transposed_forward, _transposed_backward)


def _check(x, kernel, stride, padding):
    if kernel.shape[0] != 3 and (kernel.shape[0], stride) != (1, 1):
        raise ValueError(f"kernel of shape {kernel.shape}, stride = {stride}: its size must be 3, or 1 with stride 1")
    check_window(x, kernel, stride, padding)


def _lax_conv(x, kernel, bias, *, stride, padding, activation):
    return activation(_lax_linear(x, kernel, stride=stride, padding=padding) + bias)


def _lax_moments(x, kernel, *, stride, padding):
    y = _lax_linear(x, kernel, stride=stride, padding=padding)
    return y, channel_moments(y)


def _lax_gradients(x, kernel, gradient, *, stride, padding):
    return jax.vjp(functools.partial(_lax_linear, stride=stride, padding=padding), x, kernel)[1](gradient)


def _lax_linear(x, kernel, *, stride, padding):
    """Of size 1 it is a matrix product, which is what it costs."""
    if kernel.shape[0] == 1:
        return x @ kernel[0, 0]
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _native_conv(x, kernel, bias, *, stride, padding, activation):
    return _native_call(x, kernel, bias, stride, padding, NATIVE_ACTIVATIONS[activation], moments=0)[0]


def _native_moments(x, kernel, *, stride, padding):
    no_bias = jnp.zeros((0,), x.dtype)
    y, *moments = _native_call(x, kernel, no_bias, stride, padding, 0, moments=kernel.shape[-1])
    return y, tuple(moments)


def _native_call(x, kernel, bias, stride, padding, activation, *, moments):
    size = kernel.shape[0]
    sides = ((side + sum(pad) - size) // stride + 1 for side, pad in zip(x.shape[1:3], padding, strict=True))
    shape = (x.shape[0], *sides, kernel.shape[-1])
    outputs = tuple(jax.ShapeDtypeStruct(s, x.dtype) for s in (shape, (moments,), (moments,)))
    window = native.window(size, stride, padding)
    return native.call("conv", outputs, x, kernel, bias, activation=activation, **window)


def _native_gradients(x, kernel, gradient, *, stride, padding):
    """Of stride 1, the input's is the convolution of the gradient with the kernel turned round."""
    if stride == 1:
        turned = kernel[::-1, ::-1].swapaxes(2, 3)
        around = tuple((kernel.shape[0] - 1 - low, kernel.shape[0] - 1 - high) for low, high in padding)
        dx = _native_linear(gradient, turned, 1, around)
    else:
        dx = _lax_gradients(x, kernel, gradient, stride=stride, padding=padding)[0]
    return dx, _kernel_gradient(x, kernel.shape, gradient, stride, padding)


def _native_linear(x, kernel, stride, padding):
    no_bias = jnp.zeros((0,), x.dtype)
    return _native_call(x, kernel, no_bias, stride, padding, 0, moments=0)[0]


def _kernel_gradient(x, shape, gradient, stride, padding):
    like_kernel = jax.ShapeDtypeStruct(shape, x.dtype)
    window = native.window(shape[0], stride, padding)
    return native.call("conv_kernel_gradient", like_kernel, x, gradient, **window)


def _native_transposed_conv(x, kernel, bias):
    batch, height, width, _ = x.shape
    shape = jax.ShapeDtypeStruct((batch, 2 * height, 2 * width, kernel.shape[-1]), x.dtype)
    return native.call("transposed_conv", shape, x, kernel, bias)


def _native_transposed_gradients(x, kernel, gradient):
    """What a convolution of stride 2 with the same kernel, from y to x, has as its value and its kernel's gradient."""
    inverse = kernel.swapaxes(2, 3)
    padding = ((0, 1), (0, 1))
    dx = _native_linear(gradient, inverse, 2, padding)
    dkernel = _kernel_gradient(gradient, inverse.shape, x, 2, padding).swapaxes(2, 3)
    return dx, dkernel, channel_moments(gradient)[0]


def _jax_transposed_gradients(x, kernel, gradient):
    conv = functools.partial(_jax_transposed_conv, bias=jnp.zeros((), x.dtype))
    return *jax.vjp(conv, x, kernel)[1](gradient), channel_moments(gradient)[0].astype(gradient.dtype)


def _jax_transposed_conv(x, kernel, bias):
    """One matrix product makes what each input pixel adds to its 3x3 neighbourhood.

    The output's even rows and columns receive from two inputs, the odd ones from one. `lax.conv_transpose` computes the
    same, with a gradient that is many times slower on a CPU and a GPU.
    """
    batch, height, width, channels = x.shape
    filters = kernel.shape[-1]
    product = x @ kernel.transpose(2, 0, 1, 3).reshape(channels, 9 * filters)
    taps = product.reshape(batch, height, width, 3, 3, filters)
    rows = _interleave(taps, axis=1)
    return _interleave(rows, axis=2) + bias


def _interleave(taps, axis):
    """Turns `axis` of length n, and the taps (0, 1, 2) on the axis 3, into an axis of length 2n."""
    first, odd, last = (lax.index_in_dim(taps, tap, 3, keepdims=False) for tap in range(3))
    before = [(1, -1, 0) if i == axis else (0, 0, 0) for i in range(last.ndim)]
    even = first + lax.pad(last, jnp.zeros((), last.dtype), before)
    shape = (*even.shape[:axis], 2 * even.shape[axis], *even.shape[axis + 1 :])
    return jnp.stack([even, odd], axis + 1).reshape(shape)
