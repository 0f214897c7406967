"""Which images train what, where some or none are annotated."""

import dataclasses

import numpy as np
import pytest

from segfusion_jax.config import Bridge, Config
from segfusion_jax.input.arrays import Arrays
from segfusion_jax.pipeline.split import Split
from segfusion_jax.serving.ensembles import WholeImages
from tests.datasets.rows import row

ROWS = [row(i, split="train" if i % 2 else "validation", fold=i % 5) for i in range(20)]
WITHOUT = [dataclasses.replace(one, has_mask=False) for one in ROWS]
WITH = [dataclasses.replace(one, has_mask=True) for one in ROWS]


def test_whole_images_need_no_unet_and_no_masks():
    whole = Config(bridge=Bridge(mode="none"))
    assert Split(whole, WITHOUT).unet() == ({}, {}) and not Split(whole, WITHOUT).has_unets
    assert Split(whole, WITH).has_unets and set(Split(whole, WITH).unet()[0]) == set(range(5))


def test_no_masks_are_told_as_the_cause():
    with pytest.raises(ValueError, match=r"none of the 20 images has an annotated mask.*bridge.mode=none"):
        Split(Config(), WITHOUT).unet()


def test_without_unets_all_of_an_image_is_lesion():
    images = [np.zeros((5, 7, 3), np.uint8)] * 2
    found = list(WholeImages().predict(Arrays(images, (4, 6))))
    assert [number for number, _ in found] == [0, 1]
    for _, probability in found:
        assert probability.shape == (4, 6) and np.all(probability == 1)
