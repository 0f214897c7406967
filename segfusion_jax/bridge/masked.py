"""Framing and masking: what the classifier sees. The one definition of 'masked'.

`frame` runs on the host, on single examples; `traced.frame` is the same on the device, in batches. `apply` serves both.
"""

from typing import Any

import numpy as np

from segfusion_jax.bridge.levels import WHOLE, is_lesion
from segfusion_jax.bridge.modes import MODES
from segfusion_jax.config import Bridge


def frame(image: np.ndarray, mask: np.ndarray, bridge: Bridge) -> tuple[np.ndarray, np.ndarray]:
    """Applies the geometry of a mode: grows the mask and cuts to its box, where the mode does.

    Args:
      image: [height, width, 3] uint8.
      mask: [any height, any width] uint8 of the same frame.

    Returns:
      The image and the mask, each at its own resolution.
    """
    mode = MODES[bridge.mode]
    if mode.dilates:
        mask = dilate(mask, bridge)
    if mode.crops:
        image, mask = (array[box(mask, bridge, array.shape[:2])] for array in (image, mask))
    return image, mask


def apply(image: Any, mask: Any, bridge: Bridge) -> Any:
    """Returns what the classifier sees.

    Args:
      image: [..., height, width, 3] float in [0, 1], from `frame`; NumPy or JAX.
      mask: [..., height, width, 1] float in [0, 1], of the image's kind and dtype.

    Returns:
      [..., height, width, 3] in [0, 1]; in mode 'channel' the mask follows as a fourth channel.
    """
    hard = (mask >= bridge.threshold).astype(image.dtype)
    return MODES[bridge.mode].blend(image, mask, hard, bridge.alpha)


def dilate(mask: np.ndarray, bridge: Bridge) -> np.ndarray:
    """Grows a mask [height, width] uint8 by a disc of `radius`; to 0 or 255."""
    from scipy import ndimage  # takes a quarter of a second, which who does not dilate need not wait for

    hard = is_lesion(mask, bridge)
    distance = np.asarray(ndimage.distance_transform_edt(~hard))
    grown = hard.any() & (distance <= radius(mask.shape, bridge))  # without lesion SciPy measures nonsense
    return np.where(grown, WHOLE, 0).astype(np.uint8)


def radius(shape: tuple[int, ...], bridge: Bridge) -> float:
    """Returns by how many pixels a mask of that shape is grown."""
    return bridge.dilation * float(np.hypot(shape[0], shape[1]))


def box(mask: np.ndarray, bridge: Bridge, size: tuple[int, ...]) -> tuple[slice, slice]:
    """Finds where the box of a mask's lesion, with its margin, lies in an array of `size` over the same frame.

    The box is of whole pixels of the mask, so that the mask is cut exactly there; whoever is of another size is cut
    outwards. Without lesion it holds everything.
    """
    hard = is_lesion(mask, bridge)
    places = []
    for inside, new in zip((hard.any(1), hard.any(0)), size, strict=True):
        old = inside.size
        found = np.flatnonzero(inside)
        first, last = (found[0], found[-1] + 1) if found.size else (0, old)
        margin = margins(old, bridge)[last - first]
        start, stop = max(0, first - margin), min(old, last + margin)
        places.append(slice(start * new // old, -(-stop * new // old)))
    return places[0], places[1]


def margins(length: int, bridge: Bridge) -> np.ndarray:
    """Returns what each end of a box of 0 to `length` pixels is moved by, in whole pixels, int [length + 1]."""
    return np.ceil(np.round(bridge.margin * np.arange(length + 1), 6)).astype(np.int32)
