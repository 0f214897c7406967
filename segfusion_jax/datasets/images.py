"""Image and mask files: whether they can be used, and the bytes that are kept of them. Each is decoded once."""

import dataclasses
import hashlib
import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from segfusion_jax import config
from segfusion_jax.datasets import files
from segfusion_jax.datasets.files import File
from segfusion_jax.datasets.near_duplicates import perceptual_hash
from segfusion_jax.datasets.record import Problem, Record

_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
_ORIENTATION = 0x0112  # EXIF tag; 1 = upright
_DEEP_MODES = ("I", "F")  # more than 8 bits a channel
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
    """

    image: bytes
    mask: bytes
    width: int
    height: int
    file_bytes: int
    sha256: str
    perceptual_hash: str


def store(record: Record, data: config.Data) -> Stored | Problem:
    """Decodes image and mask in full, and encodes what is kept of them.

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where what is kept is that much smaller; all of its data is read,
    so that damage is found. A mask may have another resolution than its image (HAM10000 is also passed on with small
    images and full masks): the frame is the same if the ratio of the sides is, within a pixel. It is cut or padded
    like the image and never resampled. Of a mask, lesion is what is above 128; in one of 0 and 1, the 1; in one of two
    palette colours, what is not black.

    Args:
      record: the image.
      data: config, of which `size`, `aspect` and `resampling` count.

    Returns:
      What is kept, or why the image cannot be used: absent, empty, damaged or no image, too large, of more than 8 bits
      a channel, or with a mask of another frame.
    """
    try:
        content = _content(record.image, "image")
        with _opened(content, "image") as image:
            if image.mode.startswith(_DEEP_MODES):
                raise ValueError(f"image of more than 8 bits a channel: Pillow mode {image.mode}")
            size = _upright_size(image)
            kept, pixels = _kept(image, content, size, data)
        mask = _mask(record.mask, size, data) if record.mask else b""
    except ValueError as error:
        return Problem(record.image_id, str(error))
    return Stored(
        image=kept,
        mask=mask,
        width=size[0],
        height=size[1],
        file_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        perceptual_hash=perceptual_hash(pixels).hex(),
    )


def read(file: File) -> np.ndarray:
    """Decodes an image file to [height, width, 3] uint8 RGB, upright, as stored images are.

    Raises:
      ValueError: it cannot be used; says why, as `store` does.
    """
    with _opened(_content(file, "image"), "image") as image:
        if image.mode.startswith(_DEEP_MODES):
            raise ValueError(f"image of more than 8 bits a channel: Pillow mode {image.mode}")
        return np.asarray(_loaded(image, "image").convert("RGB"))


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
    if plain and fits and _orientation(image) == 1:
        return content, np.asarray(_loaded(image, "image"))
    needed = _decoded_size(size, data)
    image.draft(None, (needed[1], needed[0]) if _orientation(image) >= 5 else needed)
    upright = _loaded(image, "image").convert("RGB")
    buffer = io.BytesIO()
    fit(upright, data).save(buffer, "JPEG", quality=95)
    return buffer.getvalue(), np.asarray(upright)


def _mask(file: File, image_size: tuple[int, int], data: config.Data) -> bytes:
    content = _content(file, "mask")
    with _opened(content, "mask") as image:
        size, plain = _upright_size(image), image.format == "PNG" and image.mode == "L" and _orientation(image) == 1
        if not same_frame(image_size, size):
            sizes = f"mask {size[0]}x{size[1]}, image {image_size[0]}x{image_size[1]} (width x height)"
            raise ValueError(f"mask of another frame than its image: {sizes}")
        upright = _loaded(image, "mask")
        values = np.asarray(_grey(upright))
        opacity = np.asarray(upright.convert("RGBA"))[..., 3] if upright.has_transparency_data else values
        if not np.ptp(values) and np.ptp(opacity):
            raise ValueError("mask whose lesion cannot be told: it is in the transparency only")
    if plain and data.aspect in ("keep", "stretch") and not np.any((values != 0) & (values != 255)):
        return content
    levels = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
    labels = levels[-1] <= 1 or (levels.size == 2 and levels[0] == 0)  # 0/1, or a palette's background and lesion
    if levels.size > 1 and levels[-1] <= 128 and not labels:
        raise ValueError(f"mask whose lesion cannot be told: its grey levels are {levels[:5].tolist()}, none above 128")
    lesion = Image.fromarray(np.where(values > (0 if labels else 128), 255, 0).astype(np.uint8))
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
    try:
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
        limit = Image.MAX_IMAGE_PIXELS  # Pillow's own, at which it warns only
        oversized = limit and image.width * image.height > limit
        if image.format != "JPEG" and not oversized:
            image.load()
    except Exception as error:  # Pillow's decoders raise whatever damage leads to: struct.error, KeyError, ...
        raise ValueError(_reason(error, what)) from error
    if oversized:
        raise ValueError(f"oversized {what}: {image.width}x{image.height} is over {limit} pixels")
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
        return f"unreadable {what}: it is none of {', '.join(_FORMATS)}"
    bomb = isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning)
    return f"{'oversized' if bomb else 'unreadable'} {what}: {error or type(error).__name__}"


def _grey(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits: their upper half, but as they are where 8 bits would have held them
        values = np.asarray(image)
        return Image.fromarray((values if values.max(initial=0) <= 255 else values >> 8).astype(np.uint8))
    return image.convert("L")


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
