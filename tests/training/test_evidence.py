"""Evidence maps against heads by hand, in float64."""

import functools

import numpy as np
import pytest
from flax import nnx

from segfusion_jax.config import Bridge
from segfusion_jax.models.inverted_residual import Block, ImageClassifier, Plan
from segfusion_jax.models.layers import TENSORFLOW
from segfusion_jax.models.malignancy import malignancy_logit
from segfusion_jax.training import steps
from tests.models.filled import filled

BLOCKS = (Block(8, 3, 2, 2, 6, nnx.silu),)


@functools.cache
def classifier(hidden: int, num_logits: int):
    """A network of one block, with or without MobileNetV3's hidden layer."""
    plan = Plan(8, BLOCKS, 10, hidden, nnx.hard_swish, nnx.silu, nnx.sigmoid)
    options = dict(num_classes=num_logits, dropout=0.5, drop_path=0.0, conventions=TENSORFLOW, dtype=np.float32)
    return filled(lambda: ImageClassifier(plan, **options, rngs=nnx.Rngs(0)))


def batch_of(size: tuple[int, int]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    mask = np.zeros((3, *size, 1), np.uint8)
    mask[:, 4:12, 6:16] = 255
    return {"image": rng.integers(0, 256, (3, *size, 3), dtype=np.uint8), "mask": mask}


def malignancy(params, maps: np.ndarray, positive: tuple[bool, ...]) -> np.ndarray:
    """The logit of malignancy, in float64 and without the model's code."""
    features = maps.astype(np.float64).mean((1, 2))
    layer = {name: {key: np.asarray(array, np.float64) for key, array in params[name].items()} for name in ("head",)}
    if "hidden" in params:
        hidden = features @ np.asarray(params["hidden"]["kernel"], np.float64) + params["hidden"]["bias"]
        features = hidden * np.clip(hidden + 3, 0, 6) / 6
    logits = features @ layer["head"]["kernel"] + layer["head"]["bias"]
    if logits.shape[1] == 1:
        return logits[:, 0]
    shares = np.exp(logits)
    return np.log(shares[:, positive].sum(1)) - np.log(shares[:, ~np.array(positive)].sum(1))


@pytest.mark.parametrize("size", [(16, 24), (17, 16)])
def test_with_the_bias_the_evidence_of_an_efficientnet_adds_up_to_its_logit(size):
    model, bridge = classifier(0, 1), Bridge(mode="black")
    variables, batch = (model.params, model.batch_stats), batch_of(size)
    evidence = steps.make_explain(model, bridge, (False, True))(variables, batch)
    logits = steps.make_classify(model, bridge)(variables, batch)
    assert evidence.shape == (3, -(-size[0] // 4), -(-size[1] // 4)) and evidence.dtype == np.float32
    assert np.ptp(evidence, axis=(1, 2)).min() > 0.1
    np.testing.assert_allclose(evidence.sum((1, 2)) + model.params["head"]["bias"], logits[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("hidden", "positive"), [(0, (False, True)), (7, (False, True)), (0, (True, False, True)), (7, (False, True, True))]
)
def test_evidence_of_a_place_is_how_the_logit_grows_with_its_activations(hidden, positive):
    num_logits = 1 if len(positive) == 2 else len(positive)
    model, bridge = classifier(hidden, num_logits), Bridge(mode="dim")
    variables, batch = (model.params, model.batch_stats), batch_of((16, 16))
    evidence = np.asarray(steps.make_explain(model, bridge, positive)(variables, batch))
    inputs = model.preprocessing(steps.bridged(batch, bridge))
    maps = np.asarray(model.apply(*variables, inputs, train=False, method="maps")[0])
    logits = np.asarray(steps.make_classify(model, bridge)(variables, batch))
    np.testing.assert_allclose(
        malignancy(model.params, maps, positive), malignancy_logit(logits, positive), rtol=1e-4, atol=1e-4
    )
    for place in [(0, 0), (1, 2), (3, 3)]:
        step = 1e-4 * (np.indices((4, 4)).transpose(1, 2, 0) == place).all(-1)[..., None]
        grown, shrunk = (malignancy(model.params, maps * (1.0 + sign * step), positive) for sign in (1, -1))
        np.testing.assert_allclose(evidence[:, *place], (grown - shrunk) / 2e-4, rtol=1e-3, atol=1e-5)
