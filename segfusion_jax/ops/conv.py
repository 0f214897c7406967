"""Convolution of size 1 or 3, and the transposed one that doubles height and width."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from segfusion_jax.ops import native
from segfusion_jax.ops.epilogue import (
    Convolution,
    activation_after,
    moments_after,
    native_linear,
    with_activation,
    with_moments,
)
from segfusion_jax.ops.normalization import Activation, Moments, channel_moments, check_channels, identity
from segfusion_jax.ops.window import Padding, Window


def conv_moments(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> tuple[jax.Array, Moments]:
    """Convolves, and adds up what a batch norm after it needs: on a CPU in the same pass.

    Args:
      x: [batch, height, width, channels].
      kernel: [size, size, channels, filters], of x's dtype; its size is 3, or 1 with a stride of 1.
      stride: step of the kernel along both axes.
      padding: zeros added ((above, below), (left, right)).

    Returns:
      [batch, new_height, new_width, filters], and its `Moments`, through which no gradient goes.

    Raises:
      ValueError: a kernel of another size, or one that does not fit the image.
    """
    _check_size(kernel, stride)
    return with_moments(x, kernel, _CONV, Window(stride, padding))


def conv(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, stride: int, padding: Padding, activation: Activation = identity
) -> jax.Array:
    """Computes activation(convolution + bias); arguments as in `conv_moments`, bias [filters] of x's dtype."""
    _check_size(kernel, stride)
    return with_activation(x, kernel, bias, _CONV, Window(stride, padding), activation)


@jax.custom_vjp
def transposed_conv_3x3(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Applies a transposed convolution as Keras' Conv2DTranspose defines it: 3x3 kernel, stride 2, padding 'SAME'.

    Args:
      x: [batch, height, width, channels].
      kernel: [3, 3, channels, filters], of x's dtype.
      bias: [filters], of x's dtype.

    Returns:
      [batch, 2 height, 2 width, filters].

    Raises:
      ValueError: a kernel of another size or for other channels, or a bias of another length.
    """
    if kernel.ndim != 4 or kernel.shape[0] != 3:
        raise ValueError(f"kernel of shape {kernel.shape}: must be (3, 3, channels, filters)")
    Window(1, ((1, 1), (1, 1))).check(x, kernel)
    check_channels(kernel.shape[-1], bias=bias)
    return native.either(_native_transposed_conv, _jax_transposed_conv, x, kernel, bias)


def _transposed_forward(x, kernel, bias):
    return transposed_conv_3x3(x, kernel, bias), (x, kernel)


def _transposed_backward(residuals, gradient):
    return native.either(_native_transposed_gradients, _jax_transposed_gradients, *residuals, gradient)


transposed_conv_3x3.defvjp(_transposed_forward, _transposed_backward)


def _check_size(kernel, stride):
    if kernel.ndim != 4 or not _is_built(kernel.shape[0], stride):
        raise ValueError(
            f"kernel of shape {kernel.shape}, stride = {stride}: must be (size, size, channels, filters), "
            "and its size must be 3, or 1 with stride 1"
        )


def _is_built(size, stride):
    return size == 3 or (size, stride) == (1, 1)


def _lax_linear(x, kernel, *, window):
    """Convolves by XLA; for a kernel of size 1 by a matrix product, which is what it costs."""
    if kernel.shape[0] == 1:
        return x @ kernel[0, 0]
    strides = (window.stride, window.stride)
    return lax.conv_general_dilated(x, kernel, strides, window.padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _lax_gradients(x, kernel, gradient, *, window):
    return jax.vjp(functools.partial(_lax_linear, window=window), x, kernel)[1](gradient)


def _native_gradients(x, kernel, gradient, *, window):
    return _input_gradient(x, kernel, gradient, window), _kernel_gradient(x, kernel.shape, gradient, window)


def _input_gradient(x, kernel, gradient, window):
    """Returns the gradient of x; for stride 1 it is the convolution of the gradient with the kernel turned round.

    Of another stride it is left to XLA: the only such convolution is a network's first, whose input needs no gradient.
    """
    if window.stride != 1:
        return _lax_gradients(x, kernel, gradient, window=window)[0]
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    (top, bottom), (left, right) = window.padding
    last = kernel.shape[0] - 1
    around = Window(1, ((last - top, last - bottom), (last - left, last - right)))
    return native_linear("conv", gradient, turned, around)


def _kernel_gradient(x, shape, gradient, window):
    like_kernel = jax.ShapeDtypeStruct(shape, x.dtype)
    return native.call("conv_kernel_gradient", like_kernel, x, gradient, **window.attributes(shape[0]))


_CONV = Convolution(
    "conv",
    _is_built,
    functools.partial(moments_after, _lax_linear),
    functools.partial(activation_after, _lax_linear),
    _lax_gradients,
    _native_gradients,
)


def _native_transposed_conv(x, kernel, bias):
    batch, height, width, _ = x.shape
    shape = jax.ShapeDtypeStruct((batch, 2 * height, 2 * width, kernel.shape[-1]), x.dtype)
    return native.call("transposed_conv", shape, x, kernel, bias)


def _native_transposed_gradients(x, kernel, gradient):
    """Computes both gradients by a convolution of stride 2 from y to x with the same kernel."""
    inverse = kernel.swapaxes(2, 3)
    window = Window(2, ((0, 1), (0, 1)))
    dx = native_linear("conv", gradient, inverse, window)
    dkernel = _kernel_gradient(gradient, inverse.shape, x, window).swapaxes(2, 3)
    return dx, dkernel, channel_moments(gradient)[0]


def _jax_transposed_gradients(x, kernel, gradient):
    linear = functools.partial(_jax_transposed_conv, bias=jnp.zeros((), x.dtype))
    return *jax.vjp(linear, x, kernel)[1](gradient), channel_moments(gradient)[0].astype(gradient.dtype)


def _jax_transposed_conv(x, kernel, bias):
    """Makes, by one matrix product, what each input pixel adds to its 3x3 neighbourhood, and adds it up.

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
