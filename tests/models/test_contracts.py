"""What every model here must satisfy, on small ones."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from segfusion_jax.models import efficientnet, mobilenet_v3
from segfusion_jax.models.functional import functional
from segfusion_jax.models.inverted_residual import ImageClassifier
from segfusion_jax.models.layers import TENSORFLOW, TIMM
from segfusion_jax.models.mobilenet_v3 import MobileNetV3
from segfusion_jax.models.pretrained import flatten
from segfusion_jax.models.unet import EncoderUNet, UNet
from tests import shallow
from tests.models.filled import count, filled

OPTIONS: dict = dict(num_classes=2, dropout=0.5, drop_path=0.5)
SMALL_V3 = mobilenet_v3.plan("mobilenet_v3_small", width=0.25)
SHORT_V3 = SMALL_V3._replace(blocks=SMALL_V3.blocks[1:5])  # with and without squeeze-and-excite, ReLU and hard swish
MODELS = {
    "efficientnet, tensorflow": functools.partial(ImageClassifier, shallow.PLAN, conventions=TENSORFLOW, **OPTIONS),
    "efficientnet, timm": functools.partial(ImageClassifier, shallow.PLAN, conventions=TIMM, **OPTIONS),
    "mobilenet_v3": functools.partial(ImageClassifier, SHORT_V3, conventions=TIMM, **OPTIONS),
    "unet": functools.partial(UNet, filters=2, dropout=0.5),
    "efficientnet unet": functools.partial(
        EncoderUNet, efficientnet.plan("efficientnet_b0", width=0.25, depth=0.25), filters=2, dropout=0.5
    ),
    "mobilenet unet": functools.partial(EncoderUNet, SHORT_V3, filters=2, dropout=0.5, conventions=TIMM),
}
IMAGES = np.random.default_rng(1).normal(size=(4, 33, 47, 3)).astype(np.float32)  # divisible by no stride


@dataclasses.dataclass(frozen=True)
class Run:
    """A small model and what it computes, compiled."""

    make: Callable
    logits: jax.Array
    trained: jax.Array
    stats: dict
    gradients: dict

    @functools.cached_property
    def model(self):
        return build(self.make)


def build(make, dtype=jnp.float32):
    return filled(lambda: make(dtype=dtype, rngs=nnx.Rngs(0)))


def infer(model, images=IMAGES):
    return jax.jit(lambda *args: model.apply(*args, train=False)[0])(model.params, model.batch_stats, images)


@pytest.fixture(scope="module", params=MODELS)
def run(request) -> Run:
    make = MODELS[request.param]
    model = build(make)

    def loss(params):
        logits, stats = model.apply(params, model.batch_stats, IMAGES, train=True)
        targets = np.linspace(-1, 1, logits.size).reshape(logits.shape)
        return jnp.mean((logits - targets) ** 2), (logits, stats)

    gradients, (trained, stats) = jax.jit(jax.grad(loss, has_aux=True))(model.params)
    return Run(make, infer(model), trained, stats, gradients)


def test_logits_are_finite_float32_one_a_class_or_pixel(run):
    assert run.logits.shape == ((4, 33, 47, 1) if "up" in run.model.params else (4, 2))
    assert run.logits.dtype == np.float32
    assert np.isfinite(run.logits).all() and np.std(run.logits) > 1e-3


def test_training_uses_the_batchs_statistics_and_moves_all_running_ones(run):
    assert np.abs(run.trained - run.logits).max() > 0.01
    old, new = flatten(run.model.batch_stats), flatten(run.stats)
    assert old.keys() == new.keys()
    for name in old:
        assert new[name].dtype == np.float32
        assert (old[name] != new[name]).all(), name


def subtracted_again(name: str) -> bool:
    """Whether the array adds a constant to channels that only a batch norm reads, which subtracts it with the mean.

    Of an encoder, the decoder reads the last block and what enters blocks of stride 2, through 3x3 convolutions.
    """
    return name.endswith(("conv1.bias", "conv2.bias")) or ("encoder" not in name and name.endswith("project.norm.bias"))


def test_every_parameter_gets_a_finite_gradient(run):
    sizes = {name: np.abs(gradient).max() for name, gradient in flatten(run.gradients).items()}
    typical = np.median([size for name, size in sizes.items() if not subtracted_again(name)])
    assert np.isfinite(list(sizes.values())).all()
    for name, size in sizes.items():
        if subtracted_again(name):
            assert size < 1e-3 * typical, name
        elif not name.endswith("project.norm.bias"):  # within an encoder: some are read, some subtracted
            assert size > 1e-3 * typical, name


def test_bfloat16_is_close_to_float32(run):
    narrow = build(run.make, dtype=jnp.bfloat16)
    output = infer(narrow._replace(params=run.model.params, batch_stats=run.model.batch_stats))
    assert output.dtype == np.float32
    error = np.abs(output - run.logits)
    assert 0 < error.mean() < 0.05 * np.abs(run.logits).mean()


def test_compiled_equals_eager(run):
    eager, stats = run.model.apply(run.model.params, run.model.batch_stats, IMAGES, train=False)
    np.testing.assert_allclose(eager, run.logits, rtol=1e-4, atol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, stats, run.model.batch_stats)


def test_examples_do_not_meet_in_inference(run):
    others = np.concatenate([IMAGES[2:], IMAGES[2:]])  # as many, so that the same program runs
    np.testing.assert_allclose(infer(run.model, others)[2:], run.logits[2:], rtol=1e-4, atol=1e-5)


def test_the_key_and_nothing_else_decides_what_is_dropped(run):
    model = run.model
    compiled = jax.jit(lambda key: model.apply(model.params, model.batch_stats, IMAGES, train=True, key=key)[0])
    first, again, other = (compiled(jax.random.key(seed, impl="rbg")) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01 and np.abs(first - run.trained).max() > 0.01


def test_initial_weights_are_a_function_of_the_seed(run):
    first, again, other = (functional(run.make(dtype=jnp.float32, rngs=nnx.Rngs(seed))).params for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    kernels = {name: leaf for name, leaf in flatten(first).items() if name.endswith("kernel")}
    for name, kernel in kernels.items():
        assert (kernel != flatten(other)[name]).all(), name
    assert len({float(kernel.ravel()[0]) for kernel in kernels.values()}) == len(kernels)


@pytest.mark.parametrize(("name", "parameters"), [("mobilenet_v3_small", 2_542_856), ("mobilenet_v3_large", 5_483_032)])
def test_published_numbers_of_parameters(name, parameters):
    """As torchvision documents them, with 1,000 classes; EfficientNet's are counted from its tables."""
    module = nnx.eval_shape(lambda: MobileNetV3(name, num_classes=1000, rngs=nnx.Rngs(0)))
    assert count(nnx.to_pure_dict(nnx.state(module, nnx.Param))) == parameters
