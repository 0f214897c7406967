"""Pixels as they were meant: colour profiles are applied, and grey of 16 bits is brought to 8.

Screens, OpenCV and the networks take numbers as sRGB. A camera that embeds another profile (Adobe RGB, Display P3)
means other colours by the same numbers.
"""

import functools
import io

import numpy as np
from PIL import Image, ImageCms

UNUSABLE = "unusable profile"
"""Stands for the name of a profile that is damaged, or of another kind of colours than its image."""

_LATTICE = np.stack(np.meshgrid(*[np.linspace(0, 255, 9).astype(np.uint8)] * 3, indexing="ij"), -1).reshape(27, 27, 3)
_SAME = 2  # levels, which sRGB's own profiles of several makers differ by at most
_WHITE_IS_ZERO = 262, 0  # TIFF: PhotometricInterpretation
_12_BITS = 4095
_NORM = 6  # 1 would be the mean, which a large lesion moves; infinity the brightest pixel


def foreign_profile(image: Image.Image) -> str:
    """Returns the name of the profile by which an image's colours are not sRGB's; "" if they are, or it has none.

    Of one that cannot be used, which means nothing, as in browsers, it is `UNUSABLE`.
    """
    conversion = _conversion(image.info.get("icc_profile") or b"", _profiled_mode(image))
    return conversion[0] if conversion else ""


def to_srgb(image: Image.Image) -> Image.Image:
    """Returns a loaded image as RGB, in sRGB.

    Raises:
      ValueError: more than 8 bits a channel, of a kind whose range is not known.
    """
    mode = _profiled_mode(image)
    conversion = _conversion(image.info.get("icc_profile") or b"", mode)
    if image.mode.startswith(("I", "F")):
        return _eight_bits(image).convert("RGB")
    if conversion is None or conversion[1] is None:
        return image.convert("RGB")
    source = image if image.mode == mode else image.convert(mode)
    converted = ImageCms.applyTransform(source, conversion[1])
    assert converted is not None  # as it is not in place
    return converted


def even(pixels: np.ndarray) -> np.ndarray:
    """Returns a picture as it would be under white light, uint8 RGB [height, width, 3] like the one given.

    The light is taken to be what the channels' 6-norms are ("shades of grey", G. D. Finlayson and E. Trezzi, Color
    Imaging Conference 2004): each channel is multiplied by what makes its norm the mean of the three.
    """
    counts = np.stack([np.bincount(pixels[..., channel].ravel(), minlength=256) for channel in range(3)])
    light = (counts @ (np.arange(256) / 255) ** _NORM / counts.sum(1)) ** (1 / _NORM)
    if not light.all():  # without a colour there is nothing to be made even
        return pixels
    levels = np.clip(np.rint(np.outer(light.mean() / light, np.arange(256))), 0, 255).astype(np.uint8)
    return np.stack([levels[channel][pixels[..., channel]] for channel in range(3)], axis=-1)


def _profiled_mode(image: Image.Image) -> str:
    """Returns the mode in which a profile of the image is applied."""
    if image.mode in ("L", "LA", "1"):
        return "L"
    return "CMYK" if image.mode == "CMYK" else "RGB"


@functools.lru_cache(maxsize=32)
def _conversion(profile: bytes, mode: str) -> tuple[str, ImageCms.ImageCmsTransform | None] | None:
    """Returns the name of a profile and what brings its colours to sRGB; None where nothing has to be done."""
    if not profile:
        return None
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        transform = ImageCms.buildTransform(opened, target, mode, "RGB", flags=ImageCms.Flags.BLACKPOINTCOMPENSATION)
        name = ImageCms.getProfileDescription(opened).strip() or "unnamed profile"
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return UNUSABLE, None
    if mode == "CMYK":
        return name, transform
    lattice = Image.fromarray(_LATTICE).convert(mode)
    converted = ImageCms.applyTransform(lattice, transform)
    assert converted is not None
    plain = np.asarray(lattice.convert("RGB")).astype(int)
    return (name, transform) if np.abs(np.asarray(converted) - plain).max() > _SAME else None


def _eight_bits(image: Image.Image) -> Image.Image:
    """Brings 16 bits of grey to 8 by the range of the format, 0 to 65,535."""
    values = np.asarray(image)
    if not image.mode.startswith("I;16"):
        raise ValueError(f"image of more than 8 bits a channel: Pillow mode {image.mode}, whose range is not known")
    largest = int(values.max(initial=0))
    if largest <= _12_BITS:
        raise ValueError(
            f"image of more than 8 bits a channel: its 16 bits hold no more than {largest}, so 12, 10 or 8 of them "
            "were used; save it with 8 bits, or scaled to the range 0 to 65535"
        )
    scaled = ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    tag, zero = _WHITE_IS_ZERO
    if getattr(image, "tag_v2", {}).get(tag) == zero:
        scaled = 255 - scaled
    return Image.fromarray(scaled)
