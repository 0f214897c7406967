"""The U-Net against a NumPy forward pass, and what every model here must satisfy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from segfusion_jax.models import unet as unet_module
from segfusion_jax.models.unet import UNet
from tests.models import reference
from tests.models.filled import count, filled


@pytest.fixture(scope="module")
def unet():
    return filled(lambda: UNet(filters=2, dropout=0.5, rngs=nnx.Rngs(0)))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).uniform(size=(2, 16, 32, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def logits(unet, images):
    """In inference mode, compiled."""
    return jax.jit(lambda *args: unet.apply(*args, train=False)[0])(unet.params, unet.batch_stats, images)


def test_it_has_as_many_parameters_as_keras_counts():
    full = filled(lambda: UNet(rngs=nnx.Rngs(0)))
    assert count(full.params) + count(full.batch_stats) == 2_164_593
    assert count(full.batch_stats) == 2 * 2 * 2 * (16 + 32 + 64 + 128) + 2 * 2 * 256  # mean, var; two norms; down, up


def test_logits_are_those_of_the_numpy_forward_pass(unet, images, logits):
    expected = reference.unet(unet.params, unet.batch_stats, images)
    assert logits.shape == (2, 16, 32, 1)
    assert expected.std() > 0.1
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def test_eager_equals_compiled(unet, images, logits):
    eager, stats = unet.apply(unet.params, unet.batch_stats, images, train=False)
    np.testing.assert_allclose(eager, logits, rtol=1e-5, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, stats, unet.batch_stats)


def test_bfloat16_is_close_to_float32(unet, images, logits):
    narrow = filled(lambda: UNet(filters=2, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)))
    output = jax.jit(lambda *args: narrow.apply(*args, train=False)[0])(unet.params, unet.batch_stats, images)
    assert output.dtype == np.float32
    error = np.abs(output - logits)
    assert 0 < error.max() < 0.1 * np.abs(logits).max()  # 23 layers of 8 bits
    assert error.mean() < 0.02 * np.abs(logits).mean()


@pytest.fixture(scope="module")
def trained(unet, images):
    """Outputs, new statistics and gradients of one pass in training mode, as a function of the key of the dropout."""

    def loss(params, key):
        logits, stats = unet.apply(params, unet.batch_stats, images, train=True, key=key)
        targets = np.linspace(-1, 1, logits.size).reshape(logits.shape)
        return jnp.mean((logits - targets) ** 2), (logits, stats)

    compiled = jax.jit(jax.grad(loss, has_aux=True))

    def run(seed):
        gradients, (logits, stats) = compiled(unet.params, jax.random.key(seed, impl="rbg"))  # compiles fastest
        return logits, stats, gradients

    return run


def test_every_parameter_is_trained(trained):
    # a bias before a batch norm is subtracted again with the batch's mean: its gradient is zero but for rounding
    for path, gradient in jax.tree_util.tree_leaves_with_path(trained(0)[2]):
        name = jax.tree_util.keystr(path)
        assert np.isfinite(gradient).all(), name
        if "conv" in name and "bias" in name:
            assert np.abs(gradient).max() < 1e-5, name
        else:
            assert np.abs(gradient).max() > 1e-5, name


def test_training_uses_the_batchs_statistics_and_moves_all_running_ones(unet, trained, logits):
    output, stats, _ = trained(0)
    assert np.abs(output - logits).max() > 0.1
    for old, new in zip(jax.tree.leaves(unet.batch_stats), jax.tree.leaves(stats), strict=True):
        assert new.dtype == np.float32
        assert (old != new).any()


def test_first_running_mean_is_the_hand_computed_one(unet, trained, images):
    conv, norm = unet.params["down"][0]["conv1"], unet.batch_stats["down"][0]["norm1"]
    activations = reference.same_convolution(images, conv["kernel"]) + conv["bias"]
    moved = trained(0)[1]["down"][0]["norm1"]
    np.testing.assert_allclose(moved["mean"], 0.9 * norm["mean"] + 0.1 * activations.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(moved["var"], 0.9 * norm["var"] + 0.1 * activations.var((0, 1, 2)), rtol=1e-4)


def test_dropout_is_a_function_of_the_key(trained):
    np.testing.assert_array_equal(trained(0)[0], trained(0)[0])
    assert np.abs(trained(0)[0] - trained(1)[0]).max() > 0.01


def test_dropout_follows_each_pooling_and_each_concatenation(unet, images, monkeypatch):
    dropped = []

    def record(x, rate, *, key):
        dropped.append((x.shape[1:], rate, key is not None))
        return x

    monkeypatch.setattr(unet_module, "dropout", record)
    apply = functools.partial(unet.apply, train=True)
    jax.eval_shape(apply, unet.params, unet.batch_stats, images, key=jax.random.key(0))
    pooled = [(8, 16, 2), (4, 8, 4), (2, 4, 8), (1, 2, 16)]
    concatenated = [(2, 4, 32), (4, 8, 16), (8, 16, 8), (16, 32, 4)]
    assert dropped == [(shape, 0.5, True) for shape in pooled + concatenated]
