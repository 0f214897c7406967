"""Training on examples that lie on the devices: many steps a call, of which the host sends only what to draw."""

import functools
from collections.abc import Callable

from segfusion_jax.config import Input
from segfusion_jax.input.loader import STEPS_PER_BLOCK, TrainStream, decode_all
from segfusion_jax.runtime.devices import Devices
from segfusion_jax.training.steps import make_on_device_step


def compile_step(step: Callable, devices: Devices, *, on_device: bool) -> Callable:
    """Compiles a train step for the batches of a stream; for an on-device stream, what `with_examples` takes."""
    if on_device:
        return devices.compile_train_steps(make_on_device_step(step), STEPS_PER_BLOCK)
    return devices.compile_train_step(step)


def with_examples(
    compiled: Callable, stream: TrainStream, devices: Devices, config: Input, *, length: int = 0
) -> Callable:
    """Returns the train step `(state, batch) -> (state, metrics)` for the batches of `stream`.

    Args:
      compiled: result of `compile_step`.
      stream: if `on_device`, its examples are decoded and put on every device.
      devices: where.
      config: how to read.
      length: number that the examples are padded to, so that several trainings share one program.
    """
    if not stream.on_device:
        return compiled
    return functools.partial(compiled, devices.replicate(decode_all(stream.examples, config, length=length)))
