"""The training loop: steps, checkpoints, validation; and going on where a stopped run was."""

import contextlib
import itertools
from collections.abc import Generator, Iterator

from segfusion_jax.config import Checkpointing, Input
from segfusion_jax.models.functional import Variables
from segfusion_jax.runtime import interruption
from segfusion_jax.runtime.devices import Devices
from segfusion_jax.training.checkpoint import Checkpoints
from segfusion_jax.training.guard import Guard
from segfusion_jax.training.history import History
from segfusion_jax.training.saving import Saving
from segfusion_jax.training.state import TrainState
from segfusion_jax.training.task import Task


def fit(
    task: Task, state: TrainState, devices: Devices, config: Input, checkpointing: Checkpointing
) -> tuple[Variables, Variables]:
    """Trains to the end, from the newest checkpoint of `task.folder` where there is one.

    A checkpoint is written at every epoch's end, before the validation, and now and then between. A training that goes
    on from an epoch's end starts with that validation.

    Returns:
      The params and batch_stats with the best validation metric, on the host.

    Raises:
      FloatingPointError: a loss or gradient is not finite; names the step, the images and the last good checkpoint.
      ValueError: the checkpoint was written by another model or for other images.
      OSError: a checkpoint cannot be written.
      interruption.Stopped: the process was asked to stop; the training is saved.
    """
    with contextlib.ExitStack() as opened:
        checkpoints = Checkpoints(task.folder / "checkpoints", devices, keep=checkpointing.keep)
        opened.callback(checkpoints.close)
        saving = Saving(task, devices, checkpoints, checkpointing.seconds)
        state = saving.restore(devices.replicate(state))
        guard = Guard(task, int(state.skipped), checkpoints.latest_step)
        history = History(task, state, guard, devices, seconds=config.log_seconds)
        opened.callback(history.close)
        epochs = opened.enter_context(contextlib.closing(_epochs(task, int(state.step), devices, config)))
        for epoch, batches in epochs:
            with interruption.deferred() as asked:
                for batch in batches:
                    state, metrics = task.train_step(state, batch)
                    history.add(metrics)
                    if saving.is_due(asked()):
                        saving.save(state, history)
                        saving.stop_if(asked())
                    elif history.is_due():
                        history.write()
                saving.save(state, history)
                saving.stop_if(asked())
            scores = task.validate(*state.evaluated)
            history.write_validation(epoch, scores)
            saving.keep_if_best(state, scores)
        return saving.best


def _epochs(
    task: Task, step: int, devices: Devices, config: Input
) -> Generator[tuple[int, Iterator[dict]], None, None]:
    """Yields each epoch that is not validated after `step` steps, and its batches from there on.

    All are read in one go, so that worker processes start once.
    """
    share: dict[str, int] = dict(process=devices.process, num_processes=devices.num_processes)
    with contextlib.ExitStack() as opened:

        def read(start: int, stop: int) -> Iterator[dict]:
            if start == stop:
                return iter(())
            return opened.enter_context(contextlib.closing(task.stream.batches(start, stop, config, **share)))

        # an on-device stream's blocks of steps end with an epoch
        everything = None if task.stream.on_device else read(step, task.steps)
        for epoch in range(max(step - 1, 0) // task.steps_per_epoch, task.epochs):
            stop = (epoch + 1) * task.steps_per_epoch
            yield epoch, read(step, stop) if everything is None else itertools.islice(everything, stop - step)
            step = stop
