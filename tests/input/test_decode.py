"""Bytes to arrays, and resizing that neither grows nor shrinks a lesion."""

import io

import numpy as np
import pytest
from PIL import Image

from segfusion_jax.bridge.resize import resize
from segfusion_jax.input import decode


def encoded(array: np.ndarray, mode: str | None = None, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(buffer, form)
    return buffer.getvalue()


def disc(height: int, width: int, radius: float) -> np.ndarray:
    rows, columns = np.indices((height, width))
    distance = np.hypot(rows - (height - 1) / 2, columns - (width - 1) / 2)
    return np.where(distance <= radius, 255, 0).astype(np.uint8)


def test_colours_are_rgb():
    image = np.zeros((2, 3, 3), np.uint8)
    image[0, 1], image[1, 2] = (255, 0, 0), (1, 2, 3)
    np.testing.assert_array_equal(decode.decode_image(encoded(image)), image)


def test_jpeg_is_decoded():
    image = np.full((16, 24, 3), (200, 100, 50), np.uint8)
    decoded = decode.decode_image(encoded(image, form="JPEG"))
    assert decoded.shape == (16, 24, 3)
    np.testing.assert_allclose(decoded, image, atol=3)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA"])
def test_other_kinds_of_image_become_rgb(mode):
    image = np.full((2, 3, 3), 102, np.uint8)  # a colour of Pillow's own palette
    np.testing.assert_array_equal(decode.decode_image(encoded(image, mode)), image)


def photograph(height: int, width: int) -> np.ndarray:
    """Smooth colours with noise."""
    rows, columns = np.indices((height, width)) / 40
    smooth = 127 + 60 * np.stack([np.sin(rows), np.cos(columns), np.sin(rows + columns)], -1)
    return (smooth + np.random.default_rng(0).normal(0, 8, smooth.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "options", [dict(subsampling=0), dict(subsampling=2), dict(progressive=True), dict(quality=30)]
)
def test_jpegs_are_decoded_as_pillow_does(options):
    buffer = io.BytesIO()
    Image.fromarray(photograph(90, 131)).save(buffer, "JPEG", **options)
    by_pillow = np.asarray(Image.open(buffer)).astype(int)
    difference = np.abs(decode.decode_image(buffer.getvalue()) - by_pillow)
    assert difference.max() <= 2
    assert difference.mean() < 0.05


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_jpegs_become_rgb(mode):
    image = photograph(40, 60)
    by_pillow = np.asarray(Image.open(io.BytesIO(encoded(image, mode, "JPEG"))).convert("RGB")).astype(int)
    np.testing.assert_allclose(decode.decode_image(encoded(image, mode, "JPEG")), by_pillow, atol=3)


def test_the_orientation_is_that_of_the_pixels():
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(photograph(40, 60)).save(buffer, "JPEG", exif=exif)
    assert decode.decode_image(buffer.getvalue()).shape == (40, 60, 3)


@pytest.mark.parametrize(
    ("size", "decoded"),
    [((67, 90), (200, 300)), ((66, 90), (100, 150)), ((66, 101), (200, 300)), ((33, 50), (50, 75)), ((9, 9), (25, 38))],
)
def test_large_jpegs_are_decoded_smaller(size, decoded):
    jpeg = encoded(photograph(200, 300), form="JPEG")
    assert decode.decode_image(jpeg, size).shape == (*decoded, 3)
    assert decode.decode_image(encoded(photograph(200, 300)), size).shape == (200, 300, 3)


def test_jpegs_that_are_decoded_smaller_look_the_same():
    jpeg = encoded(photograph(384, 512), form="JPEG")
    whole, reduced = (decode.decode_image(jpeg, size).astype(float) for size in (None, (96, 128)))
    means = whole.reshape(192, 2, 256, 2, 3).mean((1, 3))
    assert reduced.shape == means.shape
    assert np.abs(reduced - means).mean() < 1
    assert np.abs((reduced - means).mean((0, 1))).max() < 0.2


@pytest.mark.parametrize("content", [b"", b"no image", encoded(np.zeros((9, 9), np.uint8))[:30]])
@pytest.mark.parametrize("decoder", [decode.decode_image, decode.decode_mask])
def test_bytes_that_are_no_image_are_an_error(decoder, content):
    with pytest.raises(ValueError, match=f"{len(content)} bytes that begin with"):
        decoder(content)


def test_masks_return_exactly():
    mask = np.random.default_rng(0).integers(0, 256, (5, 7), np.uint8)
    decoded = decode.decode_mask(decode.encode_mask(mask))
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, mask)


def test_a_bilevel_mask_is_0_and_255():
    mask = disc(8, 8, 3)
    np.testing.assert_array_equal(decode.decode_mask(encoded(mask, "1")), mask)


def test_the_same_size_is_the_same_array():
    image = np.zeros((4, 6, 3), np.uint8)
    assert resize(image, (4, 6)) is image


def test_shrinking_takes_means_by_hand():
    mask = np.array([[255, 255, 0, 0], [255, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 100]], np.uint8)
    np.testing.assert_array_equal(resize(mask, (2, 2)), [[191, 0], [0, 25]])


@pytest.mark.parametrize("transposed", [False, True])
def test_an_axis_that_alone_shrinks_takes_means_too(transposed):
    # one in three columns is lesion, and it is the one in the middle: interpolating sees nothing else
    stripes = np.tile(np.uint8([0, 150, 0]), (5, 4))
    resized = resize(stripes.T, (4, 5)).T if transposed else resize(stripes, (5, 4))
    np.testing.assert_array_equal(resized, np.full((5, 4), 50))


@pytest.mark.parametrize("transposed", [False, True])
def test_one_axis_may_shrink_while_the_other_grows(transposed):
    stripes = np.tile(np.uint8([0, 150, 0]), (5, 4))
    resized = resize(stripes.T, (4, 9)).T if transposed else resize(stripes, (9, 4))
    np.testing.assert_array_equal(resized, np.full((9, 4), 50))


def test_enlarging_interpolates_linearly_between_centres():
    mask = np.array([[0, 200]], np.uint8).repeat(2, 0)
    np.testing.assert_allclose(resize(mask, (4, 4)), np.tile([0, 50, 150, 200], (4, 1)), atol=1)


def test_rgb_images_keep_their_channels():
    image = np.zeros((8, 8, 3), np.uint8)
    image[..., 1] = 90
    np.testing.assert_array_equal(resize(image, (3, 5)), np.broadcast_to(np.uint8([0, 90, 0]), (3, 5, 3)))


@pytest.mark.parametrize("size", [(40, 60), (17, 60), (16, 16)])
def test_what_is_halved_first_is_hardly_another(size):
    image = photograph(200, 300)
    resized = resize(image, size).astype(float)
    areas = Image.fromarray(image).resize(size[::-1], Image.Resampling.BOX)
    assert np.abs(resized - np.asarray(areas)).mean() < 2.5
    np.testing.assert_allclose(resized.mean((0, 1)), image.mean((0, 1)), atol=0.3)


@pytest.mark.parametrize("size", [(12, 16), (96, 128), (41, 77), (300, 500), (60, 300), (224, 224), (150, 90)])
def test_a_mask_keeps_its_area(size):
    # interpolating and then taking every pixel that is not 0 would grow it by 5 % and more
    mask = disc(150, 200, 40)
    resized = resize(mask, size)
    share = (mask / 255).mean()
    assert (resized / 255).mean() == pytest.approx(share, rel=0.01)
    assert (resized >= 127.5).mean() == pytest.approx(share, rel=0.03)  # the grid's own error at 41 x 77
