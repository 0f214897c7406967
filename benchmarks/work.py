"""How much a network must do: operations, and the fewest bytes, counted layer by layer.

Operations are those of the convolutions, a multiplication and an addition each. Bytes are what is left where everything
between two convolutions is free: each convolution reads its input and writes its output once. A training step convolves
three times: for the output, for the gradient of the input and for that of the kernel.
"""

from collections.abc import Iterator
from typing import NamedTuple

from segfusion_jax.models import efficientnet
from segfusion_jax.models.unet import NUM_LEVELS


class Work(NamedTuple):
    """Of one image."""

    operations: float
    bytes: float


class Layer(NamedTuple):
    """One convolution: multiplications of an image, values read and values written."""

    products: int
    read: int
    written: int


def efficientnet_b0(height: int, width: int) -> Iterator[Layer]:
    """Yields B0's convolutions without squeeze-and-excite, which works on 1x1 maps."""
    plan = efficientnet.plan("efficientnet_b0")
    pixels, channels = _half(height) * _half(width), plan.stem
    height, width = _half(height), _half(width)
    yield Layer(pixels * 27 * channels, 4 * pixels * 3, pixels * channels)
    for block in plan.blocks:
        before = height * width
        if block.expanded != channels:
            yield _pointwise(before, channels, block.expanded)
        if block.stride == 2:
            height, width = _half(height), _half(width)
        pixels = height * width
        yield Layer(pixels * block.size**2 * block.expanded, before * block.expanded, pixels * block.expanded)
        yield _pointwise(pixels, block.expanded, block.filters)
        channels = block.filters
    yield _pointwise(pixels, channels, plan.top)


def unet(height: int, width: int, filters: int = 16) -> Iterator[Layer]:
    """Yields the convolutions of the paper's U-Net."""
    channels = 3
    for level in range(NUM_LEVELS + 1):
        pixels, deep = (height >> level) * (width >> level), filters << level
        yield from (_conv(pixels, channels, deep), _conv(pixels, deep, deep))
        channels = deep
    for level in reversed(range(NUM_LEVELS)):
        pixels, deep = (height >> level) * (width >> level), filters << level
        yield Layer(pixels // 4 * 9 * 2 * deep * deep, pixels // 4 * 2 * deep, pixels * deep)
        yield from (_conv(pixels, 2 * deep, deep), _conv(pixels, deep, deep))
    yield _pointwise(height * width, filters, 1)


def work(network: str, height: int, width: int, *, train: bool, bytes_per_value: int) -> Work:
    """Counts the work of one image in a training or a prediction step."""
    layers = list({"efficientnet_b0": efficientnet_b0, "unet": unet}[network](height, width))
    passes = 3 if train else 1
    values = sum(layer.read + layer.written for layer in layers)
    return Work(passes * 2 * sum(layer.products for layer in layers), passes * bytes_per_value * values)


def _half(side):
    return -(-side // 2)


def _pointwise(pixels, channels, filters):
    return Layer(pixels * channels * filters, pixels * channels, pixels * filters)


def _conv(pixels, channels, filters):
    return Layer(pixels * 9 * channels * filters, pixels * channels, pixels * filters)
