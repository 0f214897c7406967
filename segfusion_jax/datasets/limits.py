"""What a file may ask of a decoder beside its pixels: passes, pieces and buffers, counted before it begins."""

import io
import re
from typing import Any

from PIL import Image

SIDE = 1_000_000
"""Pixels of the longest side of an image or a mask, which can be a PNG file again."""
_SCANS = 50  # of a JPEG; libjpeg's progressive ones have 10
_SEGMENTS = 10_000  # of a JPEG before its end
_CHUNKS = 100_000  # of a PNG
_TILE = 1 << 24  # pixels of a TIFF's tile that is larger than the image
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # that ends what is between a scan's header and the next
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length


def check_content(content: bytes) -> None:
    """Checks a file before its header is read.

    Raises:
      ValueError: a JPEG of too many scans or segments, or a PNG of too many chunks.
    """
    if content.startswith(b"\xff\xd8"):
        _check_jpeg(content)
    elif content.startswith(b"\x89PNG\r\n\x1a\n"):
        _check_png(content)


def check_tiles(image: Image.Image) -> None:
    """Checks an image whose header was read.

    Raises:
      ValueError: a TIFF of tiles that are far larger than the image.
    """
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    width, height = (int(tags.get(number) or 0) for number in (322, 323))
    if width * height > max(4 * image.width * image.height, _TILE):
        raise ValueError(f"a TIFF of {image.width}x{image.height} in tiles of {width}x{height}")


def check_frame(dataset: Any) -> None:
    """Checks the compressed picture of a DICOM file against the size that the file declares.

    Raises:
      ValueError: it is larger.
    """
    from pydicom.encaps import get_frame

    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return
    frame, pixels = get_frame(dataset.PixelData, 0, number_of_frames=1), int(dataset.Rows) * int(dataset.Columns)
    if syntax.is_compressed and "RLE" in syntax.name:
        stored = pixels * int(dataset.SamplesPerPixel) * (int(dataset.BitsAllocated) // 8)
        if _unpacked(frame[64:], most=2 * stored + 4096) > 2 * stored + 4096:
            raise ValueError(f"oversized image: more than the {stored} bytes that its header declares")
        return
    check_content(frame)
    try:
        with Image.open(io.BytesIO(frame)) as image:
            width, height = image.size
    except OSError:  # of a kind that Pillow does not read
        return
    if width * height > pixels:
        raise ValueError(f"oversized image: {width}x{height}, not {dataset.Columns}x{dataset.Rows} as declared")


def _check_jpeg(content: bytes) -> None:
    place, scans = 2, 0
    for _ in range(_SEGMENTS):
        place = content.find(b"\xff", place)
        if place < 0 or place + 4 > len(content) or content[place + 1] == 0xD9:
            return
        marker = content[place + 1]
        if marker == 0xFF or marker in _ALONE:
            place += 1 if marker == 0xFF else 2
            continue
        place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        if marker == 0xDA:
            scans += 1
            if scans > _SCANS:
                raise ValueError(f"a JPEG of more than {_SCANS} scans")
            found = _MARKER.search(content, place)
            place = found.start() if found else len(content)
    raise ValueError(f"a JPEG of more than {_SEGMENTS} segments")


def _check_png(content: bytes) -> None:
    place = 8
    for _ in range(_CHUNKS):
        if place + 12 > len(content) or content[place + 4 : place + 8] == b"IEND":
            return
        place += 12 + int.from_bytes(content[place : place + 4], "big")
    raise ValueError(f"a PNG of more than {_CHUNKS} chunks")


def _unpacked(packed: bytes, *, most: int) -> int:
    """Returns how many bytes come out of PackBits, of which no more than `most` are counted."""
    place = size = 0
    while place < len(packed) and size <= most:
        head = packed[place]
        size += head + 1 if head < 128 else 257 - head if head > 128 else 0
        place += head + 2 if head < 128 else 2 if head > 128 else 1
    return size
