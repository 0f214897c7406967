"""The depthwise convolutions of EfficientNet-B0, and what a peer is asked to time of them."""

import argparse
import time
from collections.abc import Callable

from serving import serve

LAYERS = (
    (112, 32, 3, 1),
    (112, 96, 3, 2),
    (56, 144, 3, 1),
    (56, 144, 5, 2),
    (28, 240, 5, 1),
    (28, 240, 3, 2),
    (14, 480, 3, 1),
    (14, 480, 5, 1),
    (14, 672, 5, 1),
    (14, 672, 5, 2),
    (7, 1152, 5, 1),
    (7, 1152, 3, 1),
)
"""Side of the input, channels, size of the kernel, stride, at 224x224."""
PASSES = ("forward", "input gradient", "kernel gradient")


def batch() -> int:
    """Returns the number of images from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, required=True)
    return parser.parse_args().batch


def serve_passes(prepare: Callable[[tuple, str], Callable[[int], None]]) -> None:
    """Answers "LAYER PASS" with seconds; `prepare` makes what runs one a number of times."""
    ready: dict[tuple[int, int], Callable[[int], None]] = {}

    def answer(line: str) -> dict:
        layer, which = map(int, line.split())
        if (layer, which) not in ready:
            ready[layer, which] = prepare(LAYERS[layer], PASSES[which])
            ready[layer, which](3)
        start = time.perf_counter()
        ready[layer, which](5)
        return {"seconds": (time.perf_counter() - start) / 5}

    serve(answer, {})
