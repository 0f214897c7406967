"""Pictures that are one photograph: re-encoded, resized, squashed, brightened, slightly cropped, turned or mirrored.

A mirror image has the signs of odd frequencies of its hash reversed, a transposed one has rows and columns exchanged:
all eight orientations are compared by means of one hash each.
"""

import concurrent.futures
import os
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.sparse.csgraph import minimum_spanning_tree

from segfusion_jax.datasets.components import components, graph
from segfusion_jax.datasets.hashes import packed

# Of 255 bits, in the best of eight orientations. Of the 84 million pairs of pictures of different lesions in HAM10000,
# ISIC 2017 and 800 images of ISIC 2020, 16 are within 64, all of them one lesion after all; the closest that are not
# are 68 apart. Copies: docs/data.md.
THRESHOLD = 64

_ROWS, _COLUMNS = 32, 4096  # of a block of pairs, which then stays in the processor's cache
_AT_ONCE = 16  # blocks of rows whose pairs are in memory at a time
_PENDING = 1_000_000  # pairs that are collected before those that connect nothing new are dropped


def near_duplicates(hashes: Sequence[bytes]) -> list[tuple[int, int]]:
    """Returns pairs of pictures within THRESHOLD bits in some orientation: enough of them to connect each cluster.

    Compares every picture with every other one, so nothing is missed. Time grows with the square of the number of
    different hashes, memory with their number.

    Args:
      hashes: results of `perceptual_hash`, one for each picture.

    Returns:
      At most n - 1 pairs (i, j) of indices, i < j, in order. Two pictures are connected by them if and only if they
      are by all pairs within THRESHOLD.

    Raises:
      ValueError: a hash is not 32 bytes long.
    """
    lengths = {len(value) for value in hashes} - {32}
    if lengths:
        raise ValueError(f"hashes of {sorted(lengths)} bytes; accepted: 32, as perceptual_hash makes them")
    values, first, which = np.unique(np.array(hashes, "V32"), return_index=True, return_inverse=True)
    copies = np.flatnonzero(first[which] != np.arange(len(hashes)))
    different = first[_spanning_forest(np.frombuffer(values.tobytes(), np.uint64).reshape(-1, 4))]
    pairs = np.concatenate([different, np.stack([first[which[copies]], copies], axis=1)])
    return sorted((int(a), int(b)) for a, b in np.sort(pairs, axis=1))


def _transposed(words: np.ndarray) -> np.ndarray:
    """Returns the words [n, 4] of pictures whose rows and columns are exchanged."""
    signs = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=1).reshape(-1, 2, 2, 8, 8)
    return packed(signs.transpose(0, 2, 1, 4, 3))


def _spanning_forest(words: np.ndarray) -> np.ndarray:
    """Returns the edges [k, 2] that connect what near duplicates connect among n different hashes, [n, 4] uint64."""
    component = np.arange(len(words))
    edges = [np.empty((0, 2), np.int64)]
    for close in close_pairs(words):
        edges.append(close[component[close[:, 0]] != component[close[:, 1]]])
        if sum(map(len, edges[1:])) > _PENDING:
            edges = [_forest(np.concatenate(edges), len(words))]
            component = components(edges[0], len(words))
    return _forest(np.concatenate(edges), len(words))


def _forest(edges: np.ndarray, n: int) -> np.ndarray:
    tree = minimum_spanning_tree(graph(edges, n)).tocoo()
    return np.stack([tree.row, tree.col], axis=1)


def close_pairs(words: np.ndarray, others: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Yields all pairs [k, 2] within THRESHOLD in some orientation, those of a few thousand rows at a time.

    Args:
      words: hashes, [n, 4] uint64.
      others: those that they are compared with, so that pairs are of a row of `words` and one of `others`; None: with
        each other, i < j.
    """
    ours = np.ascontiguousarray(words.T)
    theirs = words if others is None else others
    turned = _transposed(theirs)
    columns, turned_columns = np.ascontiguousarray(theirs.T), np.ascontiguousarray(turned.T)

    def of_rows(start: int) -> np.ndarray:
        rows = ours[:, start : start + _ROWS]
        found = []
        for left in range(start if others is None else 0, len(theirs), _COLUMNS):
            block = slice(left, left + _COLUMNS)
            close = _maybe_close(rows, columns[:, block]) | _maybe_close(rows, turned_columns[:, block])
            i, j = np.divmod(np.flatnonzero(close), close.shape[1])  # np.nonzero takes as long as all the rest
            found.append((start + i, left + j))
        i, j = np.concatenate(found, axis=1)
        if others is None:
            i, j = i[i < j], j[i < j]
        distance = np.minimum(_distance(words[i], theirs[j]), _distance(words[i], turned[j]))
        return np.stack([i, j], axis=1)[distance <= THRESHOLD]

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        starts = range(0, len(words), _ROWS)
        for k in range(0, len(starts), _AT_ONCE):
            yield from pool.map(of_rows, starts[k : k + _AT_ONCE])


def _maybe_close(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Returns which pairs of words [4, r] and [4, c], mirrored as fits best, could be within THRESHOLD: [r, c]."""
    total = np.bitwise_count(rows[0][:, None] ^ columns[0])
    for row, column in zip(rows[1:], columns[1:], strict=True):
        differing = np.bitwise_count(row[:, None] ^ column)
        total += np.minimum(differing, 64 - differing)
    return total <= THRESHOLD


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Counts the bits [k] in which words [k, 4] differ, in the best of four mirrorings of `b`.

    Frequencies odd across change sign left to right, those odd down upside down, those odd both ways with either.
    """
    both_even, across, down, both = np.bitwise_count(a ^ b).astype(np.int64).T
    mirrored = [
        across + down + both,
        (64 - across) + down + (64 - both),
        across + (64 - down) + (64 - both),
        (64 - across) + (64 - down) + both,
    ]
    return both_even + np.min(mirrored, axis=0)
