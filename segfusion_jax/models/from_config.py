"""The models that a config asks for."""

import pathlib

import jax.numpy as jnp
from flax import nnx

from segfusion_jax import config as configs
from segfusion_jax.models import pretrained
from segfusion_jax.models.efficientnet import EfficientNet
from segfusion_jax.models.functional import Functional, functional
from segfusion_jax.models.unet import UNet


def make_unet(config: configs.Segmenter, *, seed: int, dtype: jnp.dtype, axis_name: str | None = None) -> Functional:
    """A U-Net with initial weights drawn from `seed`."""
    module = UNet(filters=config.filters, dropout=config.dropout, axis_name=axis_name, dtype=dtype, rngs=nnx.Rngs(seed))
    return functional(module)


def make_classifier(
    config: configs.Classifier,
    bridge: configs.Bridge,
    *,
    seed: int,
    dtype: jnp.dtype,
    axis_name: str | None = None,
) -> Functional:
    """An EfficientNet with one logit and initial weights drawn from `seed`; in mode 'channel' it reads a fourth."""
    module = EfficientNet(
        num_classes=1,
        width=config.width,
        depth=config.depth,
        channels=4 if bridge.mode == "channel" else 3,
        dropout=config.dropout,
        drop_path=config.drop_path,
        axis_name=axis_name,
        dtype=dtype,
        rngs=nnx.Rngs(seed),
    )
    return functional(module)


def find_pretrained(config: configs.Classifier) -> pathlib.Path:
    """Path of the weight file that the config names.

    Raises:
      FileNotFoundError: says where it was looked for.
    """
    path = configs.find(config.pretrained)
    if path is None:
        raise FileNotFoundError(
            f"config.classifier.pretrained = {config.pretrained!r}: no such file, nor in the folders of "
            "SEGFUSION_DATA; give the path of an EfficientNet-B0 .npz file with lukemelas/EfficientNet-PyTorch names, "
            'or "" to train from scratch'
        )
    return path


def load_pretrained(config: configs.Classifier, classifier: Functional) -> Functional:
    """`classifier`, its weights before the last layer from the file that the config names, if it names one."""
    if not config.pretrained:
        return classifier
    path = find_pretrained(config)
    params, batch_stats = pretrained.load_efficientnet(path, classifier.params, classifier.batch_stats)
    return classifier._replace(params=params, batch_stats=batch_stats)
