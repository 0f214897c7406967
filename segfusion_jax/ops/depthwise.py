"""Depthwise convolution with its own gradients.

XLA's grouped convolution is 15-30 times slower on a CPU than adding up shifted, scaled copies of the input, and its
kernel gradient is slower still. On a CPU without a native kernel all three passes are therefore written as shifts;
elsewhere they are `lax` convolutions, which cuDNN and the TPU's compiler serve well, but for layers that were measured
to be faster by the kernels of depthwise_gpu.py.
"""

import functools
import itertools
import operator

import jax
import jax.numpy as jnp
from jax import lax

from segfusion_jax.ops import depthwise_gpu, native
from segfusion_jax.ops.epilogue import Convolution, activation_after, moments_after, with_activation, with_moments
from segfusion_jax.ops.normalization import Activation, Moments, identity
from segfusion_jax.ops.window import Padding, Window


def depthwise_moments(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> tuple[jax.Array, Moments]:
    """Convolves each channel with a kernel of its own, and adds up what a batch norm after it needs.

    Args:
      x: [batch, height, width, channels].
      kernel: [size, size, channels], of x's dtype.
      stride: step of the kernel along both axes.
      padding: zeros added ((above, below), (left, right)).

    Returns:
      [batch, new_height, new_width, channels], and its `Moments`, through which no gradient goes.

    Raises:
      ValueError: the kernel does not fit the image.
    """
    _check_axes(kernel)
    return with_moments(x, kernel, _DEPTHWISE, Window(stride, padding))


def depthwise_conv(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, stride: int, padding: Padding, activation: Activation = identity
) -> jax.Array:
    """Computes activation(convolution + bias); arguments as in `depthwise_moments`, bias [channels] of x's dtype."""
    _check_axes(kernel)
    return with_activation(x, kernel, bias, _DEPTHWISE, Window(stride, padding), activation)


def _check_axes(kernel):
    if kernel.ndim != 3:
        raise ValueError(f"kernel of shape {kernel.shape}: must be (size, size, channels)")


def _is_built(size, stride):
    return size in (3, 5) and stride in (1, 2)


def _native_gradients(x, kernel, gradient, *, window):
    like_x, like_kernel = (jax.ShapeDtypeStruct(array.shape, array.dtype) for array in (x, kernel))
    attributes = window.attributes(kernel.shape[0])
    dx = native.call("depthwise_input_gradient", like_x, gradient, kernel, **attributes)
    return dx, native.call("depthwise_kernel_gradient", like_kernel, x, gradient, **attributes)


def _moments(x, kernel, *, window):
    if tiling := depthwise_gpu.tiling("moments", x, kernel, window):
        return depthwise_gpu.conv_moments(x, kernel, window, tiling)
    return moments_after(_linear, x, kernel, window=window)


def _activated(x, kernel, bias, *, window, activation):
    if tiling := depthwise_gpu.tiling("activation", x, kernel, window):
        return depthwise_gpu.conv_activation(x, kernel, bias, window, tiling, activation)
    return activation_after(_linear, x, kernel, bias, window=window, activation=activation)


def _gradients(x, kernel, gradient, *, window):
    if tiling := depthwise_gpu.tiling("gradients", x, kernel, window):
        return depthwise_gpu.gradients(x, kernel, gradient, window, tiling)
    return _shifted_on_cpu(_shifted_gradients, _lax_gradients, window, x, kernel, gradient)


def _linear(x, kernel, *, window):
    return _shifted_on_cpu(_shifted_linear, _lax_linear, window, x, kernel)


_DEPTHWISE = Convolution("depthwise", _is_built, _moments, _activated, _gradients, _native_gradients)


def _shifted_on_cpu(shifted, in_lax, window, *arrays):
    cpu, default = (functools.partial(way, window=window) for way in (shifted, in_lax))
    return lax.platform_dependent(*arrays, cpu=cpu, default=default)


def _lax_linear(x, kernel, *, window):
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None, :],
        (window.stride, window.stride),
        window.padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _lax_gradients(x, kernel, gradient, *, window):
    return jax.vjp(functools.partial(_lax_linear, window=window), x, kernel)[1](gradient)


def _shifted_linear(x, kernel, *, window):
    taps = _taps(_pad(x, window.padding), kernel.shape[0], window.stride)
    return _sum(inputs * kernel[i, j] for i, j, inputs in taps)


def _shifted_gradients(x, kernel, gradient, *, window):
    return _input_gradient(x, kernel, gradient, window), _kernel_gradient(x, kernel, gradient, window)


def _input_gradient(x, kernel, gradient, window):
    """Spreads the gradient out by the stride, pads it back, and convolves it with the flipped kernel."""
    last, stride = kernel.shape[0] - 1, window.stride
    config = [(0, 0, 0)]
    for length, steps, (before, _) in zip(x.shape[1:3], gradient.shape[1:3], window.padding, strict=True):
        spread = (steps - 1) * stride + 1
        low = last - before
        config.append((low, length + last - spread - low, stride - 1))
    padded = lax.pad(gradient, jnp.zeros((), gradient.dtype), [*config, (0, 0, 0)])
    return _sum(inputs * kernel[last - i, last - j] for i, j, inputs in _taps(padded, kernel.shape[0], 1))


def _kernel_gradient(x, kernel, gradient, window):
    """Sums all taps in one variadic reduction: one by one, XLA:CPU's column sums cost several times as much."""
    gradient = gradient.astype(jnp.float32)
    taps = _taps(_pad(x, window.padding), kernel.shape[0], window.stride)
    products = [inputs.astype(jnp.float32) * gradient for _, _, inputs in taps]
    zeros = [jnp.zeros((), jnp.float32)] * len(products)
    sums = lax.reduce(products, zeros, lambda a, b: [p + q for p, q in zip(a, b, strict=True)], (0, 1, 2))
    return jnp.stack(sums).reshape(kernel.shape).astype(kernel.dtype)


def _taps(padded, size, stride):
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
