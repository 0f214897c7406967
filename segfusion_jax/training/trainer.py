"""The trainer of U-Nets and of classifiers: one network after the other, with steps that are compiled once."""

import dataclasses
import logging
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import optax

from segfusion_jax.config import Augmentation, Config, Data, Training
from segfusion_jax.datasets.table import Row
from segfusion_jax.input import sampling
from segfusion_jax.input.examples import Examples
from segfusion_jax.input.loader import TrainStream
from segfusion_jax.models.functional import Functional
from segfusion_jax.models.pretrained import save_weights
from segfusion_jax.runtime.devices import Devices
from segfusion_jax.training import metric_log, steps
from segfusion_jax.training.choice import told
from segfusion_jax.training.fit import fit
from segfusion_jax.training.on_device import compile_step, with_examples
from segfusion_jax.training.predict import predict
from segfusion_jax.training.state import create_state
from segfusion_jax.training.task import Task

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Phase:
    """A training that every network goes through, on what the one before it made.

    Attributes:
      config: for how long and how fast it learns.
      train_step: `(state, batch) -> (state, metrics)` of one device.
      optimizer: the optimiser of this step.
    """

    config: Training
    train_step: Callable
    optimizer: optax.GradientTransformation

    @classmethod
    def make(
        cls, config: Training, objective: steps.Objective, optimizer: optax.GradientTransformation, *, seed: int
    ) -> Self:
        """Returns the phase that makes an objective smaller, its randomness drawn from `seed`."""
        options: dict[str, Any] = dict(microbatches=config.microbatches, skip_nonfinite=config.nonfinite == "skip")
        step = steps.make_train_step(objective, optimizer, seed=seed, ema_decay=config.ema_decay, **options)
        return cls(config, step, optimizer)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How networks of one kind are trained.

    Attributes:
      phases: by name, in their order; each writes the folder of its name within the network's, the one named "" that.
      augmentation: augmentation of the training images.
      predict: `(variables, batch) -> outputs` of one device, on validation data.
      score: rows and outputs to validation metrics, `loss` among them.
      best_metric: the metric of `score` that chooses the weights, see `choice.rank`.
      steps_per_epoch: for all networks and phases alike.
      most_images: the most images that a network is trained on; what lies on the devices is as large for each.
      possible: the classes that each target leaves possible, as in `sampling.class_balanced`; None: each is a class.
    """

    phases: Mapping[str, Phase]
    augmentation: Augmentation
    predict: Callable
    score: Callable[[Iterable[tuple[Row, Any]]], dict[str, float]]
    best_metric: str
    steps_per_epoch: int
    most_images: int
    possible: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Member:
    """A network that is to be trained.

    Attributes:
      name: begins its lines of progress.
      weights: the file that its best weights are written to, beside what the training leaves.
      make: returns it with its initial weights.
      train: the images that it is trained on.
      validation: the images that choose its weights.
      seeds: seed of order and augmentation, by phase.
    """

    name: str
    weights: pathlib.Path
    make: Callable[[], Functional]
    train: Examples
    validation: Examples
    seeds: Mapping[str, int]


class Trainer:
    """Trains the members of an ensemble one after the other.

    Args:
      devices: where.
      config: config of the run; how to read and how often to save.
    """

    def __init__(self, devices: Devices, config: Config):
        self._devices = devices
        self._config = config

    def train(self, recipe: Recipe, members: Sequence[Member]) -> None:
        """Writes the weights of each member, if they are not there yet; raises as `fit`."""
        predict = self._devices.compile_predict(recipe.predict)
        compiled = {
            name: compile_step(phase.train_step, self._devices, on_device=phase.config.on_device_data)
            for name, phase in recipe.phases.items()
        }
        for member in members:
            if member.weights.exists():
                _log.info("%s: done before", member.name)
            else:
                self._train(recipe, member, compiled, predict)

    def _train(self, recipe: Recipe, member: Member, compiled: Mapping[str, Callable], predict: Callable) -> None:
        network = member.make()
        for name, phase in recipe.phases.items():
            task, decay = self._task(recipe, member, name, compiled[name], predict), phase.config.ema_decay
            state = create_state(network.params, network.batch_stats, phase.optimizer, ema_decay=decay)
            params, batch_stats = fit(task, state, self._devices, self._config.input, self._config.checkpoints)
            network = network._replace(params=params, batch_stats=batch_stats)
            if self._devices.is_lead:
                lines = metric_log.read(task.folder / "metrics.jsonl")
                _log.info("%s: %s", task.name, told(lines, task.best_metric))
        if self._devices.is_lead:
            save_weights(member.weights, network)

    def _task(self, recipe: Recipe, member: Member, phase: str, step: Callable, compiled: Callable) -> Task:
        training, devices, config = recipe.phases[phase].config, self._devices, self._config.input
        size, rows = training.batch_size, member.train.rows
        weights = sampling_weights(training, rows, self._config.data, recipe.possible)
        seed, on_device = member.seeds[phase], training.on_device_data
        stream = TrainStream(member.train, recipe.augmentation, size, seed, on_device, weights)

        def validate(params, batch_stats):
            options: dict[str, Any] = dict(batch_size=size, devices=devices, config=config)
            return recipe.score(predict(compiled, (params, batch_stats), member.validation, **options))

        return Task(
            name=f"{member.name} ({phase})" if phase else member.name,
            folder=member.weights.parent / phase,
            train_step=with_examples(step, stream, devices, config, length=recipe.most_images),
            stream=stream,
            validate=validate,
            best_metric=recipe.best_metric,
            epochs=training.epochs,
            steps_per_epoch=recipe.steps_per_epoch,
            metric_logger=self._config.metric_logger,
        )


def steps_per_epoch(config: Training, numbers: Sequence[int]) -> int:
    """Returns the steps of an epoch, for all members alike: what the images of an average one make.

    Args:
      config: config of the training.
      numbers: number of images that each member is trained on.
    """
    return max(1, (config.images_per_epoch or sum(numbers) // len(numbers)) // config.batch_size)


def sampling_weights(
    config: Training, rows: Sequence[Row], data: Data, possible: np.ndarray | None = None
) -> np.ndarray | None:
    """Returns how often each image is drawn, None for all alike: the share of its class times that of its collection.

    Classes are drawn equally often where they are balanced, and then, within each, collections in their shares; so the
    collection of an image tells its class as little as it can. `possible` is as in `Recipe`.
    """
    weights = _collection_shares(config, rows, data)
    if config.sampling == "shuffled":
        return weights
    targets = [row.target for row in rows]
    balanced = sampling.class_balanced(targets, possible)
    return balanced if weights is None else sampling.within(balanced, weights, targets)


def _collection_shares(config: Training, rows: Sequence[Row], data: Data) -> np.ndarray | None:
    """Returns the weights of images by their collections, of those of a class alone where classes are balanced."""
    weights = {name: source.weight for name, source in data.sources.items()}
    if config.shares == "natural" and len(set(weights.values())) == 1:
        return None
    times = np.array([weights[row.source] for row in rows])
    if config.shares == "natural":
        return None if len(set(times.tolist())) < 2 else times
    origins = [f"{row.source}/{row.origin}" if config.shares == "origins" else row.source for row in rows]
    if config.sampling == "balanced":
        origins = [f"{row.target} {origin}" for row, origin in zip(rows, origins, strict=True)]
    return times * sampling.shared(origins)
