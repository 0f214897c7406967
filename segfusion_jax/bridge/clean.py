"""Cleaning of a predicted mask, on the host. `traced_clean` is the same on the device."""

import functools

import cv2
import numpy as np

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
    largest = _largest(hard)
    filled = ~_outside(largest)
    least, most = limits(filled.shape, bridge)
    if np.count_nonzero(filled) < least:
        return whole, "tiny"
    if np.count_nonzero(filled & border(filled.shape)) > most:
        return whole, "border"
    mask = np.where(hard & ~filled, 0, probability)
    return np.where(filled & ~largest, WHOLE, mask).astype(np.uint8), ""


def _largest(hard: np.ndarray) -> np.ndarray:
    """Returns the largest component of neighbours that share a side, bool; of equally large ones the first by rows."""
    _, labels, facts, _ = cv2.connectedComponentsWithStats(hard.view(np.uint8), connectivity=4)
    return labels == np.argmax(facts[1:, cv2.CC_STAT_AREA]) + 1


def _outside(lesion: np.ndarray) -> np.ndarray:
    """Returns what can be reached from the border without crossing the lesion, bool: all but it and its holes."""
    rest = np.pad(~lesion, 1, constant_values=True)
    _, labels = cv2.connectedComponents(rest.view(np.uint8), connectivity=4)
    return (labels == labels[0, 0])[1:-1, 1:-1]


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
