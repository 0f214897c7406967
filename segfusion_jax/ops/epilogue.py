"""A convolution together with what follows it: a batch norm's moments, or a bias and an activation.

On a CPU both are part of the pass that makes the output.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from segfusion_jax.ops import native
from segfusion_jax.ops.normalization import NATIVE_ACTIVATIONS, Activation, Moments, channel_moments, check_channels
from segfusion_jax.ops.window import Window


class Convolution(NamedTuple):
    """In what one kind of convolution differs from another. Its functions take arrays, and a `window` by name.

    Attributes:
      name: name of its native kernel.
      is_built: `(size of the kernel, stride)` -> whether there are native kernels for them.
      moments: `(x, kernel)` -> the convolution and the moments of what it makes, in JAX.
      activated: `(x, kernel, bias)` and an `activation` by name -> activation(convolution + bias), in JAX.
      gradients: `(x, kernel, gradient)` -> those of x and of the kernel, in JAX.
      native_gradients: `(x, kernel, gradient)` -> the same by native kernels.
    """

    name: str
    is_built: Callable[[int, int], bool]
    moments: Callable[..., tuple[jax.Array, Moments]]
    activated: Callable[..., jax.Array]
    gradients: Callable[..., tuple[jax.Array, jax.Array]]
    native_gradients: Callable[..., tuple[jax.Array, jax.Array]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def with_moments(
    x: jax.Array, kernel: jax.Array, convolution: Convolution, window: Window
) -> tuple[jax.Array, Moments]:
    """Returns the convolution, and the moments of what it makes, through which no gradient goes.

    Raises:
      ValueError: the kernel does not fit the image.
    """
    window.check(x, kernel)
    in_native = functools.partial(_native_moments, convolution, window)
    in_jax = functools.partial(convolution.moments, window=window)
    return native.either(in_native, in_jax, x, kernel, is_built=_is_built(convolution, kernel, window))


def _moments_forward(x, kernel, convolution, window):
    return with_moments(x, kernel, convolution, window), (x, kernel)


def _moments_backward(convolution, window, residuals, cotangents):
    in_native = functools.partial(convolution.native_gradients, window=window)
    in_jax = functools.partial(convolution.gradients, window=window)
    is_built = _is_built(convolution, residuals[1], window)
    return native.either(in_native, in_jax, *residuals, cotangents[0], is_built=is_built)


with_moments.defvjp(_moments_forward, _moments_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def with_activation(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, convolution: Convolution, window: Window, activation: Activation
) -> jax.Array:
    """Computes activation(convolution + bias).

    Raises:
      ValueError: the kernel does not fit the image, or the bias the kernel.
    """
    window.check(x, kernel)
    check_channels(kernel.shape[-1], bias=bias)
    in_native = functools.partial(_native_activation, convolution, window, activation)
    in_jax = functools.partial(convolution.activated, window=window, activation=activation)
    is_built = activation in NATIVE_ACTIVATIONS and _is_built(convolution, kernel, window)
    return native.either(in_native, in_jax, x, kernel, bias, is_built=is_built)


def _activation_forward(x, kernel, bias, convolution, window, activation):
    return with_activation(x, kernel, bias, convolution, window, activation), (x, kernel, bias)


def _activation_backward(convolution, window, activation, residuals, gradient):
    def in_steps(x, kernel, bias):
        y, _ = cast(tuple, with_moments(x, kernel, convolution, window))
        return activation(y + bias)

    return jax.vjp(in_steps, *residuals)[1](gradient)


with_activation.defvjp(_activation_forward, _activation_backward)


def moments_after(
    linear: Callable[..., jax.Array], x: jax.Array, kernel: jax.Array, *, window: Window
) -> tuple[jax.Array, Moments]:
    """Returns what `linear(x, kernel, window=window)` makes, and its moments, in a pass of their own."""
    y = linear(x, kernel, window=window)
    return y, channel_moments(y)


def activation_after(
    linear: Callable[..., jax.Array],
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    *,
    window: Window,
    activation: Activation,
) -> jax.Array:
    """Returns activation(linear(x, kernel, window=window) + bias)."""
    return activation(linear(x, kernel, window=window) + bias)


def native_linear(name: str, x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """Computes the convolution alone, by the native kernel called `name`."""
    return _native(name, x, kernel, jnp.zeros((0,), x.dtype), window, activation=0, moments=0)[0]


def _native_moments(convolution, window, x, kernel):
    no_bias = jnp.zeros((0,), x.dtype)
    y, *moments = _native(convolution.name, x, kernel, no_bias, window, activation=0, moments=kernel.shape[-1])
    return y, tuple(moments)


def _native_activation(convolution, window, activation, x, kernel, bias):
    return _native(convolution.name, x, kernel, bias, window, activation=NATIVE_ACTIVATIONS[activation], moments=0)[0]


def _native(name, x, kernel, bias, window, *, activation, moments) -> Any:
    shapes = window.output_shape(x, kernel), (moments,), (moments,)
    outputs = tuple(jax.ShapeDtypeStruct(shape, x.dtype) for shape in shapes)
    return native.call(name, outputs, x, kernel, bias, activation=activation, **window.attributes(kernel.shape[0]))


def _is_built(convolution, kernel, window):
    return convolution.is_built(kernel.shape[0], window.stride)
