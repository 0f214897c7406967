"""Halving and doubling of feature maps, written so that their gradients are fast on every backend."""

import jax
import jax.numpy as jnp
from jax import lax


def max_pool_2x2(x: jax.Array) -> jax.Array:
    """The largest of each 2x2 block: [batch, height, width, channels] -> [batch, height/2, width/2, channels].

    Half an odd side is rounded up: its last block is half a one. The gradient goes to the first of equal values. That
    of `x.max` divides by how many values equal the largest, which is none, and the gradient NaN, where XLA computes x
    again for the comparison and rounds it otherwise.
    """
    height, width = x.shape[1:3]
    if height % 2 or width % 2:
        x = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    rows = _larger(x[:, ::2], x[:, 1::2])
    return _larger(rows[:, :, ::2], rows[:, :, 1::2])


def upsample_2x(x: jax.Array) -> jax.Array:
    """Repeats each pixel in a 2x2 block: [batch, height, width, channels] -> [batch, 2 height, 2 width, channels]."""
    batch, height, width, channels = x.shape
    blocks = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, 2, width, 2, channels))
    return blocks.reshape(batch, 2 * height, 2 * width, channels)


def transposed_conv_3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Transposed convolution with a 3x3 kernel, stride 2 and 'SAME' padding, as Keras' Conv2DTranspose defines it.

    One matrix product makes what each input pixel adds to its 3x3 neighbourhood; the output's even rows and columns
    receive from two inputs, the odd ones from one. `lax.conv_transpose` computes the same, with a gradient that is many
    times slower on a CPU and a GPU.

    Args:
      x: [batch, height, width, channels].
      kernel: [3, 3, channels, filters], of x's dtype.

    Returns:
      [batch, 2 height, 2 width, filters].
    """
    batch, height, width, channels = x.shape
    filters = kernel.shape[-1]
    product = x @ kernel.transpose(2, 0, 1, 3).reshape(channels, 9 * filters)
    taps = product.reshape(batch, height, width, 3, 3, filters)
    rows = _interleave(taps, axis=1)
    return _interleave(rows, axis=2)


def _larger(a, b):
    return jnp.where(a >= b, a, b)


def _interleave(taps, axis):
    """Turns `axis` of length n, and the taps (0, 1, 2) on the axis 3, into an axis of length 2n."""
    first, odd, last = (lax.index_in_dim(taps, tap, 3, keepdims=False) for tap in range(3))
    before = [(1, -1, 0) if i == axis else (0, 0, 0) for i in range(last.ndim)]
    even = first + lax.pad(last, jnp.zeros((), last.dtype), before)
    shape = (*even.shape[:axis], 2 * even.shape[axis], *even.shape[axis + 1 :])
    return jnp.stack([even, odd], axis + 1).reshape(shape)
