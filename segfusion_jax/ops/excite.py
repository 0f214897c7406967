"""Squeeze-and-excite (Hu et al., arXiv 1709.01507) in two passes over the image, and two for its gradient."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from segfusion_jax.ops import native


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def squeeze_excite(x: jax.Array, params: Any, gate: Callable[[Any, jax.Array], jax.Array]) -> jax.Array:
    """Scales each channel of each image by what the means over the image say.

    Args:
      x: [batch, height, width, channels].
      params: a pytree, the first argument of `gate`.
      gate: `(params, means) -> scales`, both [batch, channels], of x's dtype.

    Returns:
      An array of x's shape and dtype.
    """
    return _forward(x, params, gate)[0]


def _forward(x, params, gate):
    means = native.either(_native_sum, _jax_sum, x) / (x.shape[1] * x.shape[2])
    scales = gate(params, means)
    if scales.shape != (x.shape[0], x.shape[-1]):
        raise ValueError(f"scales of shape {scales.shape}: must be {(x.shape[0], x.shape[-1])}")
    return _scale_shift(x, scales, jnp.zeros_like(scales)), (x, params, means)


def _backward(gate, residuals, gradient):
    x, params, means = residuals
    scales, gate_vjp = jax.vjp(gate, params, means)
    dparams, dmeans = gate_vjp(native.either(_native_dot, _jax_dot, gradient, x))
    return _scale_shift(gradient, scales, dmeans / (x.shape[1] * x.shape[2])), dparams


squeeze_excite.defvjp(_forward, _backward)


def _scale_shift(x, scales, shifts):
    return native.either(_native_scale_shift, _jax_scale_shift, x, scales, shifts)


def _native_sum(x):
    return native.call("image_sums", _channels(x), x, jnp.zeros((0,), x.dtype))


def _native_dot(x, y):
    return native.call("image_sums", _channels(x), x, y)


def _native_scale_shift(x, scales, shifts):
    return native.call("image_scale", jax.ShapeDtypeStruct(x.shape, x.dtype), x, scales, shifts)


def _channels(x):
    return jax.ShapeDtypeStruct((x.shape[0], x.shape[3]), x.dtype)


def _jax_sum(x):
    return x.sum((1, 2))


def _jax_dot(x, y):
    return (x * y).sum((1, 2))


def _jax_scale_shift(x, scales, shifts):
    return x * scales[:, None, None] + shifts[:, None, None]
