"""Image and mask files: whether they can be used, and the bytes that are kept of them. Each is decoded once."""

import dataclasses
import hashlib
import io
import logging
import os
import pathlib
import sys
import warnings
from collections.abc import Mapping
from typing import IO

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from segfusion_jax import config
from segfusion_jax.annotations.lesion import AmbiguousMask
from segfusion_jax.annotations.lesion import lesion as annotated_lesion
from segfusion_jax.datasets import colours, dicom, files, heic, limits
from segfusion_jax.datasets.files import File
from segfusion_jax.datasets.hashes import cut_hashes, perceptual_hash
from segfusion_jax.datasets.record import Problem, Record
from segfusion_jax.runtime import regular

_log = logging.getLogger(__name__)

_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
_ORIENTATION = 0x0112  # EXIF tag; 1 = upright
_FILTERS = {
    "area": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclasses.dataclass(frozen=True)
class Stored:
    """What is kept of an image.

    Attributes:
      image: RGB, upright, JPEG or PNG; the file's own bytes if they are that and `data` asks for no other size.
      mask: 8-bit PNG of 0 and 255 in the same frame, at the annotation's own resolution; b"" without annotation.
      width: width of the original, upright, in pixels.
      height: height of the original, upright, in pixels.
      file_bytes: size of the original's file.
      sha256: SHA-256 of the original's bytes, in hexadecimal digits.
      perceptual_hash: `near_duplicates.perceptual_hash` of the original, in hexadecimal digits.
      cut_hashes: `cuts.cut_hashes` of it, likewise.
      profile: name of the colour profile that its colours were brought to sRGB from; "" = they were sRGB.
    """

    image: bytes
    mask: bytes
    width: int
    height: int
    file_bytes: int
    sha256: str
    perceptual_hash: str
    cut_hashes: str
    profile: str = ""


def store(record: Record, data: config.Data) -> Stored | Problem:
    """Decodes image and mask in full, and encodes what is kept of them.

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where what is kept is that much smaller; all of its data is read,
    so that damage is found. A mask may have another resolution than its image (HAM10000 is also passed on with small
    images and full masks): the frame is the same if the ratio of the sides is, within a pixel. It is cut or padded
    like the image and never resampled. What of it is lesion says `annotations.lesion`, of palettes with more than two
    colours by their numbers. Colours are brought to sRGB.

    Args:
      record: the image.
      data: config, of which `size`, `aspect`, `resampling`, `illumination`, `mask_lesion` and `mask_ignored` count.

    Returns:
      What is kept, or why the image cannot be used: absent, empty, damaged or no image, too large, of more than 16 bits
      a channel, or with a mask of another frame or of which it cannot be told what is lesion.
    """
    try:
        content = _content(record.image, "image")
        with _opened(content, "image") as image:
            size, profile = _upright_size(image), colours.foreign_profile(image)
            kept, pixels = _kept(image, content, size, data)
        mask = _mask(record.mask, size, data) if record.mask else b""
    except (ValueError, OSError, MemoryError) as error:  # the latter of encoders
        return Problem(record.image_id, str(error) or type(error).__name__)
    return Stored(
        image=kept,
        mask=mask,
        width=size[0],
        height=size[1],
        file_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        perceptual_hash=perceptual_hash(pixels).hex(),
        cut_hashes=cut_hashes(pixels).hex(),
        profile=profile,
    )


def read(file: File) -> np.ndarray:
    """Decodes an image file to [height, width, 3] uint8 RGB, upright and in sRGB, as stored images are.

    Raises:
      ValueError: it cannot be used; says why, as `store` does.
    """
    return read_with_profile(file)[0]


def read_with_profile(file: File) -> tuple[np.ndarray, str]:
    """Returns what `read` does, and the name of the colour profile that the file had, as in `Stored`."""
    with _opened(_content(file, "image"), "image") as image:
        return np.asarray(_coloured(_loaded(image, "image"))), colours.foreign_profile(image)


def header(path: pathlib.Path) -> tuple[int, int]:
    """Returns the bytes of an image file, and the pixels that its header declares; 0 where it will not be decoded."""
    try:
        with regular.opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(132)
            file.seek(0)
            pixels, limit = _declared(file, head), Image.MAX_IMAGE_PIXELS or sys.maxsize - 1
            return size, 0 if pixels > limit else pixels
    except Exception:  # of damage: nearly any; reading it will tell
        return 0, 0


def declared_pixels(content: bytes) -> int:
    """Returns the pixels that the header of an encoded image declares; 0 where it cannot be read, as decoding tells."""
    try:
        limits.check_content(content)
        return _declared(io.BytesIO(content), content[:132])
    except Image.DecompressionBombError:
        return sys.maxsize
    except Exception:  # of damage: nearly any
        return 0


def _declared(file: IO[bytes], head: bytes) -> int:
    """Returns the pixels that a header declares; where a side is longer than is read, more than can be."""
    if dicom.is_dicom(head):
        return dicom.pixels(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its size, which is judged by whoever asks
        with Image.open(file, formats=(*_FORMATS, *heic.formats(head))) as image:
            return image.width * image.height if max(image.size) <= limits.SIDE else sys.maxsize


def tell_profiles(profiles: Mapping[str, int]) -> None:
    """Logs how many images had which colour profile."""
    for name, count in sorted(profiles.items()):
        if name == colours.UNUSABLE:
            _log.warning("%d images have a colour profile that cannot be used: taken as sRGB", count)
        else:
            _log.info("%d images were brought to sRGB from the colour profile %s", count, name)


def size(file: File) -> tuple[int, int]:
    """Returns width and height of an image file, upright, from its header; (0, 0) where it cannot be used."""
    try:
        with _opened(_content(file, "image"), "image") as image:
            return _upright_size(image)
    except ValueError:
        return 0, 0


def fit(image: Image.Image, data: config.Data) -> Image.Image:
    """Returns an upright image brought to `data.size`, or within it, by `data.aspect`."""
    height, width = data.size
    if data.aspect == "crop":
        image = image.crop(_centre(image.size, (width, height)))
    target = (width, height) if data.aspect in ("stretch", "crop") else _scaled(image.size, data)
    if image.size != target:
        enlarged = target[0] > image.width or target[1] > image.height
        name = (
            "bilinear" if enlarged and data.resampling == "area" else data.resampling
        )  # averaging repeats pixels there
        image = image.resize(target, _FILTERS[name])
    return _padded(image, (width, height)) if data.aspect == "letterbox" else image


def _kept(image: Image.Image, content: bytes, size: tuple[int, int], data: config.Data) -> tuple[bytes, np.ndarray]:
    """Returns bytes to keep of an image, and its pixels, perhaps at a lower resolution."""
    plain = image.format in ("JPEG", "PNG") and image.mode == "RGB" and "transparency" not in image.info
    fits = data.aspect == "keep" and max(size[0] / data.size[1], size[1] / data.size[0]) <= 1
    as_is = data.illumination == "as_is" and not colours.foreign_profile(image)
    if plain and fits and _orientation(image) == 1 and as_is:
        return content, np.asarray(_loaded(image, "image"))
    needed = _decoded_size(size, data)
    image.draft(None, (needed[1], needed[0]) if _orientation(image) >= 5 else needed)
    upright = _coloured(_loaded(image, "image"))
    shown = Image.fromarray(colours.even(np.asarray(upright))) if data.illumination == "even" else upright
    buffer = io.BytesIO()
    fit(shown, data).save(buffer, "JPEG", quality=95)
    return buffer.getvalue(), np.asarray(upright)


def _mask(file: File, image_size: tuple[int, int], data: config.Data) -> bytes:
    content = _content(file, "mask")
    with _opened(content, "mask") as image:
        size, plain = _upright_size(image), image.format == "PNG" and image.mode == "L" and _orientation(image) == 1
        if not same_frame(image_size, size):
            sizes = f"mask {size[0]}x{size[1]}, image {image_size[0]}x{image_size[1]} (width x height)"
            raise ValueError(f"mask of another frame than its image: {sizes}")
        upright = _loaded(image, "mask")
        values = _grey(upright)
        opacity = np.asarray(upright.convert("RGBA"))[..., 3] if upright.has_transparency_data else values
        if not np.ptp(values) and np.ptp(opacity):
            raise ValueError("mask whose lesion cannot be told: it is in the transparency only")
    try:
        found = annotated_lesion(values, data.mask_lesion, ignored=data.mask_ignored)
    except AmbiguousMask as error:
        raise ValueError(f"mask whose lesion cannot be told: {error}; say so by data.mask_lesion") from error
    if plain and data.aspect in ("keep", "stretch") and np.array_equal(np.where(found, 255, 0), values):
        return content
    lesion = Image.fromarray(np.where(found, 255, 0).astype(np.uint8))
    frame = data.size[1], data.size[0]
    if data.aspect == "crop":
        lesion = lesion.crop(_centre(size, frame))
    elif data.aspect == "letterbox":
        lesion = _padded(lesion, _surrounding(size, frame))
    buffer = io.BytesIO()
    lesion.save(buffer, "PNG")
    return buffer.getvalue()


def _content(file: File, what: str) -> bytes:
    if file.size > files.MAX_BYTES:
        raise ValueError(f"oversized {what}: a file of {file.size} bytes; at most {files.MAX_BYTES} are read")
    try:
        content = file.read()
    except (OSError, ValueError) as error:
        raise ValueError(f"unreadable {what}: {error}") from error
    if not content:
        raise ValueError(f"empty {what} file: zero bytes")
    return content


def _opened(content: bytes, what: str) -> Image.Image:
    """Reads the header of a JPEG, which may be decoded at scale later; decodes others, of which EXIF may stand last."""
    if dicom.is_dicom(content):
        return dicom.decode(content)
    formats = (*_FORMATS, *heic.formats(content))
    try:
        limits.check_content(content)
        image = Image.open(io.BytesIO(content), formats=formats)
        limits.check_tiles(image)
        limit = Image.MAX_IMAGE_PIXELS  # Pillow's own, at which it warns only
        oversized = (limit and image.width * image.height > limit) or max(image.size) > limits.SIDE
        if image.format != "JPEG" and not oversized:
            image.load()
    except Exception as error:  # Pillow's decoders raise whatever damage leads to: struct.error, KeyError, ...
        raise ValueError(_reason(error, what)) from error
    if oversized:
        accepted = f"{limit} pixels" if max(image.size) <= limits.SIDE else f"{limits.SIDE} pixels a side"
        raise ValueError(f"oversized {what}: {image.width}x{image.height} is over {accepted}")
    return image


def _loaded(image: Image.Image, what: str) -> Image.Image:
    """Decodes all of an image and turns it upright."""
    try:
        image.load()
        return image if _orientation(image) == 1 else ImageOps.exif_transpose(image)
    except Exception as error:
        raise ValueError(_reason(error, what)) from error


def _reason(error: Exception, what: str) -> str:
    if isinstance(error, UnidentifiedImageError):  # whose text holds an address in memory
        return f"unreadable {what}: it is none of {', '.join((*_FORMATS, 'HEIC', 'DICOM'))}"
    bomb = isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning)
    return f"{'oversized' if bomb else 'unreadable'} {what}: {error or type(error).__name__}"


def _coloured(image: Image.Image) -> Image.Image:
    try:
        return colours.to_srgb(image)
    except (ImageCms.PyCMSError, OSError) as error:
        raise ValueError(_reason(error, "image")) from error


def _grey(image: Image.Image) -> np.ndarray:
    """Returns the levels of a mask, [height, width] uint8."""
    values = np.asarray(image)
    if image.mode.startswith("I"):  # 16 bits: their upper half, but as they are where 8 bits would have held them
        return (values if values.max(initial=0) <= 255 else values >> 8).astype(np.uint8)
    if image.mode == "P" and len(np.unique(values)) > 2:
        table = np.array(image.getpalette("RGB")).reshape(-1, 3)[np.unique(values)]
        if np.ptp(table, axis=1).any():  # colours, which stand for classes
            return values
    return np.asarray(image.convert("L"))


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF; the pixels may be whole
        return 1
    return orientation if orientation in range(1, 9) else 1


def _upright_size(image: Image.Image) -> tuple[int, int]:
    return (image.height, image.width) if _orientation(image) >= 5 else image.size


def _decoded_size(size: tuple[int, int], data: config.Data) -> tuple[int, int]:
    """Returns the (width, height) below which an image of `size` must not be decoded."""
    height, width = data.size
    if data.aspect == "stretch":
        return width, height
    if data.aspect == "crop":
        scale = max(width / size[0], height / size[1])
        return round(size[0] * scale), round(size[1] * scale)
    return _scaled(size, data)


def _scaled(size: tuple[int, int], data: config.Data) -> tuple[int, int]:
    """Returns the largest (width, height) of the ratio of `size` within `data.size`; to "keep", not above `size`."""
    scale = min(data.size[1] / size[0], data.size[0] / size[1])
    if data.aspect == "keep":
        scale = min(scale, 1)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _centre(size: tuple[int, int], frame: tuple[int, int]) -> tuple[int, int, int, int]:
    """Returns the largest box (left, top, right, bottom) of the ratio of `frame` in the middle of `size`."""
    scale = min(size[0] / frame[0], size[1] / frame[1])
    width, height = max(1, round(frame[0] * scale)), max(1, round(frame[1] * scale))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return left, top, left + width, top + height


def _surrounding(size: tuple[int, int], frame: tuple[int, int]) -> tuple[int, int]:
    """Returns the smallest size of the ratio of `frame` that `size` fits into."""
    scale = max(size[0] / frame[0], size[1] / frame[1])
    return max(size[0], round(frame[0] * scale)), max(size[1], round(frame[1] * scale))


def _padded(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Returns an image in the middle of a black one of `size`."""
    padded = Image.new(image.mode, size)
    padded.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    return padded


def same_frame(image: tuple[int, int], mask: tuple[int, int]) -> bool:
    """Returns whether the smaller of two sizes is the other one scaled, with sides rounded to whole pixels."""
    small, large = sorted((image, mask), key=lambda size: size[0] * size[1])
    scale = max(small) / max(large)
    return all(abs(s - scale * side) <= 1 for s, side in zip(small, large, strict=True))
