"""Arrays of a weight file that depend on nothing but its names and shapes, so that they can be drawn again anywhere."""

import math
import re
import zlib
from collections.abc import Mapping

import numpy as np

Shape = tuple[int, ...]


def draw(shapes: Mapping[str, Shape], gain: float) -> dict[str, np.ndarray]:
    """Kernels of variance gain / fan-in, batch-norm statistics far from (0, 1), biases.

    Args:
      shapes: of the arrays by their names in Keras, timm or torchvision.
      gain: just so large, near 2, that an image still shows in the logits, and values do not grow without bounds.
    """
    return {name: _draw(name, shape, gain) for name, shape in shapes.items()}


def images(batch: int, height: int, width: int, channels: int = 3) -> np.ndarray:
    """Float32 in [0, 1]: for each image 4x4 patches of a random colour, and noise, so that no mean is like another."""
    rng = np.random.default_rng(zlib.crc32(repr((batch, height, width, channels)).encode()))
    colours = rng.random((batch, 4, 4, channels)) ** 2
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
    patches = colours[:, rows][:, :, columns]
    return (0.7 * patches + 0.3 * rng.random(patches.shape)).astype(np.float32)


def _draw(name: str, shape: Shape, gain: float) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    kind = re.split(r"[./]", name)[-1]
    if kind in ("num_batches_tracked", "count"):
        return np.ones(shape, np.int32)
    if len(shape) > 1:
        array = rng.standard_normal(shape) * math.sqrt(gain / _fan_in(shape, kind))
    elif kind in ("gamma", "weight", "moving_variance", "running_var", "variance"):
        array = rng.uniform(0.5, 1.5, shape)
    else:
        array = rng.standard_normal(shape) * 0.2
    return array.astype(np.float32)


def _fan_in(shape: Shape, kind: str) -> int:
    """Torch's kernels are [out, in, height, width], Keras' [height, width, in, out], its depthwise ones' 'out' is 1."""
    if kind == "weight":
        return math.prod(shape[1:])
    return math.prod(shape[:2]) if len(shape) == 4 and shape[3] == 1 else math.prod(shape[:-1])
