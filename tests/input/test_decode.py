"""Bytes to arrays, and resizing that neither grows nor shrinks a lesion."""

import io

import numpy as np
import pytest
from PIL import Image

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
    assert decode.resize(image, (4, 6)) is image


def test_shrinking_takes_means_by_hand():
    mask = np.array([[255, 255, 0, 0], [255, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 100]], np.uint8)
    np.testing.assert_array_equal(decode.resize(mask, (2, 2)), [[191, 0], [0, 25]])


@pytest.mark.parametrize("transposed", [False, True])
def test_an_axis_that_alone_shrinks_takes_means_too(transposed):
    # one in three columns is lesion, and it is the one in the middle: interpolating sees nothing else
    stripes = np.tile(np.uint8([0, 150, 0]), (5, 4))
    resized = decode.resize(stripes.T, (4, 5)).T if transposed else decode.resize(stripes, (5, 4))
    np.testing.assert_array_equal(resized, np.full((5, 4), 50))


@pytest.mark.parametrize("transposed", [False, True])
def test_one_axis_may_shrink_while_the_other_grows(transposed):
    stripes = np.tile(np.uint8([0, 150, 0]), (5, 4))
    resized = decode.resize(stripes.T, (4, 9)).T if transposed else decode.resize(stripes, (9, 4))
    np.testing.assert_array_equal(resized, np.full((9, 4), 50))


def test_enlarging_interpolates_linearly_between_centres():
    mask = np.array([[0, 200]], np.uint8).repeat(2, 0)
    np.testing.assert_allclose(decode.resize(mask, (4, 4)), np.tile([0, 50, 150, 200], (4, 1)), atol=1)


def test_rgb_images_keep_their_channels():
    image = np.zeros((8, 8, 3), np.uint8)
    image[..., 1] = 90
    np.testing.assert_array_equal(decode.resize(image, (3, 5)), np.broadcast_to(np.uint8([0, 90, 0]), (3, 5, 3)))


@pytest.mark.parametrize("size", [(96, 128), (41, 77), (300, 500), (60, 300), (224, 224), (150, 90)])
def test_a_mask_keeps_its_area(size):
    # interpolating and then taking every pixel that is not 0 would grow it by 5 % and more
    mask = disc(150, 200, 40)
    resized = decode.resize(mask, size)
    share = (mask / 255).mean()
    assert (resized / 255).mean() == pytest.approx(share, rel=0.01)
    assert (resized >= 127.5).mean() == pytest.approx(share, rel=0.03)  # the grid's own error at 41 x 77
