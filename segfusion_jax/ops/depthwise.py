"""Depthwise convolution with its own gradients.

XLA's grouped convolution is 15-30 times slower on a CPU than adding up shifted, scaled copies of the input, and its
weight gradient is slower still. On a CPU all three passes are therefore written as shifts; elsewhere they stay `lax`
convolutions, which cuDNN and the TPU's compiler serve well.
"""

import functools
import itertools
import operator

import jax
import jax.numpy as jnp
from jax import lax

from segfusion_jax.ops import native

Padding = tuple[tuple[int, int], tuple[int, int]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise_conv(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    """Convolves each channel with a kernel of its own.

    Args:
      x: [batch, height, width, channels].
      kernel: [size, size, channels], of x's dtype.
      stride: of both axes.
      padding: zeros added ((above, below), (left, right)).

    Returns:
      [batch, new_height, new_width, channels].
    """
    options = {"stride": stride, "padding": padding}
    return _either(_native_conv, _shifted_conv, _lax_conv, options, x, kernel)


def _forward(x, kernel, stride, padding):
    return depthwise_conv(x, kernel, stride, padding), (x, kernel)


def _backward(stride, padding, residuals, gradient):
    options = {"stride": stride, "padding": padding}
    return _either(_native_gradients, _shifted_gradients, _lax_gradients, options, *residuals, gradient)


depthwise_conv.defvjp(_forward, _backward)


def _either(in_native, in_shifts, in_lax, options, *arrays):
    in_native, in_shifts, in_lax = (functools.partial(f, **options) for f in (in_native, in_shifts, in_lax))

    def without_native(*arrays):
        return lax.platform_dependent(*arrays, cpu=in_shifts, default=in_lax)

    is_built = arrays[1].shape[0] in (3, 5) and options["stride"] in (1, 2)
    return native.either(in_native, without_native, *arrays) if is_built else without_native(*arrays)


def _lax_conv(x, kernel, *, stride, padding):
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None, :],
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _lax_gradients(x, kernel, gradient, *, stride, padding):
    conv = functools.partial(_lax_conv, stride=stride, padding=padding)
    return jax.vjp(conv, x, kernel)[1](gradient)


def _native_conv(x, kernel, *, stride, padding):
    sides = (
        (length + sum(pad) - kernel.shape[0]) // stride + 1 for length, pad in zip(x.shape[1:3], padding, strict=True)
    )
    shape = (x.shape[0], *sides, x.shape[3])
    window = _window(kernel, stride, padding)
    return native.call("depthwise", jax.ShapeDtypeStruct(shape, x.dtype), x, kernel, **window)


def _native_gradients(x, kernel, gradient, *, stride, padding):
    like_x, like_kernel = (jax.ShapeDtypeStruct(array.shape, array.dtype) for array in (x, kernel))
    window = _window(kernel, stride, padding)
    dx = native.call("depthwise_input_gradient", like_x, gradient, kernel, **window)
    return dx, native.call("depthwise_kernel_gradient", like_kernel, x, gradient, **window)


def _window(kernel, stride, padding):
    return {"size": kernel.shape[0], "stride": stride, "top": padding[0][0], "left": padding[1][0]}


def _shifted_conv(x, kernel, *, stride, padding):
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
