"""The models that a config asks for."""

import functools
import hashlib
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import nnx

from segfusion_jax import config as configs
from segfusion_jax.bridge.modes import MODES
from segfusion_jax.models import efficientnet, mobilenet_v3, preprocessing, published
from segfusion_jax.models.functional import Functional, functional
from segfusion_jax.models.inverted_residual import ImageClassifier, Plan
from segfusion_jax.models.layers import conventions_of
from segfusion_jax.models.preprocessing import Preprocessing
from segfusion_jax.models.pretrained import is_unet, load_pretrained, load_weights
from segfusion_jax.models.unet import EncoderUNet, UNet
from segfusion_jax.runtime import locations, plugins

_METADATA = "metadata.json"  # of a released model's folder


def make_unet(
    config: configs.Segmenter, *, seed: int | None, dtype: jnp.dtype, axis_name: str | None = None, remat: bool = False
) -> Functional:
    """Makes a U-Net; axis_name and remat are those of `models.unet`.

    Its initial weights are drawn from `seed`; with None they are but shapes, `jax.ShapeDtypeStruct`, to be filled.
    """
    options: dict[str, Any] = dict(
        filters=config.filters, dropout=config.dropout, axis_name=axis_name, remat=remat, dtype=dtype
    )
    if not config.encoder:
        unet = _made(functools.partial(UNet, **options), seed)
        return functional(unet, preprocessing.NONE._replace(image_size=config.image_size))
    plan, conventions = _plan(config.encoder, 1.0, 1.0), conventions_of(config.encoder, config.conventions)
    unet = _made(functools.partial(EncoderUNet, plan, conventions=conventions, **options), seed)
    return functional(unet, preprocessing.IMAGENET._replace(image_size=config.image_size))


def make_classifier(
    config: configs.Classifier,
    bridge: configs.Bridge,
    *,
    seed: int | None,
    dtype: jnp.dtype,
    axis_name: str | None = None,
    remat: bool = False,
    num_logits: int = 1,
) -> Functional:
    """Makes a classifier of as many channels as the bridge's mode gives; `seed` as in `make_unet`."""
    common: dict[str, Any] = dict(num_classes=num_logits, channels=MODES[bridge.mode].channels, dropout=config.dropout)
    common |= dict(drop_path=config.drop_path, axis_name=axis_name, remat=remat, dtype=dtype)
    preprocess = preprocessing.IMAGENET._replace(image_size=config.image_size)
    if configs.is_plugin(config.backbone):
        theirs = functools.partial(plugins.load(config.backbone, "classifier.backbone"), **common)
        return functional(_made(theirs, seed), preprocess)
    make = functools.partial(
        ImageClassifier,
        _plan(config.backbone, config.width, config.depth),
        conventions=conventions_of(config.backbone, config.conventions),
        **common,
    )
    return functional(_made(make, seed), preprocess)


def load_unet(config: configs.Segmenter, unet: Functional) -> Functional:
    """Returns `unet` with the weights that the config names, if any: of its encoder, or all, where they are a U-Net's.

    Raises:
      ValueError: they do not fit.
    """
    if not config.pretrained:
        return unet
    path = find_pretrained(config)
    if is_unet(path):
        return _whole_unet(config, path, unet)
    if not config.encoder:
        raise ValueError(
            f"{_field(config)} = {config.pretrained!r} holds no U-Net of ours, and without segmenter.encoder there is "
            "no other part that weights could fill"
        )
    blocks = range(len(unet.params["encoder"]["blocks"]), len(_plan(config.encoder, 1.0, 1.0).blocks))
    drop = ("top", "hidden", *_heads(config), *(f"blocks.{number}" for number in blocks))
    unet = load_pretrained(path, unet, drop=drop, within="encoder")
    return unet._replace(preprocessing=_preprocessing(config, unet.preprocessing))


def load_backbone(config: configs.Classifier, classifier: Functional) -> Functional:
    """Returns `classifier` with the weights before its last layer from the file that the config names, if any."""
    if not config.pretrained:
        return classifier
    path = find_pretrained(config)
    if is_unet(path):
        raise ValueError(f"{_field(config)} = {config.pretrained!r} holds a U-Net: must be weights of a classifier")
    classifier = load_pretrained(path, classifier, drop=_heads(config))
    return classifier._replace(preprocessing=_preprocessing(config, classifier.preprocessing))


def find_pretrained(config: configs.Segmenter | configs.Classifier) -> pathlib.Path:
    """Returns the path of the weight file that the config names; a published one is downloaded if it is not there.

    Of a released model's folder that is its classifier or its U-Net; of several the first.

    Raises:
      FileNotFoundError: says where it was looked for.
      ValueError: the published weights are of another network than the config's.
      OSError: the download failed.
    """
    name = config.pretrained
    if path := _local_file(config, name):
        return path
    if name in published.PUBLISHED:
        _check_published(config)
        filename = published.PUBLISHED[name].remote.filename
        if path := _local_file(config, filename):
            return published.checked(name, path)
        return published.fetch(name, locations.cache_folder() / "weights")
    raise FileNotFoundError(
        f"{_field(config)} = {name!r}: no such file, nor in the folders of SEGFUSION_DATA; give the path of a weight "
        "file of ours, Keras, timm, torchvision or lukemelas/EfficientNet-PyTorch, a released model's folder, one "
        f'of {", ".join(published.PUBLISHED)}, or "" to train from scratch'
    )


def pretrained_digest(config: configs.Segmenter | configs.Classifier) -> str:
    """Returns a digest of the weights that the config names, and of whether they are known by name: their preprocessing
    is then their publisher's.

    Raises:
      FileNotFoundError, ValueError, OSError: as `find_pretrained`.
    """
    by_name = _local_file(config, config.pretrained) is None
    return hashlib.sha256(find_pretrained(config).read_bytes() + b"by name" * by_name).hexdigest()


def _made(make: Callable[..., nnx.Module], seed: int | None) -> nnx.Module:
    if seed is None:
        return nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0)))
    return make(rngs=nnx.Rngs(seed))


def _plan(backbone: str, width: float, depth: float) -> Plan:
    if backbone in mobilenet_v3.VARIANTS:
        return mobilenet_v3.plan(backbone, width=width)
    return efficientnet.plan(backbone, width=width, depth=depth)


def _whole_unet(config: configs.Segmenter, path: pathlib.Path, unet: Functional) -> Functional:
    try:
        unet = load_weights(path, unet)
    except ValueError as error:
        raise ValueError(
            f"{error}. It is a whole U-Net: encoder, filters and conventions of config.segmenter must be as in the "
            "config.json or metadata.json beside it"
        ) from error
    return unet._replace(preprocessing=unet.preprocessing._replace(image_size=config.image_size))


def _heads(config: configs.Segmenter | configs.Classifier) -> tuple[str, ...]:
    return ("head", config.pretrained_head) if config.pretrained_head else ("head",)


def _local_file(config: configs.Segmenter | configs.Classifier, name: str) -> pathlib.Path | None:
    path = locations.find(name) if name else None
    if path and (path / _METADATA).is_file():
        members = json.loads((path / _METADATA).read_text())[
            "classifiers" if isinstance(config, configs.Classifier) else "unets"
        ]
        path = path / members[0] if members else None
    return path if path and path.is_file() else None


def _field(config: configs.Segmenter | configs.Classifier) -> str:
    return f"config.{type(config).__name__.lower()}.pretrained"


def _check_published(config: configs.Segmenter | configs.Classifier) -> None:
    backbone = config.backbone if isinstance(config, configs.Classifier) else config.encoder
    theirs = published.PUBLISHED[config.pretrained]
    if (theirs.backbone, theirs.conventions) != (backbone, config.conventions):
        raise ValueError(
            f"{_field(config)} = {config.pretrained!r}: these weights are of {theirs.backbone!r}, conventions "
            f"{theirs.conventions!r}; the config asks for {backbone!r}, conventions {config.conventions!r}"
        )


def _preprocessing(config: configs.Segmenter | configs.Classifier, of_file: Preprocessing) -> Preprocessing:
    """Returns the preprocessing of the weights, by their publisher rather than the file, at the config's image size."""
    by_name = _local_file(config, config.pretrained) is None
    theirs = published.PUBLISHED[config.pretrained].preprocessing if by_name else of_file
    return theirs._replace(image_size=config.image_size)
