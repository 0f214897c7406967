"""Resizing and cropping of images on the device, as `resize` does it on the host."""

import jax
import jax.numpy as jnp
from jax import lax

from segfusion_jax.bridge.resize import SPARE

MOST_HALVINGS = 8
"""That are looked for: enough for images 500 times as large as what is asked for."""

Range = tuple[jax.Array, jax.Array]
"""First and last + 1, int32 [batch] each."""


def resize(images: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Stretches images to `size`, as `resize.resize` does.

    Args:
      images: [batch, height, width, channels] float32, whole numbers.
      size: (height, width).

    Returns:
      [batch, *size, channels] float32, whole numbers: the host's, or one or two beside them, since it rounds
      after each halving.
    """
    if images.shape[1:3] == size:
        return images
    whole = [(jnp.zeros(1, jnp.int32), jnp.full(1, side, jnp.int32)) for side in images.shape[1:3]]
    rows, columns = (weights.squeeze(0) for weights in _weights(whole, images.shape[1:3], size))
    return _resample(images, rows, columns, "oh,bhwc->bowc", "pw,bowc->bopc")


def crop(images: jax.Array, rows: Range, columns: Range, size: tuple[int, int]) -> jax.Array:
    """`resize` of a part of each image.

    Args:
      images: [batch, height, width, channels] float32, whole numbers.
      rows: of each image's part.
      columns: of each image's part.
      size: (height, width).

    Returns:
      [batch, *size, channels] float32, as of `resize`.
    """
    of_rows, of_columns = _weights([rows, columns], images.shape[1:3], size)
    return _resample(images, of_rows, of_columns, "boh,bhwc->bowc", "bpw,bowc->bopc")


def _resample(images, rows, columns, over_rows, over_columns):
    """One axis after the other. In full precision: accelerators would round levels of grey to bfloat16.

    Halves, which are frequent, go up, as where OpenCV halves; by the thousandth they do so however sums are ordered.
    """
    precise = lax.Precision.HIGHEST
    taller = jnp.einsum(over_rows, rows, images, precision=precise)
    return jnp.floor(jnp.einsum(over_columns, columns, taller, precision=precise) + 0.501)


def _weights(ranges, lengths, size):
    """Of rows and of columns: what each old one adds to each new one, float32 [batch, new, old]; sums are 1."""
    starts, stops = ([ends[place].astype(jnp.float32)[:, None, None] for ends in ranges] for place in range(2))
    halved = _halved([stop - start for start, stop in zip(starts, stops, strict=True)], size)
    axes = zip(starts, stops, lengths, size, strict=True)
    return [_of_axis(start, stop, length, new, halved) for start, stop, length, new in axes]


def _halved(sides, size):
    """By what both sides are divided before the areas are taken: a power of two."""
    factor = jnp.ones_like(sides[0])
    for _ in range(MOST_HALVINGS):
        left = [side / factor for side in sides]
        is_large = [side >= 2 * SPARE * new for side, new in zip(left, size, strict=True)]
        is_even = [jnp.floor(side / 2) * 2 == side for side in left]
        factor = jnp.where(is_large[0] & is_large[1] & is_even[0] & is_even[1], 2 * factor, factor)
    return factor


def _of_axis(start, stop, length, size, halved):
    """Areas covered, in pixels `halved` times as large, where an axis shrinks; linear interpolation where it grows."""
    new = jnp.arange(size, dtype=jnp.float32)[:, None]
    old = jnp.arange(length, dtype=jnp.float32) - start
    scale = (stop - start) / halved / size
    cell = jnp.floor(old / halved)
    covered = jnp.maximum(jnp.minimum(cell + 1, (new + 1) * scale) - jnp.maximum(cell, new * scale), 0)
    near = jnp.maximum(1 - jnp.abs(old - jnp.clip((new + 0.5) * scale - 0.5, 0, stop - start - 1)), 0)
    return jnp.where(scale >= 1, covered / (scale * halved), near)
