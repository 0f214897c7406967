"""Encoded bytes to arrays of one size, and masks back to bytes."""

import io

import cv2
import numpy as np
from PIL import Image


def decode_image(encoded: bytes) -> np.ndarray:
    """JPEG or PNG bytes -> [height, width, 3] uint8 RGB."""
    with Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(image.convert("RGB"))


def decode_mask(encoded: bytes) -> np.ndarray:
    """Greyscale PNG bytes -> [height, width] uint8."""
    with Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(image.convert("L"))


def encode_mask(mask: np.ndarray) -> bytes:
    """[height, width] uint8 -> PNG bytes."""
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return buffer.getvalue()


def resize(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Stretches [height, width(, channels)] uint8 to `size` (height, width).

    A shrunk pixel is the mean of the area it covers, so that a mask keeps its area and a pixel of it is the share of
    lesion; an enlarged one is interpolated linearly.
    """
    height, width = size
    if array.shape[:2] == size:
        return array
    reduced = min(width, array.shape[1]), min(height, array.shape[0])
    array = cv2.resize(array, reduced, interpolation=cv2.INTER_AREA)
    return cv2.resize(array, (width, height), interpolation=cv2.INTER_LINEAR)
