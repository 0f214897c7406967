"""MobileNetV3's tables. Its numbers are held against goldens and, in tests/parity, against peers."""

from flax import nnx

from segfusion_jax.models import mobilenet_v3


def test_smalls_plan_by_hand():
    plan = mobilenet_v3.plan("mobilenet_v3_small")
    assert (plan.stem, plan.top, plan.hidden, len(plan.blocks)) == (16, 576, 1024, 11)
    assert plan.blocks[0] == (16, 3, 2, 8, 16, nnx.relu)
    assert plan.blocks[3] == (96, 5, 2, 24, 40, nnx.hard_swish)
    assert [block.squeezed for block in plan.blocks] == [8, 0, 0, 24, 64, 64, 32, 40, 72, 144, 144]


def test_larges_plan_by_hand():
    plan = mobilenet_v3.plan("mobilenet_v3_large")
    assert (plan.stem, plan.top, plan.hidden, len(plan.blocks)) == (16, 960, 1280, 15)
    assert [block.stride for block in plan.blocks] == [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1]


def test_narrower_networks_keep_their_hidden_layer():
    plan = mobilenet_v3.plan("mobilenet_v3_small", width=0.5)
    assert (plan.stem, plan.blocks[-1].filters, plan.top, plan.hidden) == (8, 48, 288, 1024)
    assert [block.expanded for block in plan.blocks] == [8, 40, 48, 48, 120, 120, 64, 72, 144, 288, 288]
    assert [block.squeezed for block in plan.blocks] == [8, 0, 0, 16, 32, 32, 16, 24, 40, 72, 72]  # of those
