"""What is trained: one network on one stream of batches, chosen by one metric."""

import dataclasses
import pathlib
from collections.abc import Callable

import jax

from segfusion_jax.input.loader import TrainStream
from segfusion_jax.models.functional import Variables
from segfusion_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Task:
    """One training.

    Attributes:
      name: begins its lines of progress and its errors.
      folder: holds its checkpoints and metrics.
      train_step: `(state, batch) -> (state, metrics)`, compiled for the batches of `stream`; metrics are of one step or
        [steps].
      stream: gives the training batches.
      validate: params and batch_stats to metrics on validation data, `loss` among them; called after every epoch.
      best_metric: the metric of `validate` that chooses the weights, see `choice.rank`.
      epochs: how many.
      steps_per_epoch: how long one is.
      metric_logger: of the config.
    """

    name: str
    folder: pathlib.Path
    train_step: Callable[[TrainState, dict], tuple[TrainState, dict[str, jax.Array]]]
    stream: TrainStream
    validate: Callable[[Variables, Variables], dict[str, float]]
    best_metric: str
    epochs: int
    steps_per_epoch: int
    metric_logger: str = ""

    @property
    def steps(self) -> int:
        """How many steps all epochs have."""
        return self.epochs * self.steps_per_epoch
