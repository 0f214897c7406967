"""EfficientNet's tables. Its numbers are held against NumPy in test_pretrained.py and against peers in tests/parity."""

import numpy as np
from flax import nnx

from segfusion_jax.models import efficientnet
from segfusion_jax.models.efficientnet import EfficientNet
from tests.models.filled import count, filled


def test_b0_has_the_published_number_of_parameters():
    b0 = filled(lambda: EfficientNet(num_classes=1000, rngs=nnx.Rngs(0)))
    assert count(b0.params) == 5_288_548
    assert count(b0.params) - count(b0.params["head"]) == 4_007_548
    assert count(b0.batch_stats) == 42_016
    assert len(b0.params["blocks"]) == 16


def test_b3s_plan_by_hand():
    plan = efficientnet.plan("efficientnet_b3")
    assert (plan.stem, plan.top, len(plan.blocks)) == (40, 1536, 26)
    blocks = [(block.expanded, block.size, block.stride, block.squeezed, block.filters) for block in plan.blocks]
    assert blocks[:4] == [(40, 3, 1, 10, 24), (24, 3, 1, 6, 24), (144, 3, 2, 6, 32), (192, 3, 1, 8, 32)]
    assert blocks[-1] == (2304, 3, 1, 96, 384)


def test_the_rate_of_dropout_is_the_variants():
    made = (
        nnx.eval_shape(lambda o=o: EfficientNet("efficientnet_b4", **o, rngs=nnx.Rngs(0)))
        for o in ({}, {"dropout": 0.0})
    )
    assert [module.dropout for module in made] == [0.4, 0.0]


def test_stochastic_depth_grows_with_depth():
    model = nnx.eval_shape(lambda: EfficientNet(drop_path=0.32, rngs=nnx.Rngs(0)))
    np.testing.assert_allclose([block.drop_path for block in model.blocks], 0.02 * np.arange(16))
