"""What a train step allocates and how long it takes: as it is, with `remat`, and in microbatches.

    taskset -c 1 python benchmarks/memory.py

Bytes are those that XLA allocates for the step beside its arguments and results. Rounds go in turn through the ways.
The native kernels are off where no C++ compiler is found: `PATH= /usr/bin/taskset -c 1 /path/to/python ...`.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import PartitionSpec as P
from side_by_side import table

from segfusion_jax.config import Bridge, Classifier, Parallel, Segmenter
from segfusion_jax.models.from_config import make_classifier, make_unet
from segfusion_jax.runtime.devices import AXIS, Devices, keep_memory, make_devices
from segfusion_jax.training import steps
from segfusion_jax.training.state import TrainState, create_state

BATCH = {"efficientnet_b0": 16, "unet": 8}
WAYS = {
    "as it is": (False, 1),
    "remat": (True, 1),
    "4 microbatches": (False, 4),
    "remat, 4 microbatches": (True, 4),
}


def make_step(network: str, devices: Devices, *, remat: bool, microbatches: int) -> tuple[Callable, TrainState]:
    """Makes the train step and its first state."""
    common: dict[str, Any] = dict(seed=0, dtype=devices.compute_dtype("auto"), axis_name=AXIS, remat=remat)
    if network == "unet":
        model = make_unet(Segmenter(), **common)
        objective = steps.segmentation_objective(model, Segmenter())
    else:
        bridge = Bridge(mode="none")
        model = make_classifier(Classifier(), bridge, **common)
        objective = steps.classification_objective(
            model, bridge, Classifier(), class_weights=(1.0, 1.0), head_only=False
        )
    optimizer = optax.adam(1e-3)
    step = steps.make_train_step(objective, optimizer, seed=0, ema_decay=0, microbatches=microbatches)
    return step, create_state(model.params, model.batch_stats, optimizer, ema_decay=0)


def compile_step(step: Callable, state: Any, batch: Any, devices: Devices) -> jax.stages.Compiled:
    """Compiles a step as `Devices.compile_train_step` does."""
    mapped = jax.shard_map(step, mesh=devices.mesh, in_specs=(P(), P(AXIS)), out_specs=(P(), P()), check_vma=False)
    return jax.jit(mapped, donate_argnums=0, compiler_options=devices.compiler_options).lower(state, batch).compile()


def draw_batch(size: tuple[int, int], number: int) -> dict[str, np.ndarray]:
    """Draws a batch of noise."""
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (number, *size, 3), np.uint8),
        "mask": rng.integers(0, 256, (number, *size, 1), np.uint8),
        "label": rng.integers(0, 2, number).astype(np.int32),
        "weight": np.ones(number, np.float32),
    }


def measure(network: str, number: int, devices: Devices, rounds: int) -> list[list[str]]:
    """Returns rows of the table."""
    size = Segmenter().image_size if network == "unet" else Classifier().image_size
    batch, compiled, states = jax.device_put(draw_batch(size, number)), {}, {}
    for way, (remat, microbatches) in WAYS.items():
        step, state = make_step(network, devices, remat=remat, microbatches=microbatches)
        states[way] = devices.replicate(state)
        compiled[way] = compile_step(step, states[way], batch, devices)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for number_of_round in range(rounds + 1):
        for way in WAYS:
            start = time.perf_counter()
            states[way], metrics = compiled[way](states[way], batch)
            jax.block_until_ready(metrics)
            if number_of_round:  # the first one touches fresh memory
                seconds[way].append(time.perf_counter() - start)
    bytes_of = {way: compiled[way].memory_analysis().temp_size_in_bytes for way in WAYS}
    return [
        [network, str(number), way, f"{bytes_of[way] / 2**20:.0f} MiB", f"{statistics.median(seconds[way]):.2f} s"]
        for way in WAYS
    ]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=BATCH, nargs="*", default=list(BATCH))
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    keep_memory()
    devices = make_devices(Parallel())
    print(devices.describe())
    print(table(["network", "batch", "way", "allocated", "a step"], []))
    for network in args.network:
        for row in measure(network, BATCH[network], devices, args.rounds):
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
