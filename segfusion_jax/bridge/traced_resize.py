"""Resizing and cropping of images on the device, as `resize` does it on the host, in the same two steps."""

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
      images: [batch, height, width, channels] float32, whole numbers in [0, 255].
      size: (height, width).

    Returns:
      [batch, *size, channels] float32, whole numbers: the host's, where both sides grow or stay; where one shrinks,
      some are one beside, and where the host halves, which rounds each time, two.
    """
    if images.shape[1:3] == size:
        return images
    rows, columns = ((jnp.zeros(1, jnp.int32), jnp.full(1, side, jnp.int32)) for side in images.shape[1:3])
    return crop(images, rows, columns, size)


def crop(images: jax.Array, rows: Range, columns: Range, size: tuple[int, int]) -> jax.Array:
    """Cuts a part of each image and stretches it to `size`, as `resize` does.

    Args:
      images: [batch, height, width, channels] float32, whole numbers in [0, 255].
      rows: rows of each image's part; of length 1 where all have the same.
      columns: columns of each image's part, of one length or all.
      size: (height, width).

    Returns:
      [batch, *size, channels] float32, as of `resize`.
    """
    sides = [(stop - start)[:, None, None] for start, stop in (rows, columns)]
    halved = _halved([side.astype(jnp.float32) for side in sides], size)
    axes = zip((rows, columns), images.shape[1:3], size, strict=True)
    of_rows, of_columns = (_shrinking(ends, length, new, halved) for ends, length, new in axes)
    means = _columns(of_columns, _rows(of_rows, images))
    is_half = (sides[0] == 2 * halved * size[0]) & (sides[1] == 2 * halved * size[1])
    shrunk = _rounded(means, is_half[..., None])
    return _grown(shrunk, *(jnp.minimum(side, new) for side, new in zip(sides, size, strict=True)))


def _rounded(means, is_half):
    """Rounds to whole numbers as OpenCV does: halves to the even one, of means of 2x2 pixels up.

    What sums of floats leave below 1/8192 is no difference.
    """
    means = jnp.round(4096 * means) / 4096
    return jnp.where(is_half, jnp.floor(means + 0.5), jnp.round(means))


def _halved(sides, size):
    """Returns by what both sides are divided before the areas are taken: a power of two."""
    factor = jnp.ones_like(sides[0])
    for _ in range(MOST_HALVINGS):
        left = [side / factor for side in sides]
        is_large = [side >= 2 * SPARE * new for side, new in zip(left, size, strict=True)]
        is_even = [jnp.floor(side / 2) * 2 == side for side in left]
        factor = jnp.where(is_large[0] & is_large[1] & is_even[0] & is_even[1], 2 * factor, factor)
    return factor


def _shrinking(ends, length, size, halved):
    """Returns what each old pixel adds to each new one, float32 [batch, new, old]; sums are 1.

    It is the share of the area covered, in pixels `halved` times as large. An axis that does not shrink is only cut.
    """
    start, stop = (end.astype(jnp.float32)[:, None, None] for end in ends)
    new = jnp.arange(size, dtype=jnp.float32)[:, None]
    old = jnp.arange(length, dtype=jnp.float32) - start
    side, cell = (stop - start) / halved, jnp.floor(old / halved)
    # whole numbers: in steps of 1 / (side x size) of the axis
    covered = jnp.maximum(jnp.minimum((cell + 1) * size, (new + 1) * side) - jnp.maximum(cell * size, new * side), 0)
    return jnp.where(side >= size, covered / (side * halved), old == new)


def _grown(images, height, width):
    """Stretches the first `height` rows and `width` columns, int32 [batch, 1, 1], linearly over all of `images`.

    In OpenCV's whole numbers: shares of 2048, which are not rounded but cut off on the way.
    """
    (left, of_left), (right, of_right) = _neighbours(width, images.shape[2])
    across = jnp.floor(_columns(of_left * left + of_right * right, images) / 16)
    parts = [
        lax.div(share.astype(jnp.int32)[..., None] * _rows(place, across).astype(jnp.int32), jnp.int32(65536))
        for place, share in _neighbours(height, images.shape[1])
    ]
    return lax.div(parts[0] + parts[1] + 2, jnp.int32(4)).astype(jnp.float32)


def _neighbours(length, size):
    """Yields the old pixels before and after each of `size` new ones: where, [batch, new, old], and their shares."""
    new, old = jnp.arange(size, dtype=jnp.int32)[:, None], jnp.arange(size, dtype=jnp.int32)
    place = ((2 * new + 1) * length - size).astype(jnp.float32) / size / 2
    before = jnp.floor(place)
    after = place - before
    for shift, share in ((0, 1 - after), (1, after)):
        found = old == jnp.clip(before.astype(jnp.int32) + shift, 0, length - 1)
        yield found.astype(jnp.float32), jnp.round(2048 * share)


def _rows(weights, images):
    return _product("bnh,bhwc->bnwc", weights, images)


def _columns(weights, images):
    return _product("bnw,bhwc->bhnc", weights, images)


def _product(axes, weights, images):
    """Multiplies in full precision: accelerators would round levels to bfloat16. One image's weights serve all."""
    if weights.shape[0] == 1:
        axes, weights = axes[1:], weights[0]
    return jnp.einsum(axes, weights, images, precision=lax.Precision.HIGHEST)
