"""Drawn hairs as `classifier.augmentation.extra`: "examples.hairs:hairs"."""

import cv2
import numpy as np


def hairs(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns the image with up to 8 dark curves across it, and the mask as it is, since a hair moves no lesion."""
    height, width = mask.shape
    drawn = np.ascontiguousarray(image).copy()
    for _ in range(rng.integers(9)):
        start, bend, end = rng.uniform(0, 1, (3, 2)) * (width, height)
        along = np.linspace(0, 1, 20)[:, None]
        curve = (1 - along) ** 2 * start + 2 * along * (1 - along) * bend + along**2 * end
        colour = int(rng.integers(20, 70))
        thickness = max(1, round(min(height, width) / 150))
        cv2.polylines(
            drawn, [np.round(curve).astype(np.int32)], False, (colour, colour, colour), thickness, cv2.LINE_AA
        )
    return drawn, mask
