"""Running a compiled predict function over all of a source of examples, each counted once."""

import concurrent.futures
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

    def results(number: int, outputs: Any) -> Iterator[tuple[Any, Any]]:
        for offset in range(min(batch_size, len(source.rows) - number * batch_size)):
            # Outputs are ordered by process, and process p read the examples p, p + processes, ...
            place = offset % processes * (batch_size // processes) + offset // processes
            yield source.rows[number * batch_size + offset], jax.tree.map(lambda array: array[place], outputs)  # noqa: B023

    # A batch is computed while the caller works on the one before.
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as executor:
        waiting: list[tuple[int, concurrent.futures.Future]] = []
        for number, batch in enumerate(batches):
            waiting.append((number, executor.submit(compiled, variables, batch)))
            if number:
                before, future = waiting.pop(0)
                yield from results(before, future.result())
        for number, future in waiting:
            yield from results(number, future.result())
