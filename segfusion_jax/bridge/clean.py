"""Cleaning of a predicted mask, on the host. `traced_clean` is the same on the device."""

import functools

import numpy as np
from scipy import ndimage

from segfusion_jax.bridge.levels import WHOLE, is_lesion
from segfusion_jax.config import Bridge


def clean(probability: np.ndarray, bridge: Bridge) -> tuple[np.ndarray, str]:
    """Keeps the largest connected lesion, fills its holes, and falls back to the whole image where that makes no sense.

    Args:
      probability: [height, width] uint8, 255 = certainly lesion.
      bridge: config, of which threshold, min_area and max_border count.

    Returns:
      [height, width] uint8 mask, 0 in all other components and 255 in filled holes; and why the whole image is taken
      instead: "empty", "tiny", "border", or "" where it is not.
    """
    hard = is_lesion(probability, bridge)
    whole = np.full_like(probability, WHOLE)
    if not hard.any():
        return whole, "empty"
    labels = np.empty(hard.shape, np.int32)
    ndimage.label(hard, output=labels)
    largest = labels == np.argmax(np.bincount(labels.ravel())[1:]) + 1
    filled = np.asarray(ndimage.binary_fill_holes(largest))
    least, most = limits(filled.shape, bridge)
    if np.count_nonzero(filled) < least:
        return whole, "tiny"
    if np.count_nonzero(filled & border(filled.shape)) > most:
        return whole, "border"
    mask = np.where(hard & ~filled, 0, probability)
    return np.where(filled & ~largest, WHOLE, mask).astype(np.uint8), ""


@functools.lru_cache
def limits(shape: tuple[int, ...], bridge: Bridge) -> tuple[int, int]:
    """Returns how many pixels of a mask must be lesion at least, and how many along its border may be at most."""
    area, length = shape[0] * shape[1], np.count_nonzero(border(shape))
    least = np.argmax(np.arange(area + 1) / area >= bridge.min_area)
    most = np.argmin(np.append(np.arange(length + 1) / length <= bridge.max_border, False)) - 1
    return int(least), int(most)


def border(shape: tuple[int, ...]) -> np.ndarray:
    """Tells which pixels lie along the border, [height, width] bool."""
    inside = np.zeros(shape, bool)
    inside[1:-1, 1:-1] = True
    return ~inside
