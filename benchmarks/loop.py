"""The whole training loop beside the step alone: what reading, logging and dispatching cost.

    python benchmarks/loop.py --config=configs/synthetic.py --model=classifier
    python benchmarks/loop.py --config=configs/ham10000.py --root=HAM10000 --model=segmenter

Rounds go in turn through three ways to train the config's model: the compiled step on one batch that is on the device
already; an epoch of `training.fit.fit` with Grain feeding it; and an epoch with the images on the device.
Of an epoch the first call of the step, which waits for the first images, is left out; validation and checkpoints are no
part of the rate. Prints a table of medians.
"""

import argparse
import dataclasses
import importlib.util
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from segfusion_jax import load_dataset
from segfusion_jax.config import Config
from segfusion_jax.input.examples import Examples
from segfusion_jax.input.loader import STEPS_PER_BLOCK, TrainStream
from segfusion_jax.models.from_config import make_classifier, make_unet
from segfusion_jax.runtime.devices import AXIS, Devices, keep_memory, make_devices
from segfusion_jax.training import metric_log, steps
from segfusion_jax.training.fit import fit
from segfusion_jax.training.on_device import compile_step, with_examples
from segfusion_jax.training.optimizer import make_optimizer
from segfusion_jax.training.state import TrainState, create_state
from segfusion_jax.training.task import Task


def load_config(name: str) -> Config:
    """Loads "configs/file.py" or "configs/file.py:variant"."""
    path, _, variant = name.partition(":")
    spec = importlib.util.spec_from_file_location("loop_config", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Config.from_config_dict(module.get_config(variant) if variant else module.get_config())


def make_step(config: Config, model: str, devices: Devices, steps_per_epoch: int) -> tuple[Callable, TrainState]:
    """Makes the train step of a model and its first state."""
    dtype, section = devices.compute_dtype(config.compute_dtype), getattr(config, model)
    if model == "segmenter":
        network = make_unet(section, seed=0, dtype=dtype, axis_name=AXIS)
        objective = steps.segmentation_objective(network, section)
    else:
        network = make_classifier(section, config.bridge, seed=0, dtype=dtype, axis_name=AXIS)
        objective = steps.classification_objective(
            network, config.bridge, section, class_weights=(1.0, 1.0), head_only=False
        )
    optimizer, decay = make_optimizer(section.training, steps_per_epoch), section.training.ema_decay
    state = create_state(network.params, network.batch_stats, optimizer, ema_decay=decay)
    return steps.make_train_step(objective, optimizer, seed=0, ema_decay=decay), jax.device_get(state)


def step_alone(compiled: Callable, batch: Any, state: TrainState, devices: Devices, num_steps: int) -> float:
    """Returns steps a second on a batch that is on the device."""
    state, metrics = compiled(devices.replicate(state), batch)
    jax.block_until_ready(metrics)
    start = time.monotonic()
    for _ in range(num_steps):
        state, metrics = compiled(state, batch)
    jax.block_until_ready(metrics)
    return num_steps / (time.monotonic() - start)


def epoch(train_step: Callable, stream: TrainStream, state: TrainState, devices: Devices, config: Config, num_steps):
    """Returns images a second of an epoch, as `fit` logs them."""
    with tempfile.TemporaryDirectory() as folder:
        task = Task(
            name="on device" if stream.on_device else "streaming",
            folder=pathlib.Path(folder),
            train_step=train_step,
            stream=stream,
            validate=lambda *_: {"loss": 0.0},
            best_metric="loss",
            epochs=1,
            steps_per_epoch=num_steps,
        )
        fit(task, state, devices, dataclasses.replace(config.input, log_seconds=3600.0), config.checkpoints)
        (line,) = metric_log.read(task.folder / "rates.jsonl")
    return line["images_per_second"]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/synthetic.py")
    parser.add_argument("--root", default="", help="of the collection, as config.data.root")
    parser.add_argument("--model", choices=("segmenter", "classifier"), default="classifier")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3 * STEPS_PER_BLOCK, help="of an epoch")
    parser.add_argument("--batch", type=int, default=0, help="0 = the config's")
    args = parser.parse_args()

    if args.steps < 2 * STEPS_PER_BLOCK:
        parser.error(
            f"--steps={args.steps}: must be at least {2 * STEPS_PER_BLOCK}, two calls of the loop on the device"
        )
    keep_memory()
    config = load_config(args.config)
    devices = make_devices(config.parallel)
    section = getattr(config, args.model)
    batch_size = args.batch or section.training.batch_size
    fields = {"synthetic_images": config.data.synthetic_images} if config.data.collection == "synthetic" else {}
    prepared = load_dataset(config.data.collection, root=args.root, **fields)
    examples = Examples(prepared, tuple(row for row in prepared.rows if row.has_mask), section.image_size)
    streams = [TrainStream(examples, section.augmentation, batch_size, 0, on_device=r) for r in (False, True)]
    step, state = make_step(config, args.model, devices, args.steps)
    compiled = [compile_step(step, devices, on_device=stream.on_device) for stream in streams]
    streaming, on_device = (
        with_examples(one, stream, devices, config.input) for one, stream in zip(compiled, streams, strict=True)
    )
    batch = jax.device_put(next(streams[0].batches(0, 1, config.input)))
    run_epoch = {
        "step alone": lambda: batch_size * step_alone(streaming, batch, state, devices, args.steps),
        "loop, streaming": lambda: epoch(streaming, streams[0], state, devices, config, args.steps),
        "loop, on device": lambda: epoch(on_device, streams[1], state, devices, config, args.steps),
    }
    rates = {name: [] for name in run_epoch}
    for number in range(args.rounds + 1):
        for name, run in run_epoch.items():
            rate = run()
            if number:  # the first round compiles
                rates[name].append(rate)
    alone = statistics.median(rates["step alone"])
    print(f"{args.model} of {args.config} at {section.image_size}, batch {batch_size}; {devices.describe()}")
    print("| | images/s | of the step alone | spread |\n|---|---|---|---|")
    for name, values in rates.items():
        median = statistics.median(values)
        spread = f"{np.min(values) / median:.2f} to {np.max(values) / median:.2f}"
        print(f"| {name} | {median:.1f} | {100 * median / alone:.1f} % | {spread} |")


if __name__ == "__main__":
    main()
