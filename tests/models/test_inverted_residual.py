"""Blocks, encoder and classifier. Their numbers are held against NumPy in test_pretrained.py and in tests/parity."""

import functools

import jax
import numpy as np
import pytest
from flax import nnx

from segfusion_jax.models.inverted_residual import Block, ImageClassifier, InvertedResidual, Plan, round_filters
from segfusion_jax.models.layers import TENSORFLOW
from tests.models.filled import filled

PLAN = Plan(
    stem=4,
    blocks=(
        Block(expanded=4, size=3, stride=1, squeezed=2, filters=4, activation=nnx.relu),
        Block(expanded=8, size=5, stride=2, squeezed=0, filters=6, activation=nnx.silu),
    ),
    top=10,
    hidden=7,
    activation=nnx.hard_swish,
    squeeze=nnx.relu,
    gate=nnx.hard_sigmoid,
)


@pytest.fixture(scope="module")
def classifier():
    options = dict(num_classes=2, dropout=0.5, channels=3, drop_path=0.0, conventions=TENSORFLOW, axis_name=None)
    return filled(lambda: ImageClassifier(PLAN, **options, dtype=np.float32, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize(
    ("filters", "expected"),
    [(32, 32), (35.2, 32), (40 * 0.25, 16), (24 * 0.25, 8), (1.6, 8), (1792.0, 1792), (112 * 1.2, 136), (22, 24)],
)
def test_round_filters_by_hand(filters, expected):
    assert round_filters(filters) == expected


def test_parts_are_there_that_the_plan_names(classifier):
    first, second = (classifier.params["blocks"][number] for number in (0, 1))
    assert set(first) == {"depthwise", "excite", "project"}  # nothing to expand
    assert set(second) == {"expand", "depthwise", "project"}  # nothing to excite
    assert first["excite"]["reduce"]["kernel"].shape == (1, 1, 4, 2)
    assert second["depthwise"]["conv"]["kernel"].shape == (5, 5, 8)
    assert classifier.params["hidden"]["kernel"].shape == (10, 7)
    assert classifier.params["head"]["kernel"].shape == (7, 2)


def test_classifier_goes_from_block_to_block_to_the_head(classifier):
    x = np.random.default_rng(1).normal(size=(3, 9, 12, 3)).astype(np.float32)
    apply = functools.partial(classifier.apply, classifier.params, classifier.batch_stats)
    outputs, _ = apply(x, train=False, method="outputs")
    assert [output.shape for output in outputs] == [(3, 5, 6, 4), (3, 5, 6, 4), (3, 3, 3, 6)]
    before_the_last_halving, _ = apply(x, method="middle_features")
    np.testing.assert_allclose(before_the_last_halving, np.asarray(outputs[1]).mean((1, 2)), rtol=1e-5)

    top, hidden, head = (classifier.params[name] for name in ("top", "hidden", "head"))
    stats = classifier.batch_stats["top"]["norm"]
    y = np.asarray(outputs[-1]) @ top["conv"]["kernel"][0, 0]
    y = (y - stats["mean"]) / np.sqrt(stats["var"] + 1e-3) * top["norm"]["scale"] + top["norm"]["bias"]

    def hard_swish(x):
        return x * np.clip(x + 3, 0, 6) / 6

    features = hard_swish(hard_swish(y).mean((1, 2)) @ hidden["kernel"] + hidden["bias"])
    np.testing.assert_allclose(apply(x, train=False, method="features")[0], features, rtol=1e-4, atol=1e-5)
    logits = features @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(apply(x, train=False)[0], logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(apply(features, method="classify")[0], logits, rtol=1e-4, atol=1e-5)


@functools.cache
def block(channels: int, stride: int, drop_path: float):
    shape = Block(expanded=2 * channels, size=3, stride=stride, squeezed=2, filters=8, activation=nnx.silu)
    options = dict(drop_path=drop_path, conventions=TENSORFLOW, axis_name=None, dtype=np.float32)
    return filled(lambda: InvertedResidual(channels, shape, PLAN, **options, rngs=nnx.Rngs(0)))


def test_a_dropped_path_leaves_the_residual_alone():
    made = block(8, 1, 0.5)
    x = np.random.default_rng(0).normal(size=(16, 4, 4, 8)).astype(np.float32)
    run = jax.jit(lambda key: made.apply(made.params, made.batch_stats, x, train=False, key=key)[0])
    whole = made.apply(made.params, made.batch_stats, x, train=False, key=None)[0]
    output = run(jax.random.key(0, impl="rbg"))
    dropped = np.array([np.array_equal(a, b) for a, b in zip(output, x, strict=True)])
    assert 0 < dropped.sum() < 16
    np.testing.assert_allclose((output - x)[~dropped], 2 * (whole - x)[~dropped], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("channels", "stride", "shape"), [(8, 1, (4, 5, 8)), (8, 2, (2, 3, 8)), (4, 1, (4, 5, 8))])
def test_only_blocks_that_keep_the_shape_are_residual(channels, stride, shape):
    made = block(channels, stride, 0.0)
    params = jax.tree.map(np.array, made.params)
    for leaf in jax.tree.leaves(params["project"]["norm"]):
        leaf[:] = 0  # what the path adds becomes the shift of its batch norm: zero
    x = np.random.default_rng(0).normal(size=(2, 4, 5, channels)).astype(np.float32)
    output, _ = jax.jit(functools.partial(made.apply, train=False, key=None))(params, made.batch_stats, x)
    assert output.shape == (2, *shape)
    np.testing.assert_array_equal(output, x if shape == x.shape[1:] and stride == 1 else np.zeros((2, *shape)))
