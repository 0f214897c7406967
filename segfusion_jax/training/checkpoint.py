"""Checkpoints: the train state and the input's position, saved together. The only module that knows Orbax."""

import pathlib
from typing import Any

import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from segfusion_jax.training.state import TrainState


class Checkpoints:
    """Of one training: the newest, to go on from, and the best on validation data.

    Args:
      folder: created when missing.
      best_metric: name of the validation metric whose largest value marks the best.
    """

    def __init__(self, folder: pathlib.Path, *, best_metric: str):
        policies = [
            checkpoint_managers.LatestN(1),
            checkpoint_managers.BestN(get_metric_fn=lambda metrics: metrics[best_metric], n=1),
        ]
        self._manager = ocp.CheckpointManager(
            folder.absolute(),
            options=ocp.CheckpointManagerOptions(
                best_fn=lambda metrics: metrics[best_metric],
                preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
            ),
        )

    def latest_step(self) -> int | None:
        """Of the newest checkpoint; None before the first."""
        return self._manager.latest_step()

    def save(self, state: TrainState, position: dict[str, Any], metrics: dict[str, float]) -> None:
        """Starts writing, in the background, the state after `int(state.step)` steps."""
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), position=ocp.args.JsonSave(position))
        self._manager.save(int(state.step), args=args, metrics=metrics, force=True)

    def restore_latest(self, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The newest state, with the shapes and shardings of `like`, and the input's position.

        Raises:
          ValueError: an array is missing, superfluous or of another shape.
        """
        args = ocp.args.Composite(state=ocp.args.StandardRestore(like), position=ocp.args.JsonRestore())
        restored = self._manager.restore(self.latest_step(), args=args)
        return restored["state"], restored["position"]

    def restore_best(self, like: TrainState) -> TrainState:
        """The state with the best validation metric."""
        args = ocp.args.Composite(state=ocp.args.StandardRestore(like))
        return self._manager.restore(self._manager.best_step(), args=args)["state"]

    def close(self) -> None:
        """Waits until everything is written."""
        self._manager.close()
