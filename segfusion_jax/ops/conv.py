"""3x3 convolution, and the transposed one that doubles height and width."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from segfusion_jax.ops import native
from segfusion_jax.ops.normalization import channel_sums

Padding = tuple[tuple[int, int], tuple[int, int]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def conv_3x3(x: jax.Array, kernel: jax.Array, bias: jax.Array, stride: int, padding: Padding) -> jax.Array:
    """Convolves and adds the bias.

    Args:
      x: [batch, height, width, channels].
      kernel: [3, 3, channels, filters], of x's dtype.
      bias: [filters], of x's dtype.
      stride: of both axes.
      padding: zeros added ((above, below), (left, right)).

    Returns:
      [batch, new_height, new_width, filters].
    """
    options = {"stride": stride, "padding": padding}
    in_native, in_lax = functools.partial(_native_conv, **options), functools.partial(_lax_conv, **options)
    return native.either(in_native, in_lax, x, kernel, bias)


def _conv_forward(x, kernel, bias, stride, padding):
    return conv_3x3(x, kernel, bias, stride, padding), (x, kernel)


def _conv_backward(stride, padding, residuals, gradient):
    options = {"stride": stride, "padding": padding}
    in_native, in_lax = functools.partial(_native_gradients, **options), functools.partial(_lax_gradients, **options)
    return native.either(in_native, in_lax, *residuals, gradient)


conv_3x3.defvjp(_conv_forward, _conv_backward)


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
    return native.either(_native_transposed_conv, _jax_transposed_conv, x, kernel, bias)


def _transposed_forward(x, kernel, bias):
    return transposed_conv_3x3(x, kernel, bias), (x, kernel)


def _transposed_backward(residuals, gradient):
    return native.either(_native_transposed_gradients, _jax_transposed_gradients, *residuals, gradient)


transposed_conv_3x3.defvjp(_transposed_forward, _transposed_backward)


def _lax_conv(x, kernel, bias, *, stride, padding):
    y = lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return y + bias


def _lax_gradients(x, kernel, gradient, *, stride, padding):
    conv = functools.partial(_lax_conv, bias=jnp.zeros((), x.dtype), stride=stride, padding=padding)
    return *jax.vjp(conv, x, kernel)[1](gradient), channel_sums(gradient).astype(gradient.dtype)


def _native_conv(x, kernel, bias, *, stride, padding):
    sides = ((side + sum(pad) - 3) // stride + 1 for side, pad in zip(x.shape[1:3], padding, strict=True))
    shape = jax.ShapeDtypeStruct((x.shape[0], *sides, kernel.shape[-1]), x.dtype)
    return native.call("conv", shape, x, kernel, bias, **_window(stride, padding))


def _native_gradients(x, kernel, gradient, *, stride, padding):
    """Of stride 1, the input's is the convolution of the gradient with the kernel turned round."""
    if stride == 1:
        turned = kernel[::-1, ::-1].swapaxes(2, 3)
        around = tuple((2 - before, 2 - after) for before, after in padding)
        dx = _native_conv(gradient, turned, jnp.zeros(x.shape[-1:], x.dtype), stride=1, padding=around)
    else:
        dx = _lax_gradients(x, kernel, gradient, stride=stride, padding=padding)[0]
    return dx, _kernel_gradient(x, kernel.shape, gradient, stride, padding), channel_sums(gradient)


def _kernel_gradient(x, shape, gradient, stride, padding):
    like_kernel = jax.ShapeDtypeStruct(shape, x.dtype)
    return native.call("conv_kernel_gradient", like_kernel, x, gradient, **_window(stride, padding))


def _window(stride, padding):
    return {"stride": stride, "top": padding[0][0], "left": padding[1][0]}


def _native_transposed_conv(x, kernel, bias):
    batch, height, width, _ = x.shape
    shape = jax.ShapeDtypeStruct((batch, 2 * height, 2 * width, kernel.shape[-1]), x.dtype)
    return native.call("transposed_conv", shape, x, kernel, bias)


def _native_transposed_gradients(x, kernel, gradient):
    """What a convolution of stride 2 with the same kernel, from y to x, has as its value and its kernel's gradient."""
    inverse = kernel.swapaxes(2, 3)
    padding = ((0, 1), (0, 1))
    dx = _native_conv(gradient, inverse, jnp.zeros(x.shape[-1:], x.dtype), stride=2, padding=padding)
    dkernel = _kernel_gradient(gradient, inverse.shape, x, 2, padding).swapaxes(2, 3)
    return dx, dkernel, channel_sums(gradient)


def _jax_transposed_gradients(x, kernel, gradient):
    conv = functools.partial(_jax_transposed_conv, bias=jnp.zeros((), x.dtype))
    return *jax.vjp(conv, x, kernel)[1](gradient), channel_sums(gradient).astype(gradient.dtype)


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
