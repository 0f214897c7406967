"""The U-Net against a NumPy forward pass, and what every model here must satisfy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from segfusion_jax.models import efficientnet
from segfusion_jax.models import unet as unet_module
from segfusion_jax.models.inverted_residual import Encoder
from segfusion_jax.models.layers import TENSORFLOW
from segfusion_jax.models.unet import EncoderUNet, UNet
from tests.models import reference
from tests.models.filled import count, filled

SMALL_B0 = efficientnet.plan("efficientnet_b0", width=0.25, depth=0.25)


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


def test_first_running_mean_is_the_hand_computed_one(unet, trained, images):
    conv, norm = unet.params["down"][0]["conv1"], unet.batch_stats["down"][0]["norm1"]
    activations = reference.same_convolution(images, conv["kernel"]) + conv["bias"]
    moved = trained(0)[1]["down"][0]["norm1"]
    np.testing.assert_allclose(moved["mean"], 0.9 * norm["mean"] + 0.1 * activations.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(moved["var"], 0.9 * norm["var"] + 0.1 * activations.var((0, 1, 2)), rtol=1e-4)


def test_dropout_follows_each_pooling_and_each_concatenation(unet, images, monkeypatch):
    dropped = []

    def record(parts, rate, *, key):
        x = jnp.concatenate(parts, axis=-1)
        dropped.append((x.shape[1:], rate, key is not None))
        return x

    monkeypatch.setattr(unet_module, "concatenate_dropout", record)
    monkeypatch.setattr(unet_module, "dropout", lambda x, rate, *, key: record([x], rate, key=key))
    apply = functools.partial(unet.apply, train=True)
    jax.eval_shape(apply, unet.params, unet.batch_stats, images, key=jax.random.key(0))
    pooled = [(8, 16, 2), (4, 8, 4), (2, 4, 8), (1, 2, 16)]
    concatenated = [(2, 4, 32), (4, 8, 16), (8, 16, 8), (16, 32, 4)]
    assert dropped == [(shape, 0.5, True) for shape in pooled + concatenated]


@pytest.mark.parametrize("size", [(17, 31), (16, 1)])
def test_logits_of_odd_images_are_those_of_the_numpy_forward_pass(unet, size):
    images = np.random.default_rng(1).uniform(size=(2, *size, 3)).astype(np.float32)
    logits = jax.jit(lambda *args: unet.apply(*args, train=False)[0])(unet.params, unet.batch_stats, images)
    assert logits.shape == (2, *size, 1)
    np.testing.assert_allclose(logits, reference.unet(unet.params, unet.batch_stats, images), rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def encoder_unet():
    return filled(lambda: EncoderUNet(SMALL_B0, filters=2, dropout=0.5, rngs=nnx.Rngs(0)))


def test_the_encoders_maps_are_concatenated_at_their_sizes(encoder_unet, monkeypatch):
    seen = []

    def record(parts, rate, *, key):
        x = jnp.concatenate(parts, axis=-1)
        seen.append((x.shape[1:], rate))
        return x

    monkeypatch.setattr(unet_module, "concatenate_dropout", record)
    images = np.zeros((1, 50, 67, 3), np.float32)
    jax.eval_shape(
        functools.partial(encoder_unet.apply, train=True), encoder_unet.params, encoder_unet.batch_stats, images
    )
    filters = [block.filters for block in SMALL_B0.blocks]
    assert filters == [8, 8, 16, 24, 32, 48, 80]
    assert len(encoder_unet.params["encoder"]["blocks"]) == 5  # all before the one that halves for the fifth time
    assert seen == [
        ((7, 9, 32 + 16), 0.5),  # of stride 8: the block before the one that halves for the fourth time
        ((13, 17, 16 + 8), 0.5),
        ((25, 34, 8 + 8), 0.5),
        ((50, 67, 4), 0.5),  # the image's own size: nothing to concatenate
    ]


def test_logits_over_the_encoders_maps_are_those_of_the_numpy_decoder(encoder_unet):
    """The order in which a level's channels are joined is part of every weight file: what comes from below is first."""
    images = np.random.default_rng(1).uniform(size=(1, 35, 33, 3)).astype(np.float32)
    plan = SMALL_B0._replace(blocks=SMALL_B0.blocks[:5])
    encoder = filled(lambda: Encoder(plan, drop_path=0.0, conventions=TENSORFLOW, rngs=nnx.Rngs(0)))

    def run(params, batch_stats):
        logits, _ = encoder_unet.apply(params, batch_stats, images, train=False)
        of_encoder = params["encoder"], batch_stats["encoder"]
        return logits, encoder.apply(*of_encoder, images, method="outputs", train=False)[0]

    params, batch_stats = encoder_unet.params, encoder_unet.batch_stats
    logits, maps = jax.jit(run)(params, batch_stats)
    *skips, bottom = {one.shape[1]: np.asarray(one, np.float64) for one in maps}.values()  # of each size the last
    expected = reference.unet_decoder(params, batch_stats, bottom, skips, images.shape[1:3])
    assert expected.std() > 0.1
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def test_a_b0_encoder_has_the_decoder_that_is_usual():
    """128 to 16 filters: each level reads the one below and B0's 40, 24, 16 and 0 maps of its size."""
    module = nnx.eval_shape(lambda: EncoderUNet(efficientnet.plan("efficientnet_b0"), rngs=nnx.Rngs(0)))
    params = nnx.to_pure_dict(nnx.state(module, nnx.Param))
    of_encoder = params.pop("encoder")
    levels = [(112 + 40, 128), (128 + 24, 64), (64 + 16, 32), (32, 16)]
    convolutions = sum(9 * (below + filters) * filters + 2 * filters for below, filters in levels)
    norms = sum(4 * filters for _, filters in levels)
    assert count(params) == convolutions + norms + 16 + 1
    outputs = [block["project"]["norm"]["scale"].size for block in of_encoder["blocks"].values()]
    assert outputs == [16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112]
