"""Random geometry of training examples: one affine map, the same for image and mask."""

import cv2
import numpy as np

from segfusion_jax.config import Augmentation


def augment(
    image: np.ndarray, mask: np.ndarray, augmentation: Augmentation, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Flips, zooms, rotates and shifts at random about the centre; beyond the border the nearest pixel repeats.

    Args:
      image: [height, width, 3] uint8.
      mask: [height, width] uint8; interpolated linearly, so that its values remain shares of lesion and thresholding
        it at one half neither grows nor shrinks it.

    Returns:
      The image and the mask, of the same shapes.
    """
    height, width = mask.shape
    matrix = draw(augmentation, height, width, rng)
    # One warp of four channels costs half of what two of three and one do.
    both = cv2.insertChannel(mask, cv2.cvtColor(image, cv2.COLOR_RGB2RGBA), 3)
    both = cv2.warpAffine(both, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return cv2.cvtColor(both, cv2.COLOR_RGBA2RGB), cv2.extractChannel(both, 3)


def draw(augmentation: Augmentation, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Draws a [2, 3] float64 matrix that maps (x, y) pixels of the input to pixels of the output."""
    angle = np.deg2rad(rng.uniform(-augmentation.rotation, augmentation.rotation))
    zoom = rng.uniform(1 - augmentation.zoom, 1 + augmentation.zoom, 2)
    flips = np.where(rng.random(2) < 0.5, [augmentation.flip_horizontal, augmentation.flip_vertical], False)
    shift = rng.uniform(-1, 1, 2) * [augmentation.shift_width * width, augmentation.shift_height * height]
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = rotation @ np.diag(np.where(flips, -zoom, zoom))
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    return np.column_stack([linear, centre + shift - linear @ centre])
