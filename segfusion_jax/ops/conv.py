"""3x3 convolution of stride 1, with the same size out as in."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from segfusion_jax.ops import native
from segfusion_jax.ops.normalization import channel_sums


@jax.custom_vjp
def conv_3x3(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Convolves with zeros around the image, and adds the bias.

    Args:
      x: [batch, height, width, channels].
      kernel: [3, 3, channels, filters], of x's dtype.
      bias: [filters], of x's dtype.

    Returns:
      [batch, height, width, filters].
    """
    if x.dtype != jnp.float32 or not native.available():
        return _lax_conv(x, kernel, bias)
    return lax.platform_dependent(x, kernel, bias, cpu=_native_conv, default=_lax_conv)


def _forward(x, kernel, bias):
    return conv_3x3(x, kernel, bias), (x, kernel)


def _backward(residuals, gradient):
    x, _ = residuals
    if x.dtype != jnp.float32 or not native.available():
        return _lax_gradients(*residuals, gradient)
    return lax.platform_dependent(*residuals, gradient, cpu=_native_gradients, default=_lax_gradients)


conv_3x3.defvjp(_forward, _backward)


def _lax_conv(x, kernel, bias):
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")) + bias


def _lax_gradients(x, kernel, gradient):
    conv = functools.partial(_lax_conv, bias=jnp.zeros(kernel.shape[-1:], kernel.dtype))
    return *jax.vjp(conv, x, kernel)[1](gradient), gradient.sum((0, 1, 2))


def _native_conv(x, kernel, bias):
    shape = jax.ShapeDtypeStruct((*x.shape[:3], kernel.shape[-1]), x.dtype)
    return native.call("conv", shape, x, kernel, bias)


def _native_gradients(x, kernel, gradient):
    """The input's is the convolution of the gradient with the kernel turned round."""
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    dx = _native_conv(gradient, turned, jnp.zeros(x.shape[-1:], x.dtype))
    like_kernel = jax.ShapeDtypeStruct(kernel.shape, kernel.dtype)
    return dx, native.call("conv_kernel_gradient", like_kernel, x, gradient), channel_sums(gradient)
