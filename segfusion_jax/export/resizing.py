"""Resizing and cropping of images on the device, as `decode.resize` does it on the host."""

import jax
import jax.numpy as jnp
from jax import lax


def resize(images: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Stretches images to `size`: the means of the areas covered where they shrink, linearly where they grow.

    `decode.resize` halves first what is much larger, which moves the borders of the areas a little.

    Args:
      images: [batch, height, width, channels] float32, whole numbers.
      size: (height, width).

    Returns:
      [batch, *size, channels] float32, rounded to whole numbers.
    """
    if images.shape[1:3] == size:
        return images
    starts = jnp.zeros((1,), jnp.int32)
    stops = [jnp.full((1,), side, jnp.int32) for side in images.shape[1:3]]
    rows, columns = (_weights(starts, stop, *sides) for stop, *sides in zip(stops, images.shape[1:3], size, strict=True))
    return _resample(images, rows.squeeze(0), columns.squeeze(0), "oh,bhwc->bowc", "pw,bowc->bopc")


def crop(images: jax.Array, rows: tuple[jax.Array, jax.Array], columns: tuple[jax.Array, jax.Array], size: tuple[int, int]) -> jax.Array:
    """`resize` of a part of each image.

    Args:
      images: [batch, height, width, channels] float32, whole numbers.
      rows: first and last + 1 of each image's part, int32 [batch] each.
      columns: likewise.
      size: (height, width).

    Returns:
      [batch, *size, channels] float32, rounded to whole numbers.
    """
    height, width = images.shape[1:3]
    weights = _weights(*rows, height, size[0]), _weights(*columns, width, size[1])
    return _resample(images, *weights, "boh,bhwc->bowc", "bpw,bowc->bopc")


def _resample(images, rows, columns, over_rows, over_columns):
    """One axis after the other. In full precision: accelerators would round levels of grey to bfloat16."""
    precise = lax.Precision.HIGHEST
    taller = jnp.einsum(over_rows, rows, images, precision=precise)
    return jnp.round(jnp.einsum(over_columns, columns, taller, precision=precise))


def _weights(start, stop, length, size):
    """Of each of `length` pixels in each of `size`, where those from `start` to `stop` are stretched to them.

    Args:
      start: int32 [batch].
      stop: int32 [batch].
      length: number of pixels.
      size: number of new ones.

    Returns:
      [batch, size, length] float32, rows add up to 1.
    """
    start, stop = (end.astype(jnp.float32)[:, None, None] for end in (start, stop))
    new, old = jnp.arange(size, dtype=jnp.float32)[:, None], jnp.arange(length, dtype=jnp.float32)
    scale = (stop - start) / size
    low, high = start + new * scale, start + (new + 1) * scale
    covered = jnp.maximum(jnp.minimum(old + 1, high) - jnp.maximum(old, low), 0) / scale
    middle = jnp.clip(start + (new + 0.5) * scale - 0.5, start, stop - 1)
    near = jnp.maximum(1 - jnp.abs(old - middle), 0)
    return jnp.where(scale >= 1, covered, near)
