"""Image and mask files: whether they can be used, and the bytes that are kept of them."""

import hashlib
import io
import pathlib

import numpy as np
from PIL import Image, ImageOps

from segfusion_jax.datasets.record import Problem, Record

_ORIENTATION = 0x0112  # EXIF tag; 1 = upright
_DEEP_MODES = ("I", "F")  # more than 8 bits a channel


def check(record: Record) -> Problem | None:
    """Decodes image and mask in full; None if both can be used.

    Finds files that are absent, empty, truncated, corrupt, no images, larger than Pillow's decompression-bomb limit, of
    more than 8 bits a channel, and masks of another frame. A mask may have another resolution than its image (HAM10000
    is also passed on with small images and full masks): the frame is the same if the sides' ratio is, within a pixel.
    """
    problem, image_size = _decode(record.image, "image")
    if problem:
        return Problem(record.image_id, problem)
    if record.mask is None:
        return None
    problem, mask_size = _decode(record.mask, "mask")
    if problem:
        return Problem(record.image_id, problem)
    if not _same_frame(image_size, mask_size):
        sizes = f"mask {mask_size[0]}x{mask_size[1]}, image {image_size[0]}x{image_size[1]} (width x height)"
        return Problem(record.image_id, f"mask of another frame than its image: {sizes}")
    return None


def read(file: pathlib.Path | bytes) -> np.ndarray:
    """Decodes an image file to [height, width, 3] uint8 RGB, upright, as stored records are.

    Raises:
      ValueError: it cannot be used; says why, as `check` does.
    """
    problem, _ = _decode(file, "image")
    if problem:
        raise ValueError(problem)
    with Image.open(io.BytesIO(_bytes(file))) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def content_hash(record: Record) -> str:
    """SHA-256 of the image's encoded bytes."""
    return hashlib.sha256(_bytes(record.image)).hexdigest()


def encoded(record: Record, max_side: int) -> tuple[bytes, bytes]:
    """Image and mask as they are stored.

    Args:
      record: one that `check` passed.
      max_side: pixels; a larger image is reduced to this longer side by area averaging.

    Returns:
      The image: the file's own bytes if it is an upright RGB JPEG or PNG within `max_side`, otherwise an RGB JPEG of
      quality 95. The mask: an 8-bit PNG of 0 and 255 at its own resolution, lesion where a grey mask is above 128,
      a 0/1 mask is 1, and a two-colour palette is not black; b"" without annotation.
    """
    content = _bytes(record.image)
    with Image.open(io.BytesIO(content)) as image:
        upright = image.getexif().get(_ORIENTATION, 1) == 1
        plain = image.format in ("JPEG", "PNG") and image.mode == "RGB" and "transparency" not in image.info
        if not (upright and plain and max(image.size) <= max_side):
            content = _reduced(image, max_side)
    return content, b"" if record.mask is None else _encoded_mask(_bytes(record.mask))


def _reduced(image: Image.Image, max_side: int) -> bytes:
    if image.mode != "RGB":  # area averaging must not see palette indices
        upright = ImageOps.exif_transpose(image).convert("RGB")
        upright.thumbnail((max_side, max_side), Image.Resampling.BOX)
    else:
        image.thumbnail((max_side, max_side), Image.Resampling.BOX, reducing_gap=3.0)  # JPEG decoding at 1/2, 1/4, 1/8
        upright = ImageOps.exif_transpose(image)
    buffer = io.BytesIO()
    upright.save(buffer, "JPEG", quality=95, exif=b"")
    return buffer.getvalue()


def _encoded_mask(content: bytes) -> bytes:
    with Image.open(io.BytesIO(content)) as image:
        upright = image.getexif().get(_ORIENTATION, 1) == 1
        values = np.asarray(ImageOps.exif_transpose(image).convert("L"))
        levels = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
        if image.format == "PNG" and image.mode == "L" and upright and set(levels.tolist()) <= {0, 255}:
            return content
    labels = levels[-1] <= 1 or (levels.size == 2 and levels[0] == 0)  # 0/1, or a palette's background and lesion
    lesion = values > (0 if labels else 128)
    buffer = io.BytesIO()
    Image.fromarray(np.where(lesion, 255, 0).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _decode(file: pathlib.Path | bytes, what: str) -> tuple[str, tuple[int, int]]:
    """What is wrong with a file ("" = nothing), and its upright width and height."""
    try:
        content = _bytes(file)
        if not content:
            return f"empty {what} file: zero bytes", (0, 0)
        with Image.open(io.BytesIO(content)) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit and image.width * image.height > limit:
                return f"oversized {what}: {image.width}x{image.height} is over {limit} pixels", (0, 0)
            if image.mode.startswith(_DEEP_MODES):
                return f"{what} of more than 8 bits a channel: Pillow mode {image.mode}", (0, 0)
            image.load()
            turned = image.getexif().get(_ORIENTATION, 1) >= 5
            return "", (image.height, image.width) if turned else image.size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        return f"oversized {what}: {error}", (0, 0)
    except (OSError, SyntaxError, ValueError) as error:
        return f"unreadable {what}: {error}", (0, 0)


def _same_frame(image: tuple[int, int], mask: tuple[int, int]) -> bool:
    """Whether the smaller of two sizes is the other one scaled, with sides rounded to whole pixels."""
    small, large = sorted((image, mask), key=lambda size: size[0] * size[1])
    scale = max(small) / max(large)
    return all(abs(s - scale * side) <= 1 for s, side in zip(small, large, strict=True))


def _bytes(file: pathlib.Path | bytes) -> bytes:
    return file if isinstance(file, bytes) else file.read_bytes()
