"""Writes what the peers compute, `python -m tests.parity.goldens`, for tests that run without them."""

import json
import pathlib

import numpy as np

from tests.models.drawn import images
from tests.parity.comparison import make_peer
from tests.parity.networks import Outputs

PATH = pathlib.Path(__file__).parents[1] / "models" / "goldens.json"
IMAGES = images(2, 48, 33)
PEERS = (
    "keras EfficientNetB0",
    "keras MobileNetV3Small",
    "keras MobileNetV3Large",
    "timm efficientnet_b0",
    "timm tf_efficientnet_b0",
    "torchvision efficientnet_b0",
    "torchvision mobilenet_v3_small",
)


def summarise(outputs: Outputs) -> dict[str, list]:
    """A few numbers that say whether the rest is right.

    Returns:
      stages: of each stage and the features the mean absolute value and one value in the middle.
      logits: ten of each image.
    """
    stages = [[np.abs(x).mean(), x.ravel()[x.size // 2 + 1]] for x in [*outputs.stages, outputs.features]]
    return {"stages": _rounded(stages), "logits": _rounded(outputs.logits[:, ::100])}


def read_shapes(golden: dict) -> dict[str, tuple[int, ...]]:
    """Shapes of the peer's arrays by their names."""
    return {name: tuple(map(int, shape.split())) for shape, names in golden["arrays"].items() for name in names}


def _golden(name: str) -> dict:
    peer = make_peer(name)
    arrays: dict[str, list[str]] = {}
    for array, shape in peer.shapes.items():
        arrays.setdefault(" ".join(map(str, shape)), []).append(array)
    return {"version": peer.version, "arrays": arrays} | summarise(peer.run(IMAGES, train=False)[0])


def _rounded(values) -> list:
    return [[float(f"{value:.7g}") for value in row] for row in values]


if __name__ == "__main__":
    PATH.write_text(json.dumps({name: _golden(name) for name in PEERS}, separators=(",", ":")) + "\n")
