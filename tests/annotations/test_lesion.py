"""Which grey level is lesion: what tools write, what can be read in two ways, and who says which."""

import numpy as np
import pytest

from segfusion_jax import config
from segfusion_jax.annotations.lesion import READINGS, AmbiguousMask, lesion
from segfusion_jax.datasets import images
from segfusion_jax.datasets.images import Stored
from segfusion_jax.evaluation import segmentation
from tests.datasets.test_images import a_record, encoded, pixels

INSIDE = np.pad(np.ones((4, 5), bool), 2)
HALO = np.pad(np.ones((6, 7), bool), 1) & ~INSIDE


def mask(inside: int, outside: int = 0, halo: int | None = None) -> np.ndarray:
    values = np.where(INSIDE, inside, outside)
    return np.where(HALO, outside if halo is None else halo, values).astype(np.uint8)


@pytest.mark.parametrize(
    "values",
    [mask(1), mask(255), mask(38), mask(129, 12, 128), mask(250, 4, 5), mask(255, 0, 127)],
    ids=["0/1", "0/255", "a palette's", "soft", "JPEG's", "soft border"],
)
def test_what_is_written_without_doubt_is_read(values):
    np.testing.assert_array_equal(lesion(values), INSIDE)


@pytest.mark.parametrize("level", [1, 255])
def test_whole_and_empty_masks(level):
    assert lesion(np.full((3, 4), level, np.uint8)).all()
    assert not lesion(np.zeros((3, 4), np.uint8)).any()
    assert not lesion(np.zeros((0, 4), np.uint8)).any()


@pytest.mark.parametrize(
    ("values", "first", "second"),
    [
        (mask(1, 0, 255), "above_128", "1"),
        (mask(2, 1, 255), "above_128", "1"),
        (mask(2, 0, 1), "nonzero", "2"),
        (mask(90, 3), "nonzero", "90"),
        (mask(0, 1), "inverted", "nonzero"),
        (mask(0, 255), "inverted", "nonzero"),
        (mask(0, 255, 128), "inverted", "nonzero"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused_and_each_reading_is_told_and_accepted(values, first, second):
    with pytest.raises(AmbiguousMask) as caught:
        lesion(values)
    assert f"({first})" in str(caught.value) and f"({second})" in str(caught.value)
    assert not np.array_equal(lesion(values, first), lesion(values, second))


def test_readings_are_what_they_are_called():
    values = np.uint8([[0, 1, 2, 128, 129, 255]])
    for reading, expected in {"above_128": "000011", "nonzero": "011111", "2": "001000", "0": "100000"}.items():
        assert "".join(str(int(one)) for one in lesion(values, reading)[0]) == expected
    np.testing.assert_array_equal(lesion(mask(0, 255), "inverted"), INSIDE)
    np.testing.assert_array_equal(lesion(mask(0, 1), "inverted"), INSIDE)


def test_what_nobody_judged_is_skin_and_decides_nothing():
    values = mask(1, 0, 255)
    np.testing.assert_array_equal(lesion(values, ignored=255), INSIDE)
    np.testing.assert_array_equal(lesion(mask(0, 1, 255), "inverted", ignored=255), INSIDE)
    assert not lesion(np.full((2, 2), 255, np.uint8), ignored=255).any()


@pytest.mark.parametrize("reading", ["dark", "256", "-1", "", "1.0"])
def test_another_reading_is_refused_by_all(reading):
    with pytest.raises(ValueError, match="must be one of auto, above_128, nonzero, inverted, or a level from 0 to 255"):
        lesion(mask(1), reading)
    with pytest.raises(ValueError, match="mask_lesion"):
        config.Data(mask_lesion=reading)


def test_the_config_knows_the_same_readings():
    assert [config.Data(mask_lesion=reading).mask_lesion for reading in (*READINGS, "0", "255")]


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        (mask(1), {}),
        (mask(1, 0, 255), {"mask_lesion": "1"}),
        (mask(1, 0, 255), {"mask_ignored": 255}),
        (mask(0, 255), {"mask_lesion": "inverted"}),
        (mask(255), {"mask_lesion": "inverted"}),
    ],
)
def test_preparing_and_scoring_read_alike(values, fields):
    image = encoded(np.zeros((*values.shape, 3), np.uint8))
    stored = images.store(a_record(image, encoded(values)), config.Data(**fields))
    assert isinstance(stored, Stored), stored
    scored = segmentation.binarise(values, fields.get("mask_lesion", "auto"), ignored=fields.get("mask_ignored", -1))
    np.testing.assert_array_equal(pixels(stored.mask), np.where(scored, 255, 0))


def test_a_palette_of_many_colours_is_read_by_its_numbers():
    from PIL import Image

    classes = Image.fromarray(mask(1, 0, 255)).convert("P")
    classes.putpalette([0, 0, 0, 128, 0, 0, *[0] * 759, 224, 224, 192])  # PASCAL VOC's
    image = encoded(np.zeros((*INSIDE.shape, 3), np.uint8))
    problem = images.store(a_record(image, encoded(classes)), config.Data())
    assert "its grey levels are 0, 1, 255: either 255" in problem.what and "by data.mask_lesion" in problem.what
    stored = images.store(a_record(image, encoded(classes)), config.Data(mask_lesion="1"))
    np.testing.assert_array_equal(pixels(stored.mask), np.where(INSIDE, 255, 0))
