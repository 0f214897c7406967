"""Networks with views see an image however it lies; what they say of it lies as the image does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segfusion_jax.config import Bridge
from segfusion_jax.models import preprocessing
from segfusion_jax.models.functional import Functional
from segfusion_jax.training import steps
from segfusion_jax.training.test_time import mean_over_orientations

SIZES = [(6, 6), (4, 6)]
TURNS = [(quarter, mirror) for mirror in (False, True) for quarter in range(4)]
"""All symmetries of a square: so many quarter turns, then perhaps mirrored."""


def turned(array: np.ndarray, turn: tuple[int, bool]) -> np.ndarray:
    """Returns [batch, height, width, ...] after quarter turns, mirrored if the turn says so."""
    quarters, mirror = turn
    array = np.rot90(array, quarters, axes=(1, 2))
    return array[:, :, ::-1] if mirror else array


def turned_back(array: np.ndarray, turn: tuple[int, bool]) -> np.ndarray:
    quarters, mirror = turn
    return np.rot90(array[:, :, ::-1] if mirror else array, -quarters, axes=(1, 2))


def pixels(size: tuple[int, int], channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, *size, channels), dtype=np.uint8)


def lopsided_map(params, batch_stats, images, *, train):
    """Logits of a pixel from it and those to its right and below, weighted by how far right and down it is."""
    assert not train
    shifted = 3 * jnp.roll(images, 1, 1) - 2 * jnp.roll(images, -1, 2) + images
    rows, columns = (jnp.linspace(0, end, length) for end, length in zip((1, 2), images.shape[1:3], strict=True))
    return params * shifted[..., :1] * (rows[:, None, None] - columns[:, None]) - 0.3, batch_stats


def lopsided_logits(params, batch_stats, images, *, train):
    logits, _ = lopsided_map(params, batch_stats, images, train=train)
    return jnp.stack([jnp.tanh(logits).mean((1, 2, 3)), images[:, 1, 2].sum(-1)], axis=1), batch_stats


SEGMENTER = Functional(lopsided_map, {}, {}, preprocessing.NONE)
CLASSIFIER = Functional(lopsided_logits, {}, {}, preprocessing.NONE)


@pytest.mark.parametrize("size", SIZES)
def test_the_mean_of_eight_views_by_hand(size):
    image, mask = pixels(size, 3), pixels(size, 1)
    probability = jax.jit(steps.make_segment(SEGMENTER))
    maps = [turned_back(probability((2.0, {}), {"image": turned(image, turn)}), turn) for turn in TURNS]
    found = jax.jit(steps.make_segment(SEGMENTER, 8))((2.0, {}), {"image": image})
    assert np.ptp(maps, axis=0).max() > 0.3
    np.testing.assert_allclose(found, np.mean(maps, axis=0), rtol=1e-5)

    bridge = Bridge(mode="dim")
    logit = jax.jit(steps.make_classify(CLASSIFIER, bridge))
    views = [logit((2.0, {}), {"image": turned(image, turn), "mask": turned(mask, turn)}) for turn in TURNS]
    found = jax.jit(steps.make_classify(CLASSIFIER, bridge, 8))((2.0, {}), {"image": image, "mask": mask})
    assert found.shape == (2, 2) and np.ptp(views, axis=0).min() > 0.01
    np.testing.assert_allclose(found, np.mean(views, axis=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_what_is_said_of_a_turned_image_is_turned_with_it(size):
    image, mask = pixels(size, 3), pixels(size, 1)
    segment = jax.jit(steps.make_segment(SEGMENTER, 8))
    classify = jax.jit(steps.make_classify(CLASSIFIER, Bridge(mode="black"), 8))
    lesion, logits = segment((2.0, {}), {"image": image}), classify((2.0, {}), {"image": image, "mask": mask})
    for turn in TURNS:
        batch = {"image": turned(image, turn), "mask": turned(mask, turn)}
        np.testing.assert_allclose(segment((2.0, {}), batch), turned(np.asarray(lesion), turn), rtol=1e-5)
        np.testing.assert_allclose(classify((2.0, {}), batch), logits, rtol=1e-5, atol=1e-6)


def program(views: int, size: tuple[int, int]) -> str:
    """Returns the program, as text, of a network that is one `tanh`."""

    def predict(images):
        return jnp.tanh(images).mean((1, 2, 3))

    images = np.zeros((2, *size, 3), np.float32)
    return str(jax.make_jaxpr(lambda images: mean_over_orientations(predict, images, views, is_map=False))(images))


def test_the_network_is_in_the_program_once_for_each_shape():
    assert [program(8, size).count("tanh") for size in SIZES] == [1, 2]


def test_one_view_is_the_network_and_nothing_else():
    assert program(1, (4, 6)) == str(jax.make_jaxpr(lambda x: jnp.tanh(x).mean((1, 2, 3)))(np.zeros((2, 4, 6, 3), "f")))
