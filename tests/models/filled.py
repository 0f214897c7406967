"""Models whose arrays are drawn by NumPy: nothing is compiled, and batch-norm statistics are far from (0, 1)."""

from collections.abc import Callable

import jax
import numpy as np
from flax import nnx

from segfusion_jax.models.functional import Functional, functional


def filled(make_module: Callable[[], nnx.Module], seed: int = 0) -> Functional:
    """The module that `make_module` builds, redrawn."""
    return redrawn(functional(nnx.eval_shape(make_module)), seed)


def redrawn(model: Functional, seed: int = 0) -> Functional:
    """The model with kernels of unit gain, small biases and positive variances."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        if path[-1].key == "kernel":
            fan_in = np.prod(leaf.shape[:2] if leaf.ndim == 3 else leaf.shape[:-1])  # 3 axes: depthwise
            array = rng.normal(size=leaf.shape) * np.sqrt(2 / fan_in)
        elif path[-1].key in ("scale", "var"):
            array = rng.uniform(0.5, 1.5, leaf.shape)
        else:
            array = rng.normal(size=leaf.shape) * 0.3
        return array.astype(leaf.dtype)

    trees = model.params, model.batch_stats
    params, batch_stats = (jax.tree_util.tree_map_with_path(draw, tree) for tree in trees)
    return model._replace(params=params, batch_stats=batch_stats)


def count(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
