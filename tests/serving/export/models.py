"""Tiny models with weights that nobody trained, but whose masks are decided."""

import pathlib
from unittest import mock

import jax
import numpy as np

from segfusion_jax.config import Config
from segfusion_jax.evaluation import novelty
from segfusion_jax.evaluation.calibration import Calibration
from segfusion_jax.evaluation.novelty import Novelty
from segfusion_jax.input import arrays
from segfusion_jax.models.from_config import make_classifier, make_unet
from segfusion_jax.models.functional import Functional
from segfusion_jax.models.pretrained import save_weights
from segfusion_jax.runtime.devices import make_devices
from segfusion_jax.serving.ensembles import Classes, ClassifierEnsemble, SegmenterEnsemble
from segfusion_jax.serving.segfusion import SegFusion
from tests import tiny
from tests.models.filled import redrawn

SIGMOID = Classes(("benign", "malignant"), (False, True), 1)
SOFTMAX = Classes(("nevus", "melanoma", "bcc"), (False, True, True), 3)


def make_model(folder: pathlib.Path, classes: Classes = SIGMOID, members: int = 1, **overrides) -> SegFusion:
    """Makes a model of so many U-Nets and classifiers; `overrides` are those of `tiny.config`."""
    config: Config = tiny.config(**{"segmenter__image_size": (32, 32), "bridge__min_area": 0.02} | overrides)
    dtype = np.dtype("float32")
    unets, classifiers = [], []
    for seed in range(members):
        unet = redrawn(make_unet(config.segmenter, seed=seed, dtype=dtype), seed)
        unets.append(folder / f"unet_{seed}.safetensors")
        save_weights(unets[-1], _decided(unet, images(8, config.segmenter.image_size), 6.0))
        classifiers.append(folder / f"classifier_{seed}.safetensors")
        bridge, number = config.bridge, classes.num_logits
        classifier = make_classifier(config.classifier, bridge, seed=seed, dtype=dtype, num_logits=number)
        seen = images(8, config.classifier.image_size)
        seen = np.concatenate([seen, seen[..., :1]], axis=-1) if bridge.mode == "channel" else seen
        save_weights(classifiers[-1], _decided(redrawn(classifier, seed), seen, 1.0))
    devices = make_devices(config.parallel)
    shift = (0.3,) if classes.num_logits == 1 else (0.3, 0.0, -0.2)
    model = SegFusion(
        config,
        SegmenterEnsemble(config, devices, unets),
        ClassifierEnsemble(config, devices, classifiers, classes),
        calibration=Calibration(0.8, shift),
        prevalence=0.2,
        threshold=0.3,
        familiarity=Novelty(np.zeros(1, np.float32), np.eye(1, dtype=np.float32)),
    )
    known = images(16, model.classifiers.novelty_size)
    described = model.classifiers.describe(arrays.Arrays(list(known), known.shape[1:3]))
    features = np.stack([found for _, found in described])
    model.familiarity = novelty.fit(features).limited(features, 0.5)
    return model


def _decided(model: Functional, batch: np.ndarray, deviation: float) -> Functional:
    """With a last layer that gives logits around 0, with that deviation, of these images."""
    apply = jax.jit(lambda x: model.apply(model.params, model.batch_stats, model.preprocessing(x), train=False)[0])
    logits = np.asarray(apply(batch / np.float32(255)))
    logits = logits.reshape(-1, logits.shape[-1])
    scale, head = deviation / logits.std(0), model.params["head"]
    head = {"kernel": head["kernel"] * scale, "bias": (head["bias"] - logits.mean(0)) * scale}
    return model._replace(params=model.params | {"head": head})


def images(number: int, size: tuple[int, int] = (32, 32)) -> np.ndarray:
    """Discs of a colour on noise around another, uint8 [number, *size, 3]; the last without a disc."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: size[0], : size[1]]
    drawn = rng.uniform(90, 230, (number, 1, 1, 3)) + rng.normal(0, 12, (number, *size, 3))
    for image in drawn[:-1]:
        (row, column), radius = rng.uniform(0.3, 0.7, 2) * size, rng.uniform(0.15, 0.35) * min(size)
        image[np.hypot(rows - row, columns - column) < radius] *= rng.uniform(0.2, 0.6, 3)
    return drawn.clip(0, 255).astype(np.uint8)


def foldered(model: SegFusion) -> SegFusion:
    """The model as if it had been loaded from a folder."""
    told = {"tested": {"sensitivity": {"value": 0.8}}, "operating_points": [], "data": [{"title": "Drawn"}]}
    model.folder = mock.Mock(digest="ab" * 32, metadata=mock.Mock(**told))
    return model
