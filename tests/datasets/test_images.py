"""Which files are refused, and what is kept of the others."""

import contextlib
import dataclasses
import hashlib
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from segfusion_jax import config
from segfusion_jax.datasets import files, images
from segfusion_jax.datasets.files import DiskFile, MemoryFile
from segfusion_jax.datasets.images import Stored
from segfusion_jax.datasets.record import Problem, Record
from tests.datasets import official


def encoded(array: np.ndarray | Image.Image, image_format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def pixels(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)


def a_record(image: bytes, mask: bytes | None = None) -> Record:
    return Record(
        image_id="a",
        image=MemoryFile("a.jpg", image),
        mask=None if mask is None else MemoryFile("a.png", mask),
        source="x",
    )


def store(image: bytes, mask: bytes | None = None, **fields) -> Stored:
    stored = images.store(a_record(image, mask), config.Data(**fields))
    assert isinstance(stored, Stored), stored
    return stored


def refused(image: bytes, mask: bytes | None = None) -> str:
    problem = images.store(a_record(image, mask), config.Data())
    assert isinstance(problem, Problem) and problem.image_id == "a"
    return problem.what


@pytest.fixture(scope="module")
def jpeg() -> bytes:
    return official.drawn(1)[0].image.read()  # 192x144


@pytest.fixture(scope="module")
def mask() -> bytes:
    record = official.drawn(1)[0]
    assert record.mask is not None
    return record.mask.read()


def square_mask(height: int, width: int, value: int = 255) -> np.ndarray:
    made = np.zeros((height, width), np.uint8)
    made[height // 4 : height // 2, width // 4 : width // 2] = value
    return made


def a_bomb() -> bytes:
    """A PNG that says it is 60,000 pixels square."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    chunks = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_small_files_are_kept_untouched(jpeg, mask):
    stored = store(jpeg, mask)
    assert (stored.image, stored.mask) == (jpeg, mask)
    assert (stored.width, stored.height, stored.file_bytes) == (192, 144, len(jpeg))
    assert stored.sha256 == hashlib.sha256(jpeg).hexdigest()
    assert store(jpeg).mask == b""


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        (lambda content: b"", "empty image file"),
        (lambda content: content[: len(content) * 2 // 3], "unreadable image: image file is truncated"),
        (lambda content: content[:100], "unreadable image"),
        (lambda content: b"<html>404 not found</html>", "unreadable image: it is none of JPEG, PNG, "),
        (lambda content: encoded(np.zeros((144, 192), np.uint16)), "image of more than 8 bits a channel"),
        (lambda content: a_bomb(), "oversized image"),
        (lambda content: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unreadable image"),
    ],
)
def test_unusable_images(jpeg, broken, what):
    assert refused(broken(jpeg)).startswith(what)


def test_unusable_files_on_disk(jpeg, tmp_path):
    path = tmp_path / "x.jpg"
    record = dataclasses.replace(a_record(b""), image=DiskFile(path, 1))
    problem = images.store(record, config.Data())
    assert isinstance(problem, Problem) and problem.kind == "unreadable image"
    path.write_bytes(jpeg)
    stored = images.store(record, config.Data())
    assert isinstance(stored, Stored) and stored.image == jpeg
    np.testing.assert_array_equal(images.read(DiskFile(path, 1)), pixels(jpeg))


def test_a_huge_file_is_not_read(jpeg, tmp_path):
    record = dataclasses.replace(a_record(b""), image=DiskFile(tmp_path / "absent", files.MAX_BYTES + 1))
    problem = images.store(record, config.Data())
    assert isinstance(problem, Problem) and problem.kind == "oversized image"


@pytest.mark.parametrize("limit", [192 * 144 - 1, 192 * 144 // 2 - 1])
def test_oversized_image(jpeg, monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.warns(Image.DecompressionBombWarning) if limit > 192 * 72 else contextlib.nullcontext():
        assert refused(jpeg).startswith("oversized image")


def test_truncated_mask(jpeg, mask):
    assert refused(jpeg, mask[:-40]).startswith("unreadable mask")


def test_mask_of_the_same_frame_at_another_resolution(jpeg):
    assert store(jpeg, encoded(square_mask(432, 576))).mask
    assert store(jpeg, encoded(square_mask(71, 96))).mask


@pytest.mark.parametrize("shape", [(192, 144), (192, 192), (144, 196), (450, 576)])
def test_mask_of_another_frame(jpeg, shape):
    what = refused(jpeg, encoded(square_mask(*shape)))
    assert what.startswith("mask of another frame than its image")
    assert f"{shape[1]}x{shape[0]}" in what and "192x144" in what


def test_large_images_are_averaged():
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    small = pixels(store(encoded(noise), size=(64, 64)).image).astype(float)
    averaged = noise.reshape(48, 10, 64, 10, 3).mean((1, 3))
    assert small.shape == (48, 64, 3)
    assert abs(small.mean((0, 1)) - averaged.mean((0, 1))).max() < 1
    assert small.std() < 15  # a nearest-neighbour reduction keeps the noise's 74


@pytest.mark.parametrize("resampling", ["area", "bilinear", "bicubic", "lanczos"])
def test_scaled_decoding_is_as_good_as_decoding_all(resampling):
    drawing = Image.fromarray(pixels(official.drawn(3)[2].image.read())).resize((3000, 2250), Image.Resampling.BICUBIC)
    content = encoded(drawing, "JPEG", quality=95)
    reduced = pixels(store(content, size=(300, 400), resampling=resampling).image).astype(float)
    expected = Image.open(io.BytesIO(content)).resize((400, 300), images._FILTERS[resampling])
    assert np.sqrt(np.mean((reduced - np.asarray(expected)) ** 2)) < 1.5


@pytest.mark.parametrize("resampling", ["area", "bilinear", "bicubic", "lanczos"])
def test_filters_are_those_of_their_names(resampling):
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    fitted = images.fit(Image.fromarray(noise), config.Data(size=(32, 40), aspect="stretch", resampling=resampling))
    pillow = {"area": "BOX"}.get(resampling, resampling.upper())
    expected = Image.fromarray(noise).resize((40, 32), Image.Resampling[pillow])
    np.testing.assert_array_equal(np.asarray(fitted), np.asarray(expected))


def a_marked_picture(width: int, height: int) -> tuple[bytes, bytes]:
    """A red disc on blue, its diameter a third of the shorter side, up and left of the middle; and its mask."""
    radius = min(width, height) / 6
    box = [width * 0.4 - radius, height * 0.4 - radius, width * 0.4 + radius, height * 0.4 + radius]
    image, mask = Image.new("RGB", (width, height), (0, 0, 250)), Image.new("L", (width, height))
    ImageDraw.Draw(image).ellipse(box, fill=(250, 0, 0))
    ImageDraw.Draw(mask).ellipse(box, fill=255)
    return encoded(image), encoded(mask)


@pytest.mark.parametrize("aspect", ["keep", "stretch", "letterbox", "crop"])
@pytest.mark.parametrize("shape", [(600, 450), (450, 600), (60, 45), (500, 500)])
def test_image_and_mask_stay_in_one_frame(aspect, shape):
    stored = store(*a_marked_picture(*shape), size=(96, 160), aspect=aspect)
    image, mask = pixels(stored.image), Image.open(io.BytesIO(stored.mask))
    if aspect == "keep":
        scale = min(1, 160 / shape[0], 96 / shape[1])
        assert image.shape[:2] == (round(shape[1] * scale), round(shape[0] * scale))
    else:
        assert image.shape[:2] == (96, 160)
    resized = np.asarray(mask.resize(image.shape[1::-1], Image.Resampling.BILINEAR)) > 127
    red = (image[..., 0] > 125) & (image[..., 2] < 125)
    assert (red & resized).sum() / (red | resized).sum() > 0.9
    assert red.any()


def test_letterbox_keeps_shapes_and_crop_cuts_the_sides():
    picture, mask = a_marked_picture(600, 300)
    boxed = store(picture, mask, size=(100, 100), aspect="letterbox")
    assert (pixels(boxed.image)[:16].max() <= 10) and (pixels(boxed.image)[26:74, :, 2].max(1) > 200).all()
    assert pixels(boxed.mask).shape == (600, 600)
    cropped = store(picture, mask, size=(100, 100), aspect="crop")
    assert pixels(cropped.mask).shape == (300, 300)
    np.testing.assert_array_equal(pixels(cropped.mask), pixels(mask)[:, 150:450])
    picture, mask = a_marked_picture(300, 600)
    cropped = store(picture, mask, size=(100, 100), aspect="crop")
    np.testing.assert_array_equal(pixels(cropped.mask), pixels(mask)[150:450])


def test_turned_and_odd_images_become_upright_rgb():
    wide = np.zeros((40, 60, 3), np.uint8)
    wide[:, :30, 0] = 250
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: left becomes top
    stored = store(encoded(wide, "JPEG", exif=exif), encoded(square_mask(60, 40)))
    turned = pixels(stored.image)
    assert turned.shape == (60, 40, 3) and (stored.width, stored.height) == (40, 60)
    assert turned[:25, :, 0].min() > 200 and turned[35:, :, 0].max() < 50
    assert pixels(store(encoded(wide[..., 0])).image).shape == (40, 60, 3)


ORIENTATIONS = range(1, 9)


def turned(array: np.ndarray, orientation: int, image_format: str, **options) -> tuple[bytes, Image.Image]:
    """A file that is to be turned, and what Pillow makes of it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(array, image_format, exif=exif, **options)
    return content, ImageOps.exif_transpose(Image.open(io.BytesIO(content)))


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_images_of_every_orientation_are_kept_as_pillow_turns_them(orientation, image_format, tmp_path):
    content, upright = turned(pixels(official.drawn(1)[0].image.read()), orientation, image_format)
    stored = store(content, encoded(square_mask(upright.height, upright.width)))
    assert (stored.width, stored.height) == upright.size
    assert np.abs(pixels(stored.image).astype(int) - np.asarray(upright)).mean() < 2  # encoded once more
    (tmp_path / "a").write_bytes(content)
    np.testing.assert_array_equal(images.read(DiskFile(tmp_path / "a", 1)), np.asarray(upright))


@pytest.mark.parametrize("aspect", ["keep", "stretch", "crop"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_turned_jpegs_that_are_decoded_smaller_are_as_good_as_whole_ones(orientation, aspect):
    fine = Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 200), np.uint8))
    drawing = fine.convert("RGB").resize((800, 400), Image.Resampling.BICUBIC)
    content, upright = turned(np.asarray(drawing), orientation, "JPEG", quality=95)
    data = config.Data(size=(100, 200), aspect=aspect)
    reduced = pixels(store(content, size=data.size, aspect=aspect).image).astype(float)
    expected = np.asarray(images.fit(upright, data))
    assert reduced.shape == expected.shape and np.sqrt(np.mean((reduced - expected) ** 2)) < 8


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_masks_of_every_orientation_are_kept_as_pillow_turns_them(orientation):
    content, upright = turned(square_mask(144, 192), orientation, "PNG")
    image = encoded(np.zeros((upright.height, upright.width, 3), np.uint8))
    np.testing.assert_array_equal(pixels(store(image, content).mask), np.asarray(upright))


@pytest.mark.parametrize("orientation", [0, 9])
def test_an_orientation_that_does_not_exist_is_none(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = store(encoded(np.zeros((40, 60, 3), np.uint8), "JPEG", exif=exif), encoded(square_mask(40, 60)))
    assert (stored.width, stored.height) == (60, 40) and pixels(stored.image).shape == (40, 60, 3)


@pytest.mark.parametrize(
    ("mode", "image_format"), [("CMYK", "JPEG"), ("L", "JPEG"), ("RGBA", "PNG"), ("P", "PNG"), ("RGB", "BMP")]
)
def test_other_colour_modes_become_rgb(mode, image_format):
    picture = Image.fromarray(pixels(official.drawn(1)[0].image.read()))
    options = {"quality": 95} if image_format == "JPEG" else {}
    stored = pixels(store(encoded(picture.convert(mode), image_format, **options)).image)
    assert stored.shape == (144, 192, 3)
    expected = picture.convert(mode).convert("RGB")
    small, expected_small = (
        image.resize((24, 18), Image.Resampling.BOX) for image in (Image.fromarray(stored), expected)
    )
    assert abs(np.asarray(small, float) - np.asarray(expected_small)).mean() < 3


def test_16_bit_colour_is_read_as_8_bit():
    import cv2

    colour = (np.random.default_rng(0).integers(0, 256, (40, 60, 3)) * 257).astype(np.uint16)
    content = cv2.imencode(".png", colour)[1].tobytes()
    np.testing.assert_allclose(pixels(store(content).image), colour[..., ::-1] // 257, atol=1)


@pytest.mark.parametrize("value", [1, 255])
def test_masks_become_black_and_white_and_never_grow(jpeg, value):
    mask = square_mask(300, 400, value)
    stored = pixels(store(jpeg, encoded(mask)).mask)
    np.testing.assert_array_equal(stored, np.where(mask > 0, 255, 0))


@pytest.mark.parametrize(
    "kind", ["0/255", "0/1", "palette", "RGB", "bilevel", "16 bits", "16 bits of 0/255", "RGBA", "JPEG"]
)
def test_masks_of_every_kind_are_read_alike(jpeg, kind):
    expected = square_mask(144, 192)
    palette = Image.fromarray(expected // 255, "L").convert("P")
    palette.putpalette([0, 0, 0, 128, 0, 0])
    kinds = {
        "0/255": lambda: encoded(expected),
        "0/1": lambda: encoded(expected // 255),
        "palette": lambda: encoded(palette),
        "RGB": lambda: encoded(np.stack([expected] * 3, -1)),
        "bilevel": lambda: encoded(Image.fromarray(expected).convert("1")),
        "16 bits": lambda: encoded(expected.astype(np.uint16) * 257),
        "16 bits of 0/255": lambda: encoded(expected.astype(np.uint16)),
        "RGBA": lambda: encoded(Image.fromarray(expected).convert("RGBA")),
        "JPEG": lambda: encoded(expected, "JPEG", quality=95),
    }
    np.testing.assert_array_equal(pixels(store(jpeg, kinds[kind]()).mask), expected)


def test_grey_masks_are_cut_above_128(jpeg):
    grey = np.tile(np.arange(256, dtype=np.uint8), (192, 1))
    np.testing.assert_array_equal(pixels(store(jpeg, encoded(grey)).mask)[0], np.where(np.arange(256) > 128, 255, 0))


def test_masks_whose_lesion_cannot_be_told_are_refused(jpeg):
    classes = square_mask(144, 192, 1) + square_mask(144, 192, 1)[::-1] * 2
    hidden = Image.fromarray(np.zeros((144, 192, 4), np.uint8))
    hidden.putalpha(Image.fromarray(square_mask(144, 192)))
    for content in (encoded(classes), encoded(hidden)):
        assert refused(jpeg, content).startswith("mask whose lesion cannot be told")
    assert not pixels(store(jpeg, encoded(np.zeros((144, 192), np.uint8))).mask).any()
