"""Training with the native kernels takes the course that it takes without them."""

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from segfusion_jax import EfficientNet, UNet, functional
from segfusion_jax.config import Bridge, Classifier, Segmenter
from segfusion_jax.ops import native
from segfusion_jax.training import steps
from segfusion_jax.training.state import create_state
from tests.training import toy

NUM_STEPS = 10


def small_unet():
    model = functional(UNet(filters=4, rngs=nnx.Rngs(0)))
    return model, steps.segmentation_objective(model, Segmenter())


def small_efficientnet():
    model = functional(
        EfficientNet("efficientnet_b0", width=0.25, depth=0.25, num_classes=1, drop_path=0.2, rngs=nnx.Rngs(0))
    )
    options = dict(class_weights=(1.0, 1.0), head_only=False)
    return model, steps.classification_objective(model, Bridge(mode="none"), Classifier(), **options)


def losses(make):
    """Of every step: bright images are lesions."""
    model, objective = make()
    optimizer = optax.sgd(0.005)
    step = toy.devices(1).compile_train_step(steps.make_train_step(objective, optimizer, seed=3, ema_decay=0))
    state = create_state(model.params, model.batch_stats, optimizer, ema_decay=0)
    rng = np.random.default_rng(0)
    found = []
    for number in range(NUM_STEPS):
        labels = np.tile(np.array([0, 1, 1, 0], np.int32), 2)
        noise = rng.integers(0, 60, (8, 33, 40, 3))
        images = (noise + 120 * labels[:, None, None, None]).astype(np.uint8)
        masks = np.broadcast_to(255 * labels[:, None, None, None], (8, 33, 40, 1)).astype(np.uint8)
        batch = {"image": images, "mask": masks, "label": labels, "weight": np.ones(8, np.float32)}
        state, metrics = step(state, batch)
        found.append(float(metrics["loss"]))
        assert int(state.step) == number + 1
    return found


@pytest.mark.slow
@pytest.mark.parametrize("make", [small_unet, small_efficientnet])
def test_losses_are_those_of_training_without_the_kernels(make, shallow_networks, monkeypatch):
    if not native.available():
        pytest.skip("there is no C++ compiler")
    fast = losses(make)
    monkeypatch.setattr(native, "available", lambda: False)
    jax.clear_caches()
    slow = losses(make)
    np.testing.assert_allclose(fast, slow, rtol=1e-4)
    assert fast[-1] < 0.98 * fast[0]
