"""Encoded bytes to arrays of one size, and masks back to bytes."""

import io
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from segfusion_jax.bridge.resize import resize, spare_factor
from segfusion_jax.config import Augmentation
from segfusion_jax.input.augment import augment

if TYPE_CHECKING:
    from segfusion_jax.datasets.prepared import Prepared
    from segfusion_jax.datasets.table import Row

_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}


def decode_image(encoded: bytes, size: tuple[int, int] | None = None) -> np.ndarray:
    """Decodes JPEG or PNG bytes, upright as stored, to [height, width, 3] uint8 RGB.

    Args:
      encoded: the bytes.
      size: (height, width) that `resize` will bring it to; None = not known. A JPEG that is much larger is decoded at
        1/2, 1/4 or 1/8, which costs less and is what `resize` begins with: means of 2x2, 4x4 or 8x8 pixels.

    Raises:
      ValueError: the bytes are no image.
    """
    factor = _reduction(encoded, size) if size else 1
    flags = _REDUCED[factor] & ~cv2.IMREAD_COLOR if factor > 1 else 0
    return _decode(encoded, flags | cv2.IMREAD_COLOR_RGB)


def read(
    records: "Prepared", row: "Row", size: tuple[int, int] | None = None, *, annotated: bool = True
) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns image and annotated mask of a row as stored; a copy of an image, as it was augmented before splitting.

    Args:
      records: prepared records that the row is of.
      row: the image that is read.
      size: (height, width) that the image will be resized to, as in `decode_image`; None = not known.
      annotated: whether the mask is asked for.

    Returns:
      [height, width, 3] uint8 RGB, and [height, width] uint8, perhaps of another resolution, or None.
    """
    encoded_image, encoded_mask = records.read(row.position)
    image = decode_image(encoded_image, size)
    mask = decode_mask(encoded_mask) if annotated and encoded_mask else None
    if row.copy:
        rng = np.random.default_rng((row.position, row.copy))
        whole = np.zeros(image.shape[:2], np.uint8) if mask is None else resize(mask, (image.shape[0], image.shape[1]))
        image, moved = augment(image, whole, Augmentation(), rng)
        mask = None if mask is None else moved
    return image, mask


def decode_mask(encoded: bytes) -> np.ndarray:
    """Decodes greyscale PNG bytes to [height, width] uint8.

    Raises:
      ValueError: the bytes are no image.
    """
    return _decode(encoded, cv2.IMREAD_GRAYSCALE)


def encode_mask(mask: np.ndarray) -> bytes:
    """Encodes [height, width] uint8 as PNG bytes."""
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return buffer.getvalue()


def _decode(encoded: bytes, flags: int) -> np.ndarray:
    array = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION) if encoded else None
    if array is None:
        raise ValueError(f"{len(encoded)} bytes that begin with {encoded[:8]!r} are no image that can be decoded")
    return array


def _reduction(encoded: bytes, size: tuple[int, int]) -> int:
    """Returns what a JPEG's sides may be divided by; other formats are decoded in full in any case."""
    with Image.open(io.BytesIO(encoded)) as image:  # reads the header only
        fitting = spare_factor((image.height, image.width), size) if image.format == "JPEG" else 1
    return max((factor for factor in _REDUCED if factor <= fitting), default=1)
