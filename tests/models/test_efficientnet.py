"""EfficientNet's tables. Its numbers are held against NumPy in test_pretrained.py and against peers in tests/parity."""

import numpy as np
import pytest
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


@pytest.mark.parametrize(
    ("number", "parameters", "dropout", "resolution"),
    [
        (1, 7_794_184, 0.2, 240),
        (2, 9_109_994, 0.3, 260),
        (3, 12_233_232, 0.3, 300),
        (4, 19_341_616, 0.4, 380),
        (5, 30_389_784, 0.4, 456),
        (6, 43_040_704, 0.5, 528),
        (7, 66_347_960, 0.5, 600),
    ],
)
def test_the_other_variants_are_as_published(number, parameters, dropout, resolution):
    """Numbers of parameters as torchvision and timm tell them; the rest is Google's table of variants."""
    plan, variant = efficientnet.plan(f"efficientnet_b{number}"), efficientnet.VARIANTS[f"efficientnet_b{number}"]
    total, channels = 27 * plan.stem + 2 * plan.stem, plan.stem
    for block in plan.blocks:
        inner, squeezed = block.expanded, block.squeezed
        total += (channels + 2) * inner * (inner != channels) + (block.size**2 + 2) * inner
        total += (2 * inner + 1) * squeezed + inner + (inner + 2) * block.filters
        channels = block.filters
    assert total + (channels + 2) * plan.top + 1000 * plan.top + 1000 == parameters
    assert (variant.dropout, variant.resolution) == (dropout, resolution)


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


def test_images_are_described_before_the_last_of_four_halvings():
    model = nnx.eval_shape(lambda: EfficientNet(rngs=nnx.Rngs(0)))
    assert [number for number, block in enumerate(model.blocks) if block.depthwise.conv.stride == 2] == [1, 3, 5, 11]
    assert model.middle == 11
