"""Our networks beside those of Keras, timm and torchvision, and what both are compared by."""

import pathlib
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from segfusion_jax.models import mobilenet_v3, pretrained
from segfusion_jax.models.efficientnet import EfficientNet
from segfusion_jax.models.functional import Functional, Variables, functional
from segfusion_jax.models.mobilenet_v3 import MobileNetV3


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
      name: as in configs.
      conventions: that it is to compute like.
      gain: of the peer's drawn weights; see `drawn.draw`.
    """

    name: str
    conventions: str
    gain: float

    def load(self, path: pathlib.Path) -> Functional:
        """Filled from a peer's file, the last layer too."""
        make = MobileNetV3 if self.name in mobilenet_v3.VARIANTS else EfficientNet
        options = dict(num_classes=1000, conventions=self.conventions)
        abstract = functional(nnx.eval_shape(lambda: make(self.name, **options, rngs=nnx.Rngs(0))))
        return pretrained.load_pretrained(path, abstract, drop=())


NETWORKS = {
    "keras EfficientNetB0": Network("efficientnet_b0", "tensorflow", 2.2),
    "keras MobileNetV3Small": Network("mobilenet_v3_small", "tensorflow", 2.0),
    "keras MobileNetV3Large": Network("mobilenet_v3_large", "tensorflow", 1.55),
    "timm efficientnet_b0": Network("efficientnet_b0", "timm", 1.85),
    "timm tf_efficientnet_b0": Network("efficientnet_b0", "tensorflow", 1.85),
    "timm tf_efficientnet_b2": Network("efficientnet_b2", "tensorflow", 1.7),
    "timm mobilenetv3_small_100": Network("mobilenet_v3_small", "timm", 1.9),
    "timm tf_mobilenetv3_large_100": Network("mobilenet_v3_large", "tensorflow", 1.6),
    "torchvision efficientnet_b0": Network("efficientnet_b0", "torchvision", 2.05),
    "torchvision efficientnet_b5": Network("efficientnet_b5", "torchvision", 1.7),
    "torchvision mobilenet_v3_small": Network("mobilenet_v3_small", "torchvision", 2.0),
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
