"""Our networks beside those of Keras, timm and torchvision, and what both are compared by."""

import functools
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from segfusion_jax.models import layers, pretrained
from segfusion_jax.models.efficientnet import EfficientNet
from segfusion_jax.models.functional import Functional, Variables, functional
from segfusion_jax.models.inverted_residual import ImageClassifier
from segfusion_jax.models.mobilenet_v3 import MobileNetV3

TORCHVISION_ORIGINAL = layers.PYTORCH._replace(epsilon=layers.TENSORFLOW.epsilon)
"""Torchvision trained MobileNetV3 and EfficientNet-B5 to B7 with the epsilon of the originals."""


class Outputs(NamedTuple):
    """What a network makes of images; float32.

    Attributes:
      stages: of the stem and of each block, [batch, height, width, channels].
      features: that the last layer reads, [batch, features].
      logits: [batch, classes].
    """

    stages: list[np.ndarray]
    features: np.ndarray
    logits: np.ndarray


class Network(NamedTuple):
    """One of our networks.

    Attributes:
      make: builds it; takes `num_classes`, `family` and `rngs`, which are options of `ImageClassifier`.
      family: that it is to compute like.
      family_name: the same, as `load_pretrained` calls it.
      gain: of the peer's drawn weights; see `drawn.draw`.
    """

    make: Callable[..., ImageClassifier]
    family: layers.Family
    family_name: str
    gain: float

    def load(self, path: pathlib.Path, family: layers.Family | None = None) -> Functional:
        """Filled from a peer's file, the last layer too; `family` is another than the right one."""
        options = dict(num_classes=1000, family=family or self.family)
        abstract = functional(nnx.eval_shape(lambda: self.make(**options, rngs=nnx.Rngs(0))))
        return pretrained.load_pretrained(path, abstract, family=self.family_name, drop=())


_B0, _B2, _B5 = (functools.partial(EfficientNet, f"efficientnet_b{number}") for number in (0, 2, 5))
_SMALL, _LARGE = (functools.partial(MobileNetV3, f"mobilenet_v3_{name}") for name in ("small", "large"))

NETWORKS = {
    "keras EfficientNetB0": Network(_B0, layers.TENSORFLOW, "tensorflow", 2.2),
    "keras MobileNetV3Small": Network(_SMALL, layers.TENSORFLOW, "tensorflow", 2.0),
    "keras MobileNetV3Large": Network(_LARGE, layers.TENSORFLOW, "tensorflow", 1.55),
    "timm efficientnet_b0": Network(_B0, layers.PYTORCH, "timm", 1.85),
    "timm tf_efficientnet_b0": Network(_B0, layers.TENSORFLOW, "tensorflow", 1.85),
    "timm tf_efficientnet_b2": Network(_B2, layers.TENSORFLOW, "tensorflow", 1.7),
    "timm mobilenetv3_small_100": Network(_SMALL, layers.PYTORCH, "timm", 1.9),
    "timm tf_mobilenetv3_large_100": Network(_LARGE, layers.TENSORFLOW, "tensorflow", 1.6),
    "torchvision efficientnet_b0": Network(_B0, layers.PYTORCH, "torchvision", 2.05),
    "torchvision efficientnet_b5": Network(_B5, TORCHVISION_ORIGINAL, "torchvision", 1.7),
    "torchvision mobilenet_v3_small": Network(_SMALL, TORCHVISION_ORIGINAL, "torchvision", 2.0),
}
"""By the name of the peer, whose weights they can take."""


def run(model: Functional, images: np.ndarray, *, train: bool) -> tuple[Outputs, Variables]:
    """What our network makes of `images` [batch, height, width, 3] in [0, 1], and its batch-norm statistics then."""

    @jax.jit
    def apply(params, batch_stats, images):
        x = model.preprocessing(images)
        stages, _ = model.apply(params, batch_stats, x, train=train, method="outputs")
        features, new_stats = model.apply(params, batch_stats, x, train=train, method="features")
        logits, _ = model.apply(params, batch_stats, features, method="classify")
        return (stages, features, logits), new_stats

    outputs, new_stats = jax.tree.map(np.asarray, apply(model.params, model.batch_stats, images))
    return Outputs(*outputs), new_stats
