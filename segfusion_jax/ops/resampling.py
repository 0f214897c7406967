"""Halving and doubling of feature maps, written so that their gradients are fast on every backend."""

import jax
import jax.numpy as jnp
from jax import lax

from segfusion_jax.ops import native


def max_pool_2x2(x: jax.Array) -> jax.Array:
    """Takes the largest of each 2x2 block: [batch, height, width, channels] to [batch, height/2, width/2, channels].

    Half an odd side is rounded up: its last block is half a one. The gradient goes to the first of equal values, the
    left column's before the right one's. That of `x.max` divides by how many values equal the largest, which is none,
    and the gradient NaN, where XLA computes x again for the comparison and rounds it otherwise.
    """
    for axis in (1, 2):
        if x.shape[axis] % 2:
            x = lax.concatenate([x, lax.slice_in_dim(x, -1, None, axis=axis)], axis)
    return _max_pool(x)


@jax.custom_vjp
def _max_pool(x):
    return native.either(_native_max_pool, _jax_max_pool, x)


def _max_pool_forward(x):
    return _max_pool(x), x


def _max_pool_backward(x, gradient):
    return (native.either(_native_gradient, _jax_gradient, x, gradient),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _native_max_pool(x):
    batch, height, width, channels = x.shape
    return native.call("max_pool", jax.ShapeDtypeStruct((batch, height // 2, width // 2, channels), x.dtype), x)


def _native_gradient(x, gradient):
    return native.call("max_pool_gradient", jax.ShapeDtypeStruct(x.shape, x.dtype), x, gradient)


def _jax_max_pool(x):
    rows = _larger(*_alternating(x, axis=1))
    return _larger(*_alternating(rows, axis=2))


def _alternating(x, axis):
    """Yields every second one, from the first, then from the second; `x[:, ::2]` would gather for a symbolic batch."""
    return (lax.slice_in_dim(x, first, None, 2, axis) for first in range(2))


def _jax_gradient(x, gradient):
    return jax.vjp(_jax_max_pool, x)[1](gradient)[0]


def upsample_2x(x: jax.Array) -> jax.Array:
    """Repeats each pixel in a 2x2 block: [batch, height, width, channels] -> [batch, 2 height, 2 width, channels]."""
    batch, height, width, channels = x.shape
    blocks = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, 2, width, 2, channels))
    return blocks.reshape(batch, 2 * height, 2 * width, channels)


def _larger(a, b):
    return jnp.where((a >= b) | jnp.isnan(a), a, b)
