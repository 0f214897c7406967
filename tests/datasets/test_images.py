"""Which files are refused, and what is kept of the others."""

import contextlib
import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from segfusion_jax.datasets import images
from segfusion_jax.datasets.record import Record
from tests.datasets import official


def png(array: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, options.pop("format", "PNG"), **options)
    return buffer.getvalue()


def pixels(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def good() -> Record:
    return official.drawn(1)[0]


def square_mask(height: int, width: int, value: int = 255) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 4 : width // 2] = value
    return mask


def test_a_good_image_has_no_problem(good):
    assert images.check(good) is None


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        (lambda content: b"", "empty image file"),
        (lambda content: content[: len(content) * 2 // 3], "unreadable image"),
        (lambda content: content[:100], "unreadable image"),
        (lambda content: b"<html>404 not found</html>", "unreadable image"),
        (lambda content: png(np.zeros((144, 192), np.uint16)), "image of more than 8 bits a channel"),
    ],
)
def test_unusable_images(good, broken, kind):
    problem = images.check(dataclasses.replace(good, image=broken(good.image)))
    assert problem is not None and (problem.image_id, problem.kind) == (good.image_id, kind)


def test_unusable_files_on_disk(good, tmp_path):
    path = tmp_path / "x.jpg"
    problem = images.check(dataclasses.replace(good, image=path))
    assert problem is not None and problem.kind == "unreadable image"
    path.write_bytes(good.image)
    assert images.check(dataclasses.replace(good, image=path)) is None
    assert images.content_hash(dataclasses.replace(good, image=path)) == images.content_hash(good)


@pytest.mark.parametrize("limit", [192 * 144 - 1, 192 * 144 // 2 - 1])
def test_oversized_image(good, monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.warns(Image.DecompressionBombWarning) if limit > 192 * 72 else contextlib.nullcontext():
        problem = images.check(good)
    assert problem is not None and problem.kind == "oversized image"


def test_truncated_mask(good):
    problem = images.check(dataclasses.replace(good, mask=good.mask[:-40]))
    assert problem is not None and problem.kind == "unreadable mask"


def test_mask_of_the_same_frame_at_another_resolution(good):
    assert images.check(dataclasses.replace(good, mask=png(square_mask(432, 576)))) is None
    assert images.check(dataclasses.replace(good, mask=png(square_mask(71, 96)))) is None


@pytest.mark.parametrize("shape", [(192, 144), (192, 192), (144, 196), (450, 576)])
def test_mask_of_another_frame(good, shape):
    problem = images.check(dataclasses.replace(good, mask=png(square_mask(*shape))))
    assert problem is not None and problem.kind == "mask of another frame than its image"
    assert f"{shape[1]}x{shape[0]}" in problem.what and "192x144" in problem.what


def test_small_files_are_kept_untouched(good):
    assert images.encoded(good, 192) == (good.image, good.mask)
    assert images.encoded(dataclasses.replace(good, mask=None), 192) == (good.image, b"")


def test_large_images_are_averaged():
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    content, _ = images.encoded(Record(image_id="a", image=png(noise), source="x"), 64)
    small = pixels(content).astype(float)
    averaged = noise.reshape(48, 10, 64, 10, 3).mean((1, 3))
    assert small.shape == (48, 64, 3)
    assert abs(small.mean((0, 1)) - averaged.mean((0, 1))).max() < 1
    assert small.std() < 15  # a nearest-neighbour reduction keeps the noise's 74
    smooth = np.broadcast_to(np.linspace(0, 255, 640).astype(np.uint8)[None, :, None], (480, 640, 3))
    content, _ = images.encoded(Record(image_id="a", image=png(smooth, format="JPEG", quality=95), source="x"), 64)
    assert abs(pixels(content)[..., 0].mean(0) - smooth[0, :, 0].reshape(64, 10).mean(1)).max() < 4


def test_turned_and_odd_images_become_upright_rgb():
    wide = np.zeros((40, 60, 3), np.uint8)
    wide[:, :30, 0] = 250
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: left becomes top
    record = Record(image_id="a", image=png(wide, format="JPEG", exif=exif), source="x", mask=png(square_mask(60, 40)))
    assert images.check(record) is None
    turned = pixels(images.encoded(record, 1024)[0])
    assert turned.shape == (60, 40, 3)
    assert turned[:25, :, 0].min() > 200 and turned[35:, :, 0].max() < 50
    grey = Record(image_id="a", image=png(wide[..., 0]), source="x")
    assert pixels(images.encoded(grey, 1024)[0]).shape == (40, 60, 3)


@pytest.mark.parametrize("value", [1, 255])
def test_masks_become_black_and_white_and_never_grow(good, value):
    mask = square_mask(300, 400, value)
    stored = pixels(images.encoded(dataclasses.replace(good, mask=png(mask)), 192)[1])
    np.testing.assert_array_equal(stored, np.where(mask > 0, 255, 0))


def test_grey_palette_and_bilevel_masks(good):
    grey = np.tile(np.arange(256, dtype=np.uint8), (192, 1))
    stored = pixels(images.encoded(dataclasses.replace(good, mask=png(grey)), 192)[1])
    np.testing.assert_array_equal(stored[0], np.where(np.arange(256) > 128, 255, 0))
    palette = Image.fromarray(square_mask(144, 192, 1), "L").convert("P")
    palette.putpalette([0, 0, 0, 128, 0, 0])
    for odd in (palette, Image.fromarray(square_mask(144, 192)).convert("1")):
        buffer = io.BytesIO()
        odd.save(buffer, "PNG")
        stored = pixels(images.encoded(dataclasses.replace(good, mask=buffer.getvalue()), 192)[1])
        np.testing.assert_array_equal(stored, square_mask(144, 192))
