"""How far our networks are from their peers, which are given the same weights and the same images."""

import pathlib
import tempfile
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
import safetensors.numpy
from flax import nnx

from segfusion_jax.models.functional import Functional
from segfusion_jax.models.pretrained import flatten
from segfusion_jax.models.unet import UNet
from tests.models.drawn import images
from tests.models.filled import filled
from tests.parity.networks import NETWORKS, Outputs, run

Array = jax.Array | np.ndarray

EVEN, ODD = (4, 64, 64, 3), (2, 65, 97, 3)
IMAGENET_SIZE = (1, 224, 224, 3)
INFERENCE_ONLY = ("timm tf_efficientnet_b2", "torchvision efficientnet_b5")


class Errors(NamedTuple):
    """Relative errors of our network, each the largest of its kind; None where it was not compared.

    Attributes:
      stages: of the stem's, a block's or the last features, in inference.
      logits: in inference.
      train_logits: of a batch in training, without dropout and stochastic depth.
      statistics: of the running means and variances after that batch.
    """

    stages: float | None
    logits: float
    train_logits: float | None
    statistics: float | None


def relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference, in units of the largest absolute value of `theirs`."""
    if ours.shape != theirs.shape:
        raise ValueError(f"ours has shape {ours.shape}, theirs {theirs.shape}")
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def stages_error(ours: Outputs, theirs: Outputs) -> float:
    """The largest error of a stage or the features."""
    pairs = zip([*ours.stages, ours.features], [*theirs.stages, theirs.features], strict=True)
    return max(relative_error(*pair) for pair in pairs)


def make_peer(name: str):
    """The peer of `networks.NETWORKS[name]`; its framework is imported here."""
    framework, network = name.split()
    gain = NETWORKS[name].gain
    if framework == "keras":
        from tests.parity.keras_peers import KerasPeer

        return KerasPeer(network, gain)
    from tests.parity.torch_peers import timm_peer, torchvision_peer

    return timm_peer(network, gain) if framework == "timm" else torchvision_peer(network, gain)


def compare(name: str) -> tuple[str, Errors]:
    """The peer's version, and our errors: in inference the larger of two image sizes', one of them odd."""
    peer, network = make_peer(name), NETWORKS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = peer.save(pathlib.Path(folder))
        model = network.load(path)
        errors = [_inference(model, peer, shape) for shape in (EVEN, ODD)]
        stages, logits = (max(pair) for pair in zip(*errors, strict=True))
        if name in INFERENCE_ONLY:
            return peer.version, Errors(stages, logits, None, None)
        ours, new_stats = run(model, images(*EVEN), train=True)
        theirs, arrays = peer.run(images(*EVEN), train=True)
        path = path.with_name("after.safetensors")
        safetensors.numpy.save_file(arrays, path)
        their_stats = network.load(path).batch_stats
    train_logits = relative_error(ours.logits, theirs.logits)
    statistics = _statistics_error(flatten(new_stats), flatten(their_stats))
    return peer.version, Errors(stages, logits, train_logits, statistics)


def compare_imagenet() -> tuple[str, Errors]:
    """Keras' `EfficientNetB0(weights="imagenet")`, its download replaced by a drawn file normalised as the released."""
    from tests.parity.keras_peers import PUBLISHED_NORMALISATION, KerasPeer

    network, gain = NETWORKS["keras EfficientNetB0"], NETWORKS["timm efficientnet_b0"].gain  # whose images are alike
    peer = KerasPeer("EfficientNetB0", gain, PUBLISHED_NORMALISATION)
    with tempfile.TemporaryDirectory() as folder:
        model = network.load(peer.save(pathlib.Path(folder)))
        theirs = peer.run_imagenet(images(*IMAGENET_SIZE), pathlib.Path(folder))
    ours, _ = run(model, images(*IMAGENET_SIZE), train=False)
    return peer.version, Errors(stages_error(ours, theirs), relative_error(ours.logits, theirs.logits), None, None)


def compare_unet() -> tuple[str, Errors]:
    """The paper's U-Net of Keras' layers, our weights copied over."""
    from tests.parity.keras_peers import KerasUNet

    unet = filled(lambda: UNet(filters=8, rngs=nnx.Rngs(0)))
    peer, apply = (
        KerasUNet(8, flatten(unet.params) | flatten(unet.batch_stats)),
        jax.jit(unet.apply, static_argnames="train"),
    )
    logits = max(
        relative_error(
            np.asarray(apply(unet.params, unet.batch_stats, images(*shape), train=False)[0]),
            peer.run(images(*shape), train=False)[0],
        )
        for shape in (EVEN, ODD)
    )
    ours, new_stats = apply(unet.params, unet.batch_stats, images(*EVEN), train=True)
    theirs, their_stats = peer.run(images(*EVEN), train=True)
    train_logits = relative_error(np.asarray(ours), theirs)
    return peer.version, Errors(None, logits, train_logits, _statistics_error(flatten(new_stats), their_stats))


def _inference(model: Functional, peer, shape: tuple[int, ...]) -> tuple[float, float]:
    ours, _ = run(model, images(*shape), train=False)
    theirs, _ = peer.run(images(*shape), train=False)
    return stages_error(ours, theirs), relative_error(ours.logits, theirs.logits)


def _statistics_error(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> float:
    if ours.keys() != theirs.keys():
        raise ValueError(f"only one of us has {ours.keys() ^ theirs.keys()}")
    return max(relative_error(np.asarray(ours[name]), np.asarray(theirs[name])) for name in ours)
