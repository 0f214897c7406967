"""What a model says of one image, drawn on it: the lesion's contour, and where the evidence is."""

import functools
import pathlib
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segfusion_jax.bridge.resize import resize
from segfusion_jax.report.blocks import percent

_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)  # more takes as long as all the rest, for a fifth of the bytes
_SIDES = 512, 1600  # pixels that the longer side is brought into: text stays legible, and files small
_TEXT = 34  # parts of the longer side that a letter's height is one of
_YELLOW, _INK, _PAPER = (240, 228, 66), (51, 51, 51), (255, 255, 255)  # of the Okabe-Ito palette; as in the report
_OPACITY = 0.75  # of the strongest evidence; less is fainter, so that the photograph stays


def overlay(image: np.ndarray, mask: np.ndarray, told: Sequence[str], *, fallback: str) -> np.ndarray:
    """Returns the image with the contour of the lesion, and what is said of it below.

    Args:
      image: [height, width, 3] uint8 RGB.
      mask: [height, width] bool, the lesion.
      told: what is said, line by line.
      fallback: "" or why the mask is the whole image; then there is no contour.

    Returns:
      uint8 RGB, its longer side within 512 and 1600 pixels.
    """
    shown = _scaled(image)
    _draw_contour(shown, mask, fallback)
    said: list[tuple[str, np.ndarray | None]] = [(one, None) for one in told]
    if fallback:
        return _captioned(shown, [*said, (f"no usable mask ({fallback}): whole image", None)])
    line = np.full((_letter(shown) // 4, 2 * _letter(shown), 3), _YELLOW, np.uint8)
    framed = np.pad(line, ((2, 2), (0, 0), (0, 0)))
    return _captioned(shown, [*said, (f"lesion, {percent(float(mask.mean()))} of the image", framed)])


def evidence(
    image: np.ndarray, mask: np.ndarray, values: np.ndarray, told: Sequence[str], *, fallback: str
) -> np.ndarray:
    """Returns the image in grey under its evidence, red for malignancy and blue against it, with a legend.

    Args:
      image: as in `overlay`.
      mask: as in `overlay`.
      values: [height, width] float, of any scale: colours are relative to the strongest.
      told: as in `overlay`.
      fallback: as in `overlay`.

    Returns:
      As `overlay`.
    """
    grey = np.repeat(cv2.cvtColor(_scaled(image), cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    strongest = float(np.abs(values).max()) or 1.0
    relative = np.clip(resize(values / strongest, grey.shape[:2]), -1, 1)
    shown = _coloured(grey, relative)
    _draw_contour(shown, mask, fallback)
    size = _letter(shown)
    bar = _coloured(np.full((size, 6 * size, 3), 128, np.uint8), np.tile(np.linspace(-1, 1, 6 * size), (size, 1)))
    return _captioned(shown, [*((one, None) for one in told), ("evidence against it (blue) and for it (red)", bar)])


def save(path: pathlib.Path, pixels: np.ndarray) -> None:
    """Writes a PNG file of [height, width] or [height, width, 3] uint8, in BGR.

    Raises:
      ValueError: no PNG file has as many pixels.
      OSError: it cannot be written, as on a full disk.
    """
    is_encoded, encoded = cv2.imencode(".png", pixels, _PNG)
    if not is_encoded:
        raise ValueError(f"a picture of {pixels.shape[1]}x{pixels.shape[0]} pixels cannot be a PNG file")
    path.write_bytes(encoded.data)  # cv2.imwrite tells nobody of a full disk


def _scaled(image: np.ndarray) -> np.ndarray:
    """Returns a copy whose longer side is within `_SIDES`."""
    longer = max(image.shape[:2])
    factor = min(max(longer, _SIDES[0]), _SIDES[1]) / longer
    height, width = (max(1, round(factor * side)) for side in image.shape[:2])
    return resize(image, (height, width)).copy()


def _draw_contour(shown: np.ndarray, mask: np.ndarray, fallback: str) -> None:
    """Draws a contour bright on a dark seam, so that it is seen on any skin and any lesion."""
    if fallback:
        return
    size = shown.shape[0], shown.shape[1]
    lesion = (resize(np.where(mask, 255, 0).astype(np.uint8), size) >= 128).astype(np.uint8)
    contours, _ = cv2.findContours(lesion, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    width = max(2, round(max(size) / 400))
    cv2.drawContours(shown, contours, -1, (0, 0, 0), 3 * width, cv2.LINE_AA)
    cv2.drawContours(shown, contours, -1, _YELLOW, width, cv2.LINE_AA)


def _coloured(grey: np.ndarray, relative: np.ndarray) -> np.ndarray:
    """Lays the colours of values [height, width] in [-1, 1] over [height, width, 3] uint8, fainter near 0."""
    levels = np.round(127.5 * (relative + 1)).astype(np.uint8)
    opacity = _OPACITY * np.abs(relative)[..., None]
    return np.round((1 - opacity) * grey + opacity * _palette()[levels]).astype(np.uint8)


@functools.cache
def _palette() -> np.ndarray:
    """Returns [256, 3] float32 in [0, 255], blue over white to red: distinct under every kind of colour blindness."""
    import matplotlib  # takes a quarter of a second, which who asks for no evidence need not wait for

    colours = matplotlib.colormaps["RdBu_r"](np.arange(256))[:, :3]
    return (255 * colours).astype(np.float32)


def _letter(shown: np.ndarray) -> int:
    return max(shown.shape[:2]) // _TEXT


def _captioned(shown: np.ndarray, lines: list[tuple[str, np.ndarray | None]]) -> np.ndarray:
    """Returns the picture above lines of text, each after its swatch if it has one; wider if a line needs it."""
    size = _letter(shown)
    font, height, gap = _font(size), round(1.6 * size), size // 2
    indents = [gap if swatch is None else 2 * gap + swatch.shape[1] for _, swatch in lines]
    ends = [indent + round(font.getlength(text)) + gap for indent, (text, _) in zip(indents, lines, strict=True)]
    strip = Image.new("RGB", (max(shown.shape[1], *ends), height * len(lines)), _PAPER)
    draw = ImageDraw.Draw(strip)
    for number, (indent, (text, swatch)) in enumerate(zip(indents, lines, strict=True)):
        middle = round((number + 0.5) * height)
        draw.text((indent, middle), text, _INK, font, anchor="lm")
        if swatch is not None:
            strip.paste(Image.fromarray(swatch), (gap, middle - swatch.shape[0] // 2))
    sides = strip.width - shown.shape[1]
    centred = cv2.copyMakeBorder(shown, 0, 0, sides // 2, sides - sides // 2, cv2.BORDER_CONSTANT, value=_PAPER)
    return np.concatenate([centred, np.asarray(strip)])


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
