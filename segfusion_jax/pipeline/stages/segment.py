"""Stage 2: U-Nets on annotated masks, one a fold, each blind to its fold."""

import pathlib
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
import optax
from absl import logging

from segfusion_jax.config import Config
from segfusion_jax.datasets.table import Row
from segfusion_jax.input.loader import Examples, TrainStream
from segfusion_jax.models.from_config import load_encoder, make_unet
from segfusion_jax.models.functional import Functional, Variables
from segfusion_jax.models.pretrained import save_weights
from segfusion_jax.pipeline.rows import evenly_spaced, unet_rows
from segfusion_jax.pipeline.run import Run
from segfusion_jax.runtime.devices import AXIS, Devices
from segfusion_jax.training import steps
from segfusion_jax.training.fit import Fit, fit
from segfusion_jax.training.on_device import compile_step, with_examples
from segfusion_jax.training.optimizer import make_optimizer
from segfusion_jax.training.predict import predict
from segfusion_jax.training.seeds import derive_seed
from segfusion_jax.training.state import create_state


def segment(run: Run) -> None:
    """Trains U-Net k on the split 'train' and chooses its weights on 'validation', of both without fold k.

    Writes the weights and the metrics of each. The test groups are in no fold.

    Raises:
      ValueError: a U-Net has no annotated masks to be trained or chosen on.
    """
    config = run.config
    train, choose = unet_rows(run)
    steps_each, most_trained = steps_per_epoch(config, train), max(map(len, train.values()))
    trainer = _Trainer(config, run.devices, steps_each, most_trained=most_trained)
    for fold, weights in zip(train, run.unet_weights, strict=True):
        if weights.exists():
            logging.info("U-Net %d: done before", fold)
            continue
        size = config.segmenter.image_size
        to_train = Examples(run.prepared, train[fold], size, scaled_decoding=True)
        rows = evenly_spaced(choose[fold], config.segmenter.training.images_per_epoch)
        unet = trainer.train(fold, run.unet_folder(fold), to_train, Examples(run.prepared, rows, size))
        if run.devices.is_lead:
            save_weights(weights, unet)


def steps_per_epoch(config: Config, train: Mapping[int, Sequence[Row]]) -> int:
    """Returns the steps of an epoch, for all U-Nets alike: what the images of an average one make.

    Args:
      config: of the run.
      train: the images of each U-Net.
    """
    training = config.segmenter.training
    return max(1, (training.images_per_epoch or sum(map(len, train.values())) // len(train)) // training.batch_size)


def make_network(config: Config, devices: Devices, *, seed: int) -> Functional:
    """A U-Net with initial weights drawn from `seed`."""
    dtype = devices.compute_dtype(config.compute_dtype)
    axis_name = AXIS if config.parallel.sync_batch_norm else None
    segmenter = config.segmenter
    return make_unet(segmenter, seed=seed, dtype=dtype, axis_name=axis_name, remat=segmenter.training.remat)


def train_step(
    config: Config, unet: Functional, *, steps_per_epoch: int
) -> tuple[Callable, optax.GradientTransformation]:
    """The step `(state, batch) -> (state, metrics)` of one device, and its optimiser."""
    training = config.segmenter.training
    optimizer = make_optimizer(training, steps_per_epoch)
    objective = steps.segmentation_objective(unet, config.segmenter)
    step = steps.make_train_step(
        objective,
        optimizer,
        seed=derive_seed(config.seed, "segment"),
        ema_decay=training.ema_decay,
        microbatches=training.microbatches,
        skip_nonfinite=training.nonfinite == "skip",
    )
    return step, optimizer


class _Trainer:
    """Trains U-Nets one after the other with steps that are compiled once, all for the same number of steps."""

    def __init__(self, config: Config, devices: Devices, steps_per_epoch: int, *, most_trained: int):
        self._most_trained = most_trained
        self._config = config
        self._devices = devices
        self._steps_per_epoch = steps_per_epoch
        unet = load_encoder(config.segmenter, make_network(config, devices, seed=0))
        step, self._optimizer = train_step(config, unet, steps_per_epoch=steps_per_epoch)
        self._step = compile_step(step, devices, on_device=config.segmenter.training.on_device_data)
        self._scores = devices.compile_predict(steps.make_segmentation_scores(unet))

    def train(self, fold: int, folder: pathlib.Path, train: Examples, validation: Examples) -> Functional:
        """Returns the U-Net with its best weights."""
        config, training = self._config, self._config.segmenter.training
        unet = make_network(config, self._devices, seed=derive_seed(config.seed, "segment", "weights", fold))
        unet = load_encoder(config.segmenter, unet)
        input_seed = derive_seed(config.seed, "segment", "input", fold)
        stream = TrainStream(
            train, config.segmenter.augmentation, training.batch_size, input_seed, on_device=training.on_device_data
        )
        task = Fit(
            name=f"U-Net {fold}",
            folder=folder,
            train_step=with_examples(self._step, stream, self._devices, config.input, length=self._most_trained),
            stream=stream,
            validate=lambda params, batch_stats: self._validate((params, batch_stats), validation),
            best_metric="dice",
            epochs=training.epochs,
            steps_per_epoch=self._steps_per_epoch,
        )
        state = create_state(unet.params, unet.batch_stats, self._optimizer, ema_decay=training.ema_decay)
        params, batch_stats = fit(task, state, self._devices, config.input, config.checkpoints)
        return unet._replace(params=params, batch_stats=batch_stats)

    def _validate(self, variables: tuple[Variables, Variables], examples: Examples) -> dict[str, float]:
        scores = predict(
            self._scores,
            variables,
            examples,
            batch_size=self._config.segmenter.training.batch_size,
            devices=self._devices,
            config=self._config.input,
        )
        return jax.tree.map(lambda *values: float(np.mean(values)), *(score for _, score in scores))
