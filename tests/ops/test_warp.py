"""The device's affine maps against OpenCV's."""

import cv2
import jax
import numpy as np
import pytest

from segfusion_jax.config import Augmentation
from segfusion_jax.input import augment
from segfusion_jax.input.augment import draw
from segfusion_jax.ops.warp import recolour, warp_affine


def opencv(images: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    size = (images.shape[2], images.shape[1])
    warped = [
        cv2.warpAffine(image, matrix, dsize=size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for image, matrix in zip(images, matrices, strict=True)
    ]
    return np.stack(warped).reshape(images.shape)


def ours(images: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    warped = jax.jit(warp_affine)(images, matrices.astype(np.float32))
    assert warped.dtype == np.uint8
    return np.asarray(warped)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(("height", "width"), [(40, 60), (17, 31), (64, 9), (1, 12), (128, 96)])
@pytest.mark.parametrize("channels", [1, 4])
def test_as_opencv_does(height, width, channels):
    # On noise, where neighbours differ most: by 85 on average. OpenCV 5 computes in float32 too, OpenCV 4 rounds
    # coordinates to 1/32 pixel; a mean that is off says that something is truncated or half a pixel away.
    rng = np.random.default_rng(1)
    everything = Augmentation(rotation=180.0, zoom=0.5, shift_height=0.6, shift_width=0.6)
    matrices = draw(everything, height, width, rng, 24)
    images = noise(24, height, width, channels)
    differences = ours(images, matrices).astype(int) - opencv(images, matrices)
    exact = int(cv2.__version__.partition(".")[0]) >= 5
    assert np.abs(differences).max() <= (1 if exact else 16)
    assert np.abs(differences).mean() < (0.01 if exact else 1)
    assert abs(differences.mean()) < 0.05


@pytest.mark.parametrize("flips", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
def test_flips_and_no_change_are_exact(flips):
    images = noise(2, 23, 36, 4)
    shift = [(flip < 0) * (side - 1) for flip, side in zip(flips, (36, 23), strict=True)]
    matrix = np.column_stack([np.diag(flips), shift])
    np.testing.assert_array_equal(ours(images, np.stack([matrix] * 2)), images[:, :: flips[1], :: flips[0]])


def test_each_image_has_its_own_matrix_and_the_nearest_pixel_repeats():
    images = noise(3, 6, 8, 1)
    matrices = np.array([[[1, 0, shift], [0, 1, 0]] for shift in (0, 2, -100)])
    warped = ours(images, matrices)
    np.testing.assert_array_equal(warped[0], images[0])
    np.testing.assert_array_equal(warped[1], images[1][:, [0, 0, 0, 1, 2, 3, 4, 5]])
    np.testing.assert_array_equal(warped[2], np.repeat(images[2][:, -1:], 8, axis=1))


def test_halfway_is_the_mean_rounded():
    image = np.array([[[[0], [10], [255]]]], np.uint8)
    np.testing.assert_array_equal(ours(image, np.array([[[1, 0, 0.5], [0, 1, 0]]]))[0, 0, :, 0], [0, 5, 132])


def test_colours_are_moved_as_opencv_does():
    everything = Augmentation(brightness=0.5, contrast=0.5, saturation=0.5, hue=60.0, white_balance=0.2)
    matrices = augment.draw_colours(everything, np.random.default_rng(0), 16).astype(np.float32)
    images = noise(16, 20, 30, 3)
    moved = np.asarray(jax.jit(recolour)(images, matrices))
    assert moved.dtype == np.uint8
    exact = np.einsum("ndc,nhwc->nhwd", matrices[..., :3].astype(float), images) + matrices[:, None, None, :, 3]
    exact = np.clip(np.round(exact), 0, 255)
    assert (exact == 0).any() and (exact == 255).any()
    np.testing.assert_array_equal(moved, exact)
    opencvs = np.stack([augment.recolour(*pair) for pair in zip(images, matrices, strict=True)])
    np.testing.assert_allclose(opencvs.astype(int), exact, atol=1)  # it has the matrix in fixed point
