"""The Data Processing Bridge: cleans a predicted mask and applies it to the image. The one definition of 'masked'.

`clean` and `frame` run on the host, on single examples (NumPy); `apply` runs in the compiled step, on batches (JAX).
"""

import math

import numpy as np
from scipy import ndimage

from segfusion_jax.config import Bridge

WHOLE = 255
"""Value of a mask that falls back to the whole image, and of certain lesion."""


def clean(probability: np.ndarray, bridge: Bridge) -> tuple[np.ndarray, str]:
    """Keeps the largest connected lesion, fills its holes, and falls back to the whole image where that makes no sense.

    Args:
      probability: [height, width] uint8, 255 = certainly lesion.
      bridge: its threshold, min_area and max_border.

    Returns:
      [height, width] uint8 mask, 0 in all other components and 255 in filled holes; and why the whole image is taken
      instead: "empty", "tiny", "border", or "" where it is not.
    """
    hard = probability >= bridge.threshold * WHOLE
    whole = np.full_like(probability, WHOLE)
    if not hard.any():
        return whole, "empty"
    labels = np.empty(hard.shape, np.int32)
    ndimage.label(hard, output=labels)
    largest = labels == np.argmax(np.bincount(labels.ravel())[1:]) + 1
    filled = np.asarray(ndimage.binary_fill_holes(largest))
    if filled.mean() < bridge.min_area:
        return whole, "tiny"
    border = np.concatenate([filled[0], filled[-1], filled[1:-1, 0], filled[1:-1, -1]])
    if border.mean() > bridge.max_border:
        return whole, "border"
    mask = np.where(hard & ~filled, 0, probability)
    return np.where(filled & ~largest, WHOLE, mask).astype(np.uint8), ""


def frame(image: np.ndarray, mask: np.ndarray, bridge: Bridge) -> tuple[np.ndarray, np.ndarray]:
    """The geometry of a mode: grows the mask ('dilate', 'crop_dilate') and cuts to its box ('crop', 'crop_dilate').

    Args:
      image: [height, width, 3] uint8.
      mask: [any height, any width] uint8 of the same frame.

    Returns:
      The image and the mask, each at its own resolution.
    """
    if bridge.mode in ("dilate", "crop_dilate"):
        mask = _dilate(mask, bridge)
    if bridge.mode in ("crop", "crop_dilate"):
        top, bottom, left, right = _box(mask, bridge)
        return _cut(image, top, bottom, left, right), _cut(mask, top, bottom, left, right)
    return image, mask


def apply(image, mask, bridge: Bridge):
    """What the classifier sees.

    Args:
      image: [..., height, width, 3] float in [0, 1], from `frame`; NumPy or JAX.
      mask: [..., height, width, 1] float in [0, 1], of the image's kind and dtype.

    Returns:
      [..., height, width, 3] in [0, 1]; in mode 'channel' the mask follows as a fourth channel.
    """
    hard = (mask >= bridge.threshold).astype(image.dtype)
    match bridge.mode:
        case "none" | "crop":
            return image
        case "black" | "dilate" | "crop_dilate":
            return image * hard
        case "dim":
            return image * (bridge.alpha + (1 - bridge.alpha) * hard)
        case "soft":
            return image * mask
        case "channel":
            return image.__array_namespace__().concatenate([image, mask], axis=-1)
        case "background_only":
            return image * (1 - hard)
        case "mask_only":
            return 0 * image + hard
    raise ValueError(f"bridge.mode = {bridge.mode!r} is not a mode")


def _dilate(mask, bridge):
    hard = mask >= bridge.threshold * WHOLE
    distance = np.asarray(ndimage.distance_transform_edt(~hard))
    grown = hard.any() & (distance <= bridge.dilation * np.hypot(*mask.shape))  # without lesion SciPy measures nonsense
    return np.where(grown, WHOLE, 0).astype(np.uint8)


def _box(mask, bridge):
    """Fractions (top, bottom, left, right) of the mask's box with its margin, in whole pixels of the mask.

    So the mask is cut exactly there, and the image, which is usually larger, at the same place.
    """
    hard = mask >= bridge.threshold * WHOLE
    ends = []
    for axis in (1, 0):
        inside = np.flatnonzero(hard.any(axis))
        first, last = (inside[0], inside[-1] + 1) if inside.size else (0, hard.shape[1 - axis])
        margin = round(bridge.margin * (last - first), 6)
        start, stop = max(0, math.floor(first - margin)), min(hard.shape[1 - axis], math.ceil(last + margin))
        ends += [start / hard.shape[1 - axis], stop / hard.shape[1 - axis]]
    return ends


def _cut(array, top, bottom, left, right):
    height, width = array.shape[:2]
    ends = np.round([top * height, bottom * height, left * width, right * width], 6)  # 24 / 49 * 49 is more than 24
    (top, left), (bottom, right) = np.floor(ends[::2]).astype(int), np.ceil(ends[1::2]).astype(int)
    return array[top:bottom, left:right]
