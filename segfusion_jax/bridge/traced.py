"""Connected regions of masks, on the device: what `bridge.clean`, `_dilate` and `_box` do on the host, in batches.

Everything is decided in whole numbers, by limits that NumPy computed, so that no rounding tells the two apart.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segfusion_jax.bridge.masked import WHOLE
from segfusion_jax.bridge.traced_resize import Range
from segfusion_jax.config import Bridge

FALLBACKS = ("", "empty", "tiny", "border")
"""Reasons for taking the whole image, by the number that `clean` gives."""


def clean(probability: jax.Array, bridge: Bridge) -> tuple[jax.Array, jax.Array]:
    """`bridge.clean` of each mask.

    Args:
      probability: [batch, height, width] int32 in [0, 255].
      bridge: its threshold, min_area and max_border.

    Returns:
      The mask [batch, height, width] int32, and the number in `FALLBACKS`, int32 [batch].
    """
    hard = is_lesion(probability, bridge)
    largest = _largest_region(hard)
    filled = ~_reached(_border(~largest), ~largest)
    pixels, around = filled.sum((1, 2), dtype=jnp.int32), (filled & _border(filled)).sum((1, 2), dtype=jnp.int32)
    height, width = filled.shape[1:]
    area, length = height * width, 2 * (height + width - 2)
    least = int(np.argmax(np.arange(area + 1) / area >= bridge.min_area))
    most = int(np.argmin(np.append(np.arange(length + 1) / length <= bridge.max_border, False))) - 1
    is_empty = ~hard.any((1, 2))
    fallback = jnp.where(is_empty, 1, jnp.where(pixels < least, 2, jnp.where(around > most, 3, 0))).astype(jnp.int32)
    mask = jnp.where(hard & ~filled, 0, jnp.where(filled & ~largest, WHOLE, probability))
    return jnp.where((fallback > 0)[:, None, None], WHOLE, mask), fallback


def dilate(mask: jax.Array, bridge: Bridge) -> jax.Array:
    """Grows masks [batch, height, width] int32 by a disc of `bridge.dilation` of the diagonal; to 0 or 255.

    A pixel is reached if a disc around it holds lesion: a convolution, a sum of ones, exact in any precision.
    """
    radius = bridge.dilation * math.hypot(*mask.shape[1:])
    reach = int(radius)
    offsets = np.arange(-reach, reach + 1)
    disc = np.sqrt(offsets[:, None] ** 2 + offsets**2) <= radius
    lesion = is_lesion(mask, bridge).astype(jnp.float32)[..., None]
    kernel = jnp.asarray(disc[..., None, None], jnp.float32)
    counts = lax.conv_general_dilated(lesion, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jnp.where(counts[..., 0] > 0.5, WHOLE, 0)


def box(mask: jax.Array, bridge: Bridge) -> tuple[Range, Range]:
    """Rows and columns of masks [batch, height, width] int32, with the margin; without lesion all of them."""
    hard = is_lesion(mask, bridge)
    return _range(hard.any(2), bridge.margin), _range(hard.any(1), bridge.margin)


def is_lesion(probability: jax.Array, bridge: Bridge) -> jax.Array:
    """Whether values in [0, 255] reach the threshold."""
    return probability >= math.ceil(bridge.threshold * WHOLE)


def _range(inside, margin):
    """First and last + 1 of what is inside [batch, length] bool, with the margin."""
    length = inside.shape[1]
    places = jnp.arange(length, dtype=jnp.int32)
    first = jnp.where(inside, places, length).min(1)
    last = jnp.where(inside, places + 1, 0).max(1)
    first, last = jnp.where(first < last, first, 0), jnp.where(first < last, last, length)
    margins = np.ceil(np.round(margin * np.arange(length + 1), 6)).astype(np.int32)
    added = jnp.where(jnp.arange(length + 1) == (last - first)[:, None], margins, 0).sum(1, dtype=jnp.int32)
    return jnp.maximum(first - added, 0), jnp.minimum(last + added, length)


def _largest_region(hard):
    """Of the largest regions, whose pixels touch by their sides, the one that comes first row by row."""
    batch, height, width = hard.shape
    size = height * width
    numbers = jnp.arange(size, 0, -1, dtype=jnp.int32).reshape(height, width)
    labels = _spread(jnp.where(hard, numbers, 0), hard).reshape(batch, size)
    counts = jax.vmap(lambda one: jnp.zeros(size + 1, jnp.int32).at[one].add(1, mode="promise_in_bounds"))(labels)
    areas = jnp.where(labels > 0, jnp.take_along_axis(counts, labels, 1, mode="promise_in_bounds"), 0)
    chosen = jnp.where(areas == areas.max(1, keepdims=True), labels, 0).max(1, keepdims=True)
    return ((labels == chosen) & (labels > 0)).reshape(hard.shape)


def _reached(start, free):
    """What can be reached from `start` through pixels that are free, by their sides; bool [batch, height, width]."""
    return _spread((start & free).astype(jnp.int32), free) > 0


def _spread(values, free):
    """The largest of the values in each connected region of free pixels; int32 [batch, height, width].

    A round carries values as far as they go along rows, then along columns. How many rounds it takes is how often a way
    through a region has to turn: a few for a lesion.
    """

    ways = [_ways(free, axis, sign) for axis in (2, 1) for sign in (1, -1)]

    def grow(state):
        values, _ = state
        grown = values
        for axis, shift, is_open in itertools.chain(*ways):
            grown = jnp.maximum(grown, _shift(grown, axis, shift) * is_open)
        return grown, (grown != values).any()

    return lax.while_loop(lambda state: state[1], grow, (values, jnp.array(True)))[0]


def _ways(free, axis, sign):
    """Steps of 1, 2, 4, ... pixels along an axis, and where nothing is in the way: together they carry any distance."""
    is_clear, distance = free, 1  # as many pixels as `distance`, up to and with this one
    ways = []
    while distance < free.shape[axis]:
        shift = sign * distance
        ways.append((axis, shift, is_clear & _shift(free, axis, shift)))
        is_clear = is_clear & _shift(is_clear, axis, shift)
        distance *= 2
    return ways


def _shift(array, axis, distance):
    """Moved by `distance`; what comes in is 0."""
    length = array.shape[axis]
    kept = lax.slice_in_dim(array, max(-distance, 0), length - max(distance, 0), axis=axis)
    zeros = jnp.zeros_like(lax.slice_in_dim(array, 0, abs(distance), axis=axis))
    return lax.concatenate([zeros, kept] if distance > 0 else [kept, zeros], axis)


def _border(like):
    return jnp.asarray(_frame(*like.shape[1:]))


def _frame(height, width):
    frame = np.ones((height, width), bool)
    frame[1:-1, 1:-1] = False
    return frame
