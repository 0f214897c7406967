"""Cleaning of predicted masks on the device, in batches, as `clean` does it on the host.

Everything is decided in whole numbers, by limits that NumPy computed, so that no rounding tells the two apart.
"""

import itertools

import jax
import jax.numpy as jnp
from jax import lax

from segfusion_jax.bridge.clean import border, limits
from segfusion_jax.bridge.levels import WHOLE, is_lesion
from segfusion_jax.config import Bridge

FALLBACKS = ("", "empty", "tiny", "border")
"""Reasons for taking the whole image, by the number that `clean` gives."""


def clean(probability: jax.Array, bridge: Bridge) -> tuple[jax.Array, jax.Array]:
    """Cleans each mask as `clean.clean` does.

    Args:
      probability: [batch, height, width] int32 in [0, 255].
      bridge: config, of which threshold, min_area and max_border count.

    Returns:
      The mask [batch, height, width] int32, and the number in `FALLBACKS`, int32 [batch].
    """
    hard = is_lesion(probability, bridge)
    largest = _largest_region(hard)
    edge = jnp.asarray(border(hard.shape[1:]))
    filled = ~_reached(edge & ~largest, ~largest)
    pixels, around = filled.sum((1, 2), dtype=jnp.int32), (filled & edge).sum((1, 2), dtype=jnp.int32)
    least, most = limits(hard.shape[1:], bridge)
    is_empty = ~hard.any((1, 2))
    fallback = jnp.where(is_empty, 1, jnp.where(pixels < least, 2, jnp.where(around > most, 3, 0))).astype(jnp.int32)
    mask = jnp.where(hard & ~filled, 0, jnp.where(filled & ~largest, WHOLE, probability))
    return jnp.where((fallback > 0)[:, None, None], WHOLE, mask), fallback


def _largest_region(hard):
    """Finds the largest region, whose pixels touch by their sides; of several the one that comes first row by row."""
    batch, height, width = hard.shape
    size = height * width
    numbers = jnp.arange(size, 0, -1, dtype=jnp.int32).reshape(height, width)
    labels = _spread(jnp.where(hard, numbers, 0), hard).reshape(batch, size)
    counts = jax.vmap(lambda one: jnp.zeros(size + 1, jnp.int32).at[one].add(1, mode="promise_in_bounds"))(labels)
    areas = jnp.where(labels > 0, jnp.take_along_axis(counts, labels, 1, mode="promise_in_bounds"), 0)
    chosen = jnp.where(areas == areas.max(1, keepdims=True), labels, 0).max(1, keepdims=True)
    return ((labels == chosen) & (labels > 0)).reshape(hard.shape)


def _reached(start, free):
    """Finds what is reached from `start` through free pixels, by their sides; bool [batch, height, width]."""
    return _spread((start & free).astype(jnp.int32), free) > 0


def _spread(values, free):
    """Gives free pixels the largest value of their connected region; int32 [batch, height, width].

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
    """Makes steps of 1, 2, 4, ... pixels along an axis, and where nothing is in the way: they carry any distance."""
    is_clear, distance = free, 1  # as many pixels as `distance`, up to and with this one
    ways = []
    while distance < free.shape[axis]:
        shift = sign * distance
        ways.append((axis, shift, is_clear & _shift(free, axis, shift)))
        is_clear = is_clear & _shift(is_clear, axis, shift)
        distance *= 2
    return ways


def _shift(array, axis, distance):
    """Moves an array by `distance`; what comes in is 0."""
    length = array.shape[axis]
    kept = lax.slice_in_dim(array, max(-distance, 0), length - max(distance, 0), axis=axis)
    zeros = jnp.zeros_like(lax.slice_in_dim(array, 0, abs(distance), axis=axis))
    return lax.concatenate([zeros, kept] if distance > 0 else [kept, zeros], axis)
