"""The pure boundary around a Flax NNX module: nested dicts of arrays in, nested dicts of arrays out."""

from collections.abc import Callable
from typing import Any, NamedTuple

from flax import nnx

from segfusion_jax.models.preprocessing import IMAGENET, Preprocessing

Variables = dict[Any, Any]
"""Nested dict of arrays."""


class Functional(NamedTuple):
    """A module as a pure function, its arrays, and what they expect.

    Attributes:
      apply: `apply(params, batch_stats, *args, method="__call__", **kwargs)` calls the module's method on those arrays
        and returns its output and the new batch-norm statistics.
      params: parameters, float32.
      batch_stats: batch-norm statistics, float32.
      preprocessing: what is done to images in [0, 1] before `apply` gets them.
      conventions: name of the `layers.Conventions` that the module computes by; "" where there are none.
    """

    apply: Callable[..., tuple[Any, Variables]]
    params: Variables
    batch_stats: Variables
    preprocessing: Preprocessing
    conventions: str = ""


def functional(module: nnx.Module, preprocessing: Preprocessing = IMAGENET) -> Functional:
    """Splits a module once, so that steps carry plain dicts and never traverse its object graph.

    >>> import jax.numpy as jnp
    >>> model = functional(nnx.Linear(3, 1, rngs=nnx.Rngs(0)))
    >>> output, batch_stats = model.apply(model.params, model.batch_stats, jnp.zeros((2, 3)))
    >>> output.shape, batch_stats
    ((2, 1), {})
    """
    graph, params, batch_stats = nnx.split(module, nnx.Param, nnx.BatchStat)

    def apply(params: Variables, batch_stats: Variables, *args, method: str = "__call__", **kwargs):
        merged = nnx.merge(graph, params, batch_stats, copy=True)
        output = getattr(merged, method)(*args, **kwargs)
        return output, nnx.to_pure_dict(nnx.state(merged, nnx.BatchStat))

    conventions = getattr(module, "conventions", "")
    return Functional(apply, nnx.to_pure_dict(params), nnx.to_pure_dict(batch_stats), preprocessing, conventions)
