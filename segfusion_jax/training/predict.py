"""Running a compiled predict function over all of a source of examples, each counted once."""

import functools
import operator
from collections.abc import Callable, Iterator
from typing import Any

import jax

from segfusion_jax.config import Input
from segfusion_jax.input.examples import Batch, Source, evaluation_batches
from segfusion_jax.runtime.devices import Devices
from segfusion_jax.runtime.threads import work_ahead


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
      compiled: result of `Devices.compile_predict`.
      variables: its first argument, moved to the devices once.
      source: what to predict.
      batch_size: examples in a batch, over all devices.
      devices: where.
      config: how to read.
    """
    variables = devices.replicate(variables)
    processes = devices.num_processes
    batches = evaluation_batches(source, batch_size, config, process=devices.process, num_processes=processes)

    computed = work_ahead(functools.partial(compiled, variables), batches, threads=1, ahead=1)
    for number, outputs in enumerate(computed):
        rows = source.rows[number * batch_size : (number + 1) * batch_size]
        for offset, row in enumerate(rows):
            # Outputs are ordered by process, and process p read the examples p, p + processes, ...
            place = offset % processes * (batch_size // processes) + offset // processes
            yield row, jax.tree.map(operator.itemgetter(place), outputs)
