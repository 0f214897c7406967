"""Running a compiled predict function over all of a source of examples, each counted once."""

from collections.abc import Callable, Iterator
from typing import Any

import jax

from segfusion_jax.config import Input
from segfusion_jax.input.loader import Batch, Source, evaluation_batches
from segfusion_jax.parallel import Devices


def predict(
    compiled: Callable[[Any, Batch], Any],
    variables: Any,
    source: Source,
    *,
    batch_size: int,
    devices: Devices,
    config: Input,
) -> Iterator[tuple[Any, Any]]:
    """Yields each example's row and outputs, in the order of the source.

    Args:
      compiled: from `Devices.compile_predict`.
      variables: its first argument, moved to the devices once.
      source: what to predict.
      batch_size: over all devices.
      devices: where.
      config: how to read.
    """
    variables = devices.replicate(variables)
    processes = devices.num_processes
    batches = evaluation_batches(source, batch_size, config, process=devices.process, num_processes=processes)
    for number, batch in enumerate(batches):
        outputs = compiled(variables, batch)
        for offset in range(min(batch_size, len(source.rows) - number * batch_size)):
            # Outputs are ordered by process, and process p read the examples p, p + processes, ...
            place = offset % processes * (batch_size // processes) + offset // processes
            yield source.rows[number * batch_size + offset], jax.tree.map(lambda array: array[place], outputs)  # noqa: B023
