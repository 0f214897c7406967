"""Framing of images and masks on the device, in batches, as `masked.frame` does it on the host."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segfusion_jax.bridge.levels import WHOLE, is_lesion
from segfusion_jax.bridge.masked import margins, radius
from segfusion_jax.bridge.modes import MODES
from segfusion_jax.bridge.traced_resize import Range, crop, resize
from segfusion_jax.config import Bridge


def frame(images: jax.Array, masks: jax.Array, bridge: Bridge, size: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    """Does what `masked.frame` and `resize.resize` do, without which what is cut would not fit into an array.

    Args:
      images: [batch, height, width, 3] float32, whole numbers in [0, 255].
      masks: [batch, any height, any width] int32 in [0, 255], of the same frames.
      bridge: config whose mode decides.
      size: (height, width) that images and masks are brought to.

    Returns:
      uint8 [batch, *size, 3] and [batch, *size, 1].
    """
    masks = _grown(masks, bridge)
    parts = images, masks.astype(jnp.float32)[..., None]
    if MODES[bridge.mode].crops:
        parts = [crop(part, *box(masks, bridge, part.shape[1:3]), size) for part in parts]
    else:
        parts = [resize(part, size) for part in parts]
    return parts[0].astype(jnp.uint8), parts[1].astype(jnp.uint8)


def place(masks: jax.Array, bridge: Bridge, size: tuple[int, int]) -> jax.Array:
    """Finds what `frame` takes of images of `size` (height, width): int32 [batch, 4], top, left, bottom and right, of
    which the latter two are not in it.
    """
    whole = [jnp.zeros(masks.shape[:1], jnp.int32) + side for side in (0, 0, *size)]
    if MODES[bridge.mode].crops:
        (top, bottom), (left, right) = box(_grown(masks, bridge), bridge, size)
        whole = [top, left, bottom, right]
    return jnp.stack(whole, axis=-1)


def _grown(masks: jax.Array, bridge: Bridge) -> jax.Array:
    return dilate(masks, bridge) if MODES[bridge.mode].dilates else masks


def dilate(masks: jax.Array, bridge: Bridge) -> jax.Array:
    """Grows masks [batch, height, width] int32, as `masked.dilate` does.

    A pixel is reached if a disc around it holds lesion: a convolution, a sum of ones, exact in any precision.
    """
    reach = int(radius(masks.shape[1:], bridge))
    offsets = np.arange(-reach, reach + 1)
    disc = np.sqrt(offsets[:, None] ** 2 + offsets**2) <= radius(masks.shape[1:], bridge)
    lesion = is_lesion(masks, bridge).astype(jnp.float32)[..., None]
    kernel = jnp.asarray(disc[..., None, None], jnp.float32)
    counts = lax.conv_general_dilated(lesion, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jnp.where(counts[..., 0] > 0.5, WHOLE, 0)


def box(masks: jax.Array, bridge: Bridge, size: tuple[int, ...]) -> tuple[Range, Range]:
    """Finds `masked.box` of masks [batch, height, width] int32: rows and columns of arrays of `size`."""
    hard = is_lesion(masks, bridge)
    return _range(hard.any(2), bridge, size[0]), _range(hard.any(1), bridge, size[1])


def _range(inside, bridge, new):
    """Returns first and last + 1 of what is inside [batch, old] bool, with the margin, in `new` pixels over the same
    length.
    """
    old = inside.shape[1]
    places = jnp.arange(old, dtype=jnp.int32)
    first = jnp.where(inside, places, old).min(1)
    last = jnp.where(inside, places + 1, 0).max(1)
    first, last = jnp.where(first < last, first, 0), jnp.where(first < last, last, old)
    is_length = jnp.arange(old + 1) == (last - first)[:, None]
    margin = jnp.where(is_length, margins(old, bridge), 0).sum(1, dtype=jnp.int32)
    start, stop = jnp.maximum(first - margin, 0), jnp.minimum(last + margin, old)
    return lax.div(start * new, old), lax.div(stop * new + old - 1, old)
