"""Pictures of which one is the middle of the other, as collections cut them: the centre square, or about two thirds.

A hash of the whole frame knows neither: such a cut is about 100 bits away. Compared are hashes of a picture's possible
cuts with those of the frames of all others.
"""

from collections.abc import Sequence

import numpy as np

from segfusion_jax.datasets.hashes import NUM_CUTS
from segfusion_jax.datasets.near_duplicates import close_pairs


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
