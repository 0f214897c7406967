"""What training carries from step to step."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from segfusion_jax.models.functional import Variables


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """A pytree of arrays, nothing else.

    Attributes:
      step: int32 number of steps so far.
      skipped: int32 number of them that changed nothing, see `make_train_step`.
      params: parameters, float32.
      batch_stats: batch-norm statistics, float32.
      opt_state: state of the Optax optimiser.
      average: exponential moving average of params and batch_stats; () without one.
    """

    step: jax.Array
    skipped: jax.Array
    params: Variables
    batch_stats: Variables
    opt_state: Any
    average: Any

    @property
    def evaluated(self) -> tuple[Variables, Variables]:
        """The params and batch_stats to evaluate and release."""
        return self.average if self.average else (self.params, self.batch_stats)


def create_state(
    params: Variables, batch_stats: Variables, optimizer: optax.GradientTransformation, *, ema_decay: float
) -> TrainState:
    """Returns the state before the first step."""
    average = jax.tree.map(jnp.copy, (params, batch_stats)) if ema_decay else ()
    return TrainState(
        jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params), average
    )
