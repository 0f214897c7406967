"""The U-Net against a NumPy forward pass, and what every model here must satisfy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from segfusion_jax.models import efficientnet
from segfusion_jax.models import unet as unet_module
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
    assert seen == [
        ((4, 5, 80 + 32), 0.5),  # of stride 16: the block before the last of stride 2
        ((7, 9, 32 + 16), 0.5),
        ((13, 17, 16 + 8), 0.5),
        ((25, 34, 8 + 8), 0.5),
        ((50, 67, 4), 0.5),  # the image's own size: nothing to concatenate
    ]


def test_a_b0_encoder_has_the_decoder_that_is_usual():
    """256 to 16 filters: segmentation_models.pytorch counts 6,251,469, with 412,160 of a top that we leave out.

    Its last layer has 3x3 kernels (128 more values), its convolutions before batch norms no biases (992 fewer), and at
    half size it takes the stem's 32 maps, we the first block's 16 (4,608 more in the convolution that reads them).
    """
    module = nnx.eval_shape(lambda: EncoderUNet(efficientnet.plan("efficientnet_b0"), rngs=nnx.Rngs(0)))
    ours = count(nnx.to_pure_dict(nnx.state(module, nnx.Param)))
    assert ours == 6_251_469 - 412_160 - 128 + 992 - 4_608
