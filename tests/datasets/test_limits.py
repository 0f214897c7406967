"""Small files that ask much of a decoder, and files of other kinds than regular ones."""

import io
import os
import pathlib
import socket
import struct
import time
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from segfusion_jax.datasets import images, limits
from segfusion_jax.datasets.files import DiskFile, Folder, MemoryFile

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))


def encoded(kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    PICTURE.save(buffer, kind, **options)
    return buffer.getvalue()


def read(content: bytes) -> np.ndarray:
    return images.read(MemoryFile("a", content))


@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {"progressive": True}), ("JPEG", {}), ("PNG", {}), ("TIFF", {"compression": "tiff_lzw"})],
)
def test_usual_files_pass(kind, options):
    assert read(encoded(kind, **options)).shape == (40, 60, 3)


def test_a_jpeg_of_many_scans_is_refused():
    content = encoded("JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    many = content[:last] + content[last:-2] * 60 + b"\xff\xd9"
    with pytest.raises(ValueError, match="a JPEG of more than 50 scans"):
        read(many)
    hidden = content[:2] + b"\xff\xe1" + struct.pack(">H", 2002) + b"\xff\xda" * 1000 + content[2:]
    assert read(hidden).shape == (40, 60, 3), "those in a comment are none"


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_file_of_many_empty_pieces_is_refused_at_once(kind):
    piece, at = (b"\xff\xfe\x00\x02", 2) if kind == "JPEG" else (struct.pack(">I4sI", 0, b"teSt", 0), 33)
    content = encoded(kind)
    start = time.process_time()
    with pytest.raises(ValueError, match="of more than .* (segments|chunks)"):
        read(content[:at] + piece * 3_000_000 + content[at:])
    assert time.process_time() - start < 20  # Pillow alone takes minutes


def test_a_tiff_of_tiles_far_larger_than_itself_is_refused():
    content = bytearray(encoded("TIFF", compression="tiff_lzw"))
    (ifd,) = struct.unpack("<I", content[4:8])
    (count,) = struct.unpack("<H", content[ifd : ifd + 2])
    of_tiles = {273: 324, 279: 325, 278: 322, 284: 323}  # offsets, lengths, and what become width and height
    for entry in range(ifd + 2, ifd + 2 + 12 * count, 12):
        (tag,) = struct.unpack("<H", content[entry : entry + 2])
        content[entry : entry + 2] = struct.pack("<H", of_tiles.get(tag, tag))
        if tag in (278, 284):
            content[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, 1 << 15)
    with pytest.raises(ValueError, match="a TIFF of 60x40 in tiles of 32768x32768"):
        read(bytes(content))


def test_a_dicom_whose_picture_is_larger_than_it_says_is_refused():
    pytest.importorskip("pydicom")
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit, RLELossless

    from tests.datasets import dicom_files

    large = io.BytesIO()
    Image.new("RGB", (4000, 4000)).save(large, "JPEG")
    rle = struct.pack("<16I", 3, 64, 64, 64, *[0] * 12) + b"\x81\x00" * 200_000
    for syntax, frame in ((JPEGBaseline8Bit, large.getvalue()), (RLELossless, rle)):
        dataset = dicom_files.made(np.asarray(PICTURE))
        dataset.PixelData = encapsulate([frame])
        dataset["PixelData"].VR = "OB"
        dataset.file_meta.TransferSyntaxUID = syntax
        with pytest.raises(ValueError, match="oversized image"):
            read(dicom_files.saved(dataset))


def test_a_side_that_no_png_can_have_is_refused():
    for size in ((1_000_001, 2), (2, 1_000_001)):
        buffer = io.BytesIO()
        Image.new("L", size).save(buffer, "TIFF", compression="tiff_lzw")
        with pytest.raises(ValueError, match="oversized image: .* is over 1000000 pixels a side"):
            read(buffer.getvalue())


@pytest.fixture(params=["fifo", "device", "socket"])
def odd(request, tmp_path) -> pathlib.Path:
    """Something called like an image that is no regular file."""
    path = tmp_path / "b.jpg"
    if request.param == "fifo":
        os.mkfifo(path)
    elif request.param == "device":
        path.symlink_to("/dev/zero")
    else:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
    return path


def test_what_is_no_regular_file_is_an_error_by_its_name_and_never_waited_for(odd):
    (found,) = Folder(odd.parent).files()
    assert found.name == "b.jpg"
    for file in (found, DiskFile(odd, 0)):
        with pytest.raises(ValueError, match="unreadable image"):
            images.read(file)
    assert images.header(odd) == (0, 0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "WEBP"])
def test_a_header_tells_the_pixels_without_decoding_them(tmp_path, kind):
    path = tmp_path / "a"
    Image.new("RGB", (3000, 2000)).save(path, kind)
    tracemalloc.start()
    try:
        assert images.header(path) == (path.stat().st_size, 6_000_000)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_packed_bytes_are_counted():
    assert limits._unpacked(bytes([2, 7, 7, 7, 128, 253, 9]), most=100) == 3 + 4
