"""Pictures of which one is the middle of the other, as collections cut them: the centre square, or about two thirds.

A hash of the whole frame knows neither: such a cut is about 100 bits away. Compared are hashes of a picture's possible
cuts with those of the frames of all others.
"""

from collections.abc import Sequence

import numpy as np

from segfusion_jax.datasets.near_duplicates import close_pairs, perceptual_hash

_SQUARES = ((0.0, 0.0, 1.0), (-0.03, 0.0, 1.0), (0.03, 0.0, 1.0), (0.0, -0.025, 0.95), (0.0, 0.025, 0.95))
"""Squares about the centre: shift to the right and down, and side, as fractions of the shorter side of the frame."""
_MIDDLES = (0.62, 0.67, 0.72)
"""Fractions of both sides of the frame that are left."""

NUM_CUTS = len(_SQUARES) + len(_MIDDLES)


def cut_hashes(image: np.ndarray) -> bytes:
    """Returns the `perceptual_hash` of each possible cut of a picture, [height, width, 3] uint8 RGB: 32 bytes each."""
    height, width = image.shape[:2]
    side = min(height, width)
    cuts = [_cut(image, right * side, down * side, (share * side, share * side)) for right, down, share in _SQUARES]
    cuts += [_cut(image, 0, 0, (share * height, share * width)) for share in _MIDDLES]
    return b"".join(map(perceptual_hash, cuts))


def cut_pairs(frames: Sequence[bytes], cuts: Sequence[bytes]) -> list[tuple[int, int]]:
    """Returns pairs of pictures (i, j), i < j, of which one looks like a cut of the other; every one is compared.

    Args:
      frames: a `perceptual_hash` of each picture.
      cuts: the `cut_hashes` of each picture.
    """
    if not frames:
        return []
    words = np.frombuffer(b"".join(frames), np.uint64).reshape(-1, 4)
    of_cuts = np.frombuffer(b"".join(cuts), np.uint64).reshape(-1, 4)
    found = [pairs // [NUM_CUTS, 1] for pairs in close_pairs(of_cuts, words)]
    pairs = np.sort(np.concatenate([np.empty((0, 2), np.int64), *found]), axis=1)
    different = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)
    return [(int(i), int(j)) for i, j in different]


def _cut(image: np.ndarray, right: float, down: float, size: tuple[float, float]) -> np.ndarray:
    """Returns what is `size`, (height, width), of a picture around its centre, moved by pixels as far as there are."""
    (height, width), (tall, wide) = image.shape[:2], (max(1, round(side)) for side in size)
    top = round(min(max((height - tall) / 2 + down, 0), height - tall))
    left = round(min(max((width - wide) / 2 + right, 0), width - wide))
    return np.ascontiguousarray(image[top : top + tall, left : left + wide])
