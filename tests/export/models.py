"""Tiny models with weights that nobody trained, but whose masks are decided."""

import pathlib

import numpy as np

from segfusion_jax.config import Config
from segfusion_jax.evaluation.calibration import Calibration
from segfusion_jax.inference import Classes, Classifiers, Segmenters, SegFusion
from segfusion_jax.models.from_config import make_classifier, make_unet
from segfusion_jax.models.pretrained import save_weights
from segfusion_jax.parallel import make_devices
from tests import tiny

SIGMOID = Classes(("benign", "malignant"), (False, True), 1)
SOFTMAX = Classes(("nevus", "melanoma", "bcc"), (False, True, True), 3)


def make_model(folder: pathlib.Path, classes: Classes = SIGMOID, **overrides) -> SegFusion:
    """Of two U-Nets and two classifiers; `overrides` as of `tiny.config`."""
    config: Config = tiny.config(**{"segmenter__image_size": (24, 32), "bridge__min_area": 0.02} | overrides)
    dtype = np.dtype("float32")
    unets, classifiers = [], []
    for seed in range(2):
        unet = make_unet(config.segmenter, seed=seed, dtype=dtype)
        params = unet.params | {"head": {"kernel": 40 * unet.params["head"]["kernel"], "bias": np.zeros(1, np.float32)}}
        unets.append(folder / f"unet_{seed}.safetensors")
        save_weights(unets[-1], unet._replace(params=params))
        classifiers.append(folder / f"classifier_{seed}.safetensors")
        bridge, number = config.bridge, classes.num_logits
        classifier = make_classifier(config.classifier, bridge, seed=seed, dtype=dtype, num_logits=number)
        save_weights(classifiers[-1], classifier)
    devices = make_devices(config.parallel)
    shift = (0.3,) if classes.num_logits == 1 else (0.3, 0.0, -0.2)
    return SegFusion(
        config,
        Segmenters(config, devices, unets),
        Classifiers(config, devices, classifiers, classes),
        calibration=Calibration(0.8, shift),
        prevalence=0.2,
        threshold=0.3,
    )


def images(number: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Dark discs on bright noise, uint8 [number, *size, 3]; the last without a disc."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: size[0], : size[1]]
    drawn = rng.integers(150, 255, (number, *size, 3))
    for image in drawn[:-1]:
        (row, column), radius = rng.uniform(0.3, 0.7, 2) * size, rng.uniform(0.15, 0.35) * min(size)
        image[np.hypot(rows - row, columns - column) < radius] //= 4
    return drawn.astype(np.uint8)
