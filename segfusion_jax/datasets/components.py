"""What pairs connect: of relatives, one after the other, a group becomes."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components


def components(pairs: Sequence[tuple[int, int]] | np.ndarray, total: int) -> np.ndarray:
    """Returns the number of the connected component of each of `total` things, int [total].

    Args:
      pairs: [k, 2], each of two that belong together.
      total: how many things there are.

    >>> components([(0, 2)], 4).tolist()
    [0, 1, 0, 2]
    """
    return connected_components(graph(pairs, total), directed=False)[1]


def graph(pairs: Sequence[tuple[int, int]] | np.ndarray, total: int) -> csr_array:
    """Returns the graph of some pairs, [total, total], each edge of weight 1."""
    ends = np.array(pairs, np.int64).reshape(-1, 2)
    return coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(total, total)).tocsr()
