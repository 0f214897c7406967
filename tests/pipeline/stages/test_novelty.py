"""The limit of what is familiar, where images come from several collections."""

import numpy as np
import pytest

from segfusion_jax.evaluation.novelty import Novelty
from segfusion_jax.pipeline.stages import novelty


def test_the_limit_lets_pass_what_each_collection_with_enough_images_has():
    """By hand: 400 images at distances up to 1, 100 at 2 to 3, and 5 at 9, which are too few to have a say."""
    fitted = Novelty(np.zeros(1, np.float32), np.eye(1, dtype=np.float32))
    near, far = np.linspace(0, 1, 400), np.linspace(2, 3, 100)
    features = np.concatenate([near, far, np.full(5, 9.0)])[:, None]
    collections = ["near"] * 400 + ["far"] * 100 + ["few"] * 5
    assert novelty.limited(fitted, features[:500], collections[:500]).limit == pytest.approx(3, abs=0.02)
    assert fitted.limited(features[:500]).limit == pytest.approx(2.96, abs=0.02)  # all together let 1 % of 500 go
    assert novelty.limited(fitted, features, collections).limit == pytest.approx(3)
    alone = novelty.limited(fitted, features[:400], collections[:400])
    assert alone.limit == fitted.limited(features[:400]).limit
