"""How long the stages of a run will take on this machine: a few steps, batches and images timed, and multiplied."""

import itertools
import math
import os
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from segfusion_jax.config import Config
from segfusion_jax.datasets import images
from segfusion_jax.datasets.joining import collect
from segfusion_jax.input.loader import Batch, TrainStream, empty_batch
from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.workload import Workload

_TIMED = 4
"""Steps, and batches that are predicted; one more comes before them, which may compile."""

_STORED = 8
"""Images that are read and encoded as `prepare` does it."""

_FAMILIARITY_IMAGES = 2000
"""At most as many training images tell the stage `evaluate` what is familiar."""


class Pace(NamedTuple):
    """Seconds that a network takes: to compile its step, for a step, and to predict a batch."""

    compile: float
    step: float
    predict: float


def time_steps(step: Callable, state: Any, batches: Iterable[Batch]) -> float:
    """Returns the seconds that a train step takes on batches that have been read."""
    batches = iter(batches)
    state, metrics = step(state, next(batches))
    jax.block_until_ready(metrics)
    start = time.perf_counter()
    for batch in itertools.islice(batches, _TIMED):
        state, metrics = step(state, batch)
        jax.block_until_ready(metrics)
    return (time.perf_counter() - start) / _TIMED


def time_predictions(predict: Callable, variables: Any, batch: Batch) -> float:
    """Returns the seconds that it takes to predict a batch that has been read."""
    predict(variables, batch)
    start = time.perf_counter()
    for _ in range(_TIMED):
        predict(variables, batch)
    return (time.perf_counter() - start) / _TIMED


def training_batches(
    stream: TrainStream | None, batch_size: int, image_size: tuple[int, int], run: Run
) -> tuple[list[Batch], float]:
    """Returns batches of a stream and the seconds that it takes to read one.

    Where nothing is prepared, `stream` is None: the batches are empty, and reading is not counted.
    """
    devices = run.devices
    if stream is None:
        blank = empty_batch(batch_size // devices.num_processes, image_size)
        return [{name: np.zeros_like(array) for name, array in blank.items()}] * (_TIMED + 1), 0.0
    share: dict[str, int] = dict(process=devices.process, num_processes=devices.num_processes)
    start = time.perf_counter()
    batches = list(stream.batches(0, _TIMED + 1, run.config.input, **share))
    return batches, (time.perf_counter() - start) / len(batches)


def time_storing(config: Config) -> float:
    """Returns the seconds that the stage `prepare` takes for an image, which it does on all cores at once."""
    records = collect(config.data).records
    some = [records[place] for place in np.linspace(0, len(records) - 1, min(_STORED, len(records))).astype(int)]
    start = time.perf_counter()
    for record in some:
        images.store(record, config.data)
    return (time.perf_counter() - start) / len(some) / (os.cpu_count() or 1)


def estimate(run: Run, work: Workload, unet: Pace, classifier: Pace, storing: float) -> dict[str, float]:
    """Returns the seconds of each stage but `report`, which takes a few.

    Intervals and figures of `evaluate` are not counted.
    """
    config, folds = run.config, run.config.splits.num_folds
    segmenting, classifying = config.segmenter.training, config.classifier.training
    phases = config.classifier.frozen_epochs + classifying.epochs

    def epochs(trained: tuple[int, ...], validated: tuple[int, ...], training: Any, pace: Pace) -> float:
        steps = max(1, (training.images_per_epoch or sum(trained) // len(trained)) // training.batch_size)
        return sum(steps * pace.step + _batches(number, training.batch_size) * pace.predict for number in validated)

    def predicted(number: int, training: Any, pace: Pace) -> float:
        return _batches(number, training.batch_size) * pace.predict

    tests, validated = work.tests, sum(work.classifier_validation)
    looks = 3 * tests + 2 * validated + min(sum(work.classifier_training), _FAMILIARITY_IMAGES)
    unets = epochs(work.unet_training, work.unet_validation, segmenting, unet)
    classifiers = epochs(work.classifier_training, work.classifier_validation, classifying, classifier)
    return {
        "prepare": work.stored * storing,
        "segment": unet.compile + segmenting.epochs * unets,
        "score": folds * predicted(work.annotated_tests, segmenting, unet),
        "bridge": predicted(work.masked - tests, segmenting, unet) + folds * predicted(tests, segmenting, unet),
        "classify": classifier.compile + phases * classifiers,
        "evaluate": predicted(looks, classifying, classifier),
    }


def _batches(number: int, batch_size: int) -> int:
    return math.ceil(number / batch_size)
