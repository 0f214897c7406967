"""EfficientNet: size, gradients, modes. Its numbers are held against a NumPy forward pass in test_pretrained.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from segfusion_jax.models.efficientnet import EfficientNet, MBConv, Stage, round_filters
from segfusion_jax.models.pretrained import flatten
from tests.models.filled import count, filled


def make(**options):
    options = dict(num_classes=2, width=0.25, depth=0.25, dropout=0.0, drop_path=0.0) | options
    return filled(lambda: EfficientNet(**options, rngs=nnx.Rngs(0)))


@pytest.fixture(scope="module")
def small():
    return make()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).normal(size=(3, 33, 40, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def logits(small, images):
    return infer(small)(small.params, small.batch_stats, images)


def infer(model):
    return jax.jit(lambda *args: model.apply(*args, train=False)[0])


def test_b0_has_the_published_number_of_parameters():
    b0 = make(num_classes=1000, width=1.0, depth=1.0)
    assert count(b0.params) == 5_288_548
    assert count(b0.params) - count(b0.params["head"]) == 4_007_548
    assert count(b0.batch_stats) == 42_016
    assert len(b0.params["blocks"]) == 16


@pytest.mark.parametrize(
    ("width", "depth", "parameters", "blocks"), [(1.0, 1.1, 7_794_184, 23), (1.1, 1.2, 9_109_994, 23)], ids=["b1", "b2"]
)
def test_its_larger_relatives_have_the_published_sizes_too(width, depth, parameters, blocks):
    model = nnx.eval_shape(lambda: EfficientNet(num_classes=1000, width=width, depth=depth, rngs=nnx.Rngs(0)))
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))) == parameters
    assert len(model.blocks) == blocks


@pytest.mark.parametrize(
    ("filters", "width", "expected"),
    [(32, 1.0, 32), (32, 1.1, 32), (40, 0.25, 16), (24, 0.25, 8), (16, 0.1, 8), (1280, 1.4, 1792), (112, 1.2, 136)],
)
def test_round_filters_by_hand(filters, width, expected):
    assert round_filters(filters, width) == expected


def test_one_logit_a_class(logits):
    assert logits.shape == (3, 2)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()


def test_logits_are_the_last_layer_on_the_features(small, images, logits):
    features = jax.jit(lambda *args: small.apply(*args, train=False, method="features")[0])
    pooled = features(small.params, small.batch_stats, images)
    assert pooled.shape == (3, 1280)
    classified, _ = small.apply(small.params, small.batch_stats, pooled, method="classify")
    by_hand = np.asarray(pooled) @ small.params["head"]["kernel"] + small.params["head"]["bias"]
    np.testing.assert_allclose(classified, by_hand, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(classified, logits, rtol=1e-4, atol=1e-4)


def test_bfloat16_is_close_to_float32(small, images, logits):
    narrow = infer(make(dtype=jnp.bfloat16))(small.params, small.batch_stats, images)
    assert narrow.dtype == np.float32
    error = np.abs(narrow - logits)
    assert 0 < error.max() < 0.05 * np.abs(logits).max()


@pytest.fixture(scope="module")
def trained(small, images):
    """Logits, new statistics and gradients of one pass in training mode."""

    def loss(params):
        logits, stats = small.apply(params, small.batch_stats, images, train=True)
        return jnp.mean((logits - np.arange(6.0).reshape(3, 2)) ** 2), (logits, stats)

    gradients, (logits, stats) = jax.jit(jax.grad(loss, has_aux=True))(small.params)
    return logits, stats, gradients


def test_every_parameter_is_trained(trained):
    # A block's last shift adds a constant to its channels, which only 1x1 convolutions before batch norms read: they
    # subtract it again with the batch's mean, and its gradient is zero but for rounding.
    for name, gradient in flatten(trained[2]).items():
        assert np.isfinite(gradient).all(), name
        if name.endswith("project.norm.bias"):
            assert np.abs(gradient).max() < 1e-4, name
        else:
            assert np.abs(gradient).max() > 1e-4, name


def test_training_uses_the_batchs_statistics_and_moves_all_running_ones(small, trained, logits):
    assert np.abs(trained[0] - logits).max() > 0.1
    new = flatten(trained[1])
    for name, old in flatten(small.batch_stats).items():
        assert (old != new[name]).any(), name


def test_stochastic_depth_grows_with_depth():
    model = nnx.eval_shape(lambda: EfficientNet(drop_path=0.32, rngs=nnx.Rngs(0)))
    np.testing.assert_allclose([block.drop_path for block in model.blocks], 0.02 * np.arange(16))


def test_the_key_drops_features_and_whole_paths(small, images, logits):
    for options in (dict(dropout=0.5), dict(drop_path=0.9, depth=0.5)):
        model = make(**options)
        run = jax.jit(
            lambda key, model=model: model.apply(model.params, model.batch_stats, images, train=False, key=key)[0]
        )
        first, again, other = (run(jax.random.key(seed, impl="rbg")) for seed in (0, 0, 1))
        np.testing.assert_array_equal(first, again)
        assert np.abs(first - other).max() > 0.01


@functools.cache
def block(channels: int, stride: int, drop_path: float):
    options = dict(drop_path=drop_path, axis_name=None, dtype=np.float32)
    return filled(lambda: MBConv(channels, 8, Stage(2, 3, 2, 8, 1), stride=stride, **options, rngs=nnx.Rngs(0)))


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


def test_eager_equals_compiled():
    made = block(8, 2, 0.0)
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 8)).astype(np.float32)
    apply = functools.partial(made.apply, train=True, key=None)
    eager, compiled = apply(made.params, made.batch_stats, x), jax.jit(apply)(made.params, made.batch_stats, x)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), eager, compiled)
