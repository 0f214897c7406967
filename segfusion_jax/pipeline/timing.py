"""How long the stages of a run will take on this machine: a few steps, batches and images timed, and multiplied."""

import dataclasses
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
from segfusion_jax.datasets.prepared import Prepared, Row
from segfusion_jax.datasets.record import Record
from segfusion_jax.input.examples import Batch
from segfusion_jax.input.loader import TrainStream
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


def training_batches(stream: TrainStream, run: Run) -> tuple[list[Batch], float]:
    """Returns batches of a stream and the seconds that it takes to read one."""
    share: dict[str, int] = dict(process=run.devices.process, num_processes=run.devices.num_processes)
    start = time.perf_counter()
    batches = list(stream.batches(0, _TIMED + 1, run.config.input, **share))
    return batches, (time.perf_counter() - start) / len(batches)


class _Sample(Prepared):
    """Images that are stored in memory as `prepare` stores them in files."""

    def read(self, position: int) -> tuple[bytes, bytes]:
        return self.source[position]  # pyright: ignore[reportReturnType]


def store_sample(config: Config) -> tuple[Prepared, float]:
    """Returns some images of a run that is not prepared, and the seconds that `prepare` takes for one on all cores.

    Raises:
      ValueError: none of them can be used.
    """
    records = collect(config.data).records
    some = [records[place] for place in np.linspace(0, len(records) - 1, min(_STORED, len(records))).astype(int)]
    start = time.perf_counter()
    stored = [(record, images.store(record, config.data)) for record in some]
    seconds = (time.perf_counter() - start) / len(some) / (os.cpu_count() or 1)
    usable = [(record, kept) for record, kept in stored if isinstance(kept, images.Stored)]
    if not usable:
        raise ValueError(f"none of {len(some)} images can be used, the first since: {stored[0][1]}")
    rows = tuple(_row(position, *pair) for position, pair in enumerate(usable))
    return _Sample(rows, [(kept.image, kept.mask) for _, kept in usable]), seconds  # pyright: ignore[reportArgumentType]


def _row(position: int, record: Record, stored: images.Stored) -> Row:
    known = vars(record) | vars(stored)
    facts = {field.name: known[field.name] for field in dataclasses.fields(Row) if field.name in known}
    return Row(position=position, has_mask=bool(stored.mask), **facts)


def estimate(run: Run, work: Workload, unet: Pace | None, classifier: Pace, storing: float) -> dict[str, float]:
    """Returns the seconds of each stage but `report`, which takes a few.

    Intervals and figures of `evaluate` are not counted; nor, where no U-Net is trained, what makes masks.
    """
    config, folds = run.config, len(work.unet_training)
    segmenting, classifying = config.segmenter.training, config.classifier.training
    phases = config.classifier.frozen_epochs + classifying.epochs

    def epochs(trained: tuple[int, ...], validated: tuple[int, ...], training: Any, pace: Pace) -> float:
        steps = max(1, (training.images_per_epoch or sum(trained) // len(trained)) // training.batch_size)
        return sum(steps * pace.step + _batches(number, training.batch_size) * pace.predict for number in validated)

    def predicted(number: int, training: Any, pace: Pace) -> float:
        return _batches(number, training.batch_size) * pace.predict

    tests, validated = work.tests, sum(work.classifier_validation)
    looks = 3 * tests + 2 * validated + min(sum(work.classifier_training), _FAMILIARITY_IMAGES)
    segment = score = bridge = 0.0
    if unet:
        unets = epochs(work.unet_training, work.unet_validation, segmenting, unet)
        segment = unet.compile + segmenting.epochs * unets
        score = folds * predicted(work.annotated_tests, segmenting, unet)
        bridge = predicted(work.masked - tests, segmenting, unet) + folds * predicted(tests, segmenting, unet)
    classifiers = epochs(work.classifier_training, work.classifier_validation, classifying, classifier)
    return {
        "prepare": work.stored * storing,
        "segment": segment,
        "score": score,
        "bridge": bridge,
        "classify": classifier.compile + phases * classifiers,
        "evaluate": predicted(looks, classifying, classifier),
    }


def _batches(number: int, batch_size: int) -> int:
    return math.ceil(number / batch_size)
