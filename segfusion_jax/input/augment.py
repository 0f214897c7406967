"""Random geometry and colours of training examples: an affine map of places and one of colours each."""

import cv2
import numpy as np

from segfusion_jax.config import Augmentation
from segfusion_jax.runtime import plugins

_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
"""RGB to luma and two axes of chroma (NTSC, 1953)."""
_MID_GREY = 127.5


def augment(
    image: np.ndarray, mask: np.ndarray, augmentation: Augmentation, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Returns image and mask, moved and recoloured by what is drawn; shapes are those of `warp`."""
    height, width = mask.shape
    image, mask = warp(image, mask, draw(augmentation, height, width, rng, 1)[0])
    return extra(recolour(image, draw_colours(augmentation, rng, 1)[0]), mask, augmentation, rng)


def extra(
    image: np.ndarray, mask: np.ndarray, augmentation: Augmentation, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Returns image and mask after somebody's own augmentation, `augmentation.extra`, if there is one."""
    if not augmentation.extra:
        return image, mask
    return plugins.load(augmentation.extra, "augmentation.extra")(image, mask, rng)


def draw(augmentation: Augmentation, height: int, width: int, rng: np.random.Generator, count: int) -> np.ndarray:
    """Draws flips, zooms, rotations and shifts about the centre.

    Returns:
      [count, 2, 3] float64 matrices that map (x, y) pixels of the input to pixels of the output.
    """
    angle = np.deg2rad(rng.uniform(-augmentation.rotation, augmentation.rotation, count))
    zoom = rng.uniform(1 - augmentation.zoom, 1 + augmentation.zoom, (count, 2))
    flips = (rng.random((count, 2)) < 0.5) & [augmentation.flip_horizontal, augmentation.flip_vertical]
    shift = rng.uniform(-1, 1, (count, 2)) * [augmentation.shift_width * width, augmentation.shift_height * height]
    rotation = np.moveaxis(np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]), -1, 0)
    linear = rotation * np.where(flips, -zoom, zoom)[:, np.newaxis]
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    return np.concatenate([linear, (centre + shift - linear @ centre)[..., np.newaxis]], -1)


def draw_colours(augmentation: Augmentation, rng: np.random.Generator, count: int) -> np.ndarray:
    """Draws brightness, contrast, saturation, hue and white balance.

    Returns:
      [count, 3, 4] float64: to the colour (r, g, b, 1), of values 0 to 255, its product with such a matrix is the new
      one. White balance comes first, as lamp and camera do. Saturation and hue scale and turn the chroma of YIQ.
    """

    def factors(amount):
        return rng.uniform(1 - amount, 1 + amount, count)

    amounts = augmentation.brightness, augmentation.contrast, augmentation.saturation
    brightness, contrast, saturation = (factors(amount) for amount in amounts)
    angle = np.deg2rad(rng.uniform(-augmentation.hue, augmentation.hue, count))
    along, across = saturation * np.cos(angle), saturation * np.sin(angle)
    in_yiq = np.zeros((count, 3, 3))
    in_yiq[:, 0, 0] = 1
    in_yiq[:, 1:, 1:] = np.moveaxis(np.array([[along, -across], [across, along]]), -1, 0)
    balance = rng.uniform(1 - augmentation.white_balance, 1 + augmentation.white_balance, (count, 1, 3))
    linear = (contrast * brightness)[:, None, None] * (np.linalg.inv(_TO_YIQ) @ in_yiq @ _TO_YIQ) * balance
    offset = np.repeat(_MID_GREY * (1 - contrast[:, None, None]), 3, axis=1)
    return np.concatenate([linear, offset], -1)


def recolour(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Applies a matrix of `draw_colours` to pixels of `image` [height, width, 3] uint8, rounded and cut to 0..255."""
    return cv2.transform(image, matrix)


def warp(image: np.ndarray, mask: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Moves the pixels of image and mask; beyond the border the nearest pixel repeats.

    Args:
      image: [height, width, 3] uint8.
      mask: [height, width] uint8; interpolated linearly, so that its values remain shares of lesion and thresholding
        it at one half neither grows nor shrinks it.
      matrix: [2, 3], of `draw`.

    Returns:
      The image and the mask, of the same shapes.
    """
    height, width = mask.shape
    # One warp of four channels costs half of what two of three and one do, and one that meets no border half of that.
    both = cv2.insertChannel(mask, cv2.cvtColor(image, cv2.COLOR_RGB2RGBA), 3)
    left, top, right, bottom = _overhang(matrix, height, width)
    both = cv2.copyMakeBorder(both, top, bottom, left, right, cv2.BORDER_REPLICATE)
    matrix = np.column_stack([matrix[:, :2], matrix[:, 2] - matrix[:, :2] @ [left, top]])
    both = cv2.warpAffine(both, matrix, (width, height), flags=cv2.INTER_LINEAR)
    return cv2.cvtColor(both, cv2.COLOR_RGBA2RGB), cv2.extractChannel(both, 3)


def _overhang(matrix: np.ndarray, height: int, width: int) -> list[int]:
    """Returns how many pixels beyond the left, top, right and bottom of the input the output shows, and one more."""
    inverse = cv2.invertAffineTransform(matrix)
    corners = inverse[:, :2] @ [[0, width, 0, width], [0, 0, height, height]] + inverse[:, 2:]
    beyond = np.concatenate([-corners.min(1), corners.max(1) - [width, height]])
    return np.maximum(np.ceil(beyond) + 1, 0).astype(int).tolist()
