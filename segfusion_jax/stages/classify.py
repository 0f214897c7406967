"""Stage 4: the classifier, on bridged images."""

import collections
import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optax
from absl import logging
from sklearn import metrics

from segfusion_jax.config import Config, Training
from segfusion_jax.datasets.prepared import Prepared
from segfusion_jax.datasets.table import Row
from segfusion_jax.inference import Classes, class_probabilities, sigmoid
from segfusion_jax.input.loader import Examples, TrainStream
from segfusion_jax.input.mask_store import MaskStore
from segfusion_jax.input.sampling import class_balanced
from segfusion_jax.models.from_config import load_backbone, make_classifier
from segfusion_jax.models.functional import Functional, Variables
from segfusion_jax.models.pretrained import save_weights
from segfusion_jax.parallel import AXIS, Devices, make_devices
from segfusion_jax.stages.workdir import classifier_rows, classifier_weights, load_classes, load_prepared
from segfusion_jax.training import steps
from segfusion_jax.training.loop import Fit, fit
from segfusion_jax.training.optimizer import decayed_rates, make_optimizer
from segfusion_jax.training.predict import predict
from segfusion_jax.training.resident import compile_step, with_examples
from segfusion_jax.training.seeds import derive_seed
from segfusion_jax.training.state import create_state


def classify(config: Config, workdir: pathlib.Path) -> None:
    """Trains on the images of the split 'train' and chooses the weights by ROC-AUC on 'validation'.

    With `frozen_epochs`, the last layer alone is trained first. Writes `classification/weights.safetensors` and, for
    each phase, `classification/<phase>/metrics.jsonl`.
    """
    devices = make_devices(config.parallel)
    prepared, masks = load_prepared(config, workdir), MaskStore(workdir / "masks")
    classes = load_classes(config, workdir)
    train, validation = (examples(config, prepared, masks, split) for split in ("train", "validation"))
    classifier = load_backbone(config.classifier, make_network(config, devices, classes))
    logging.info("classifier starts from %s", config.classifier.pretrained or "random weights")
    trainer = _Trainer(config, devices, workdir / "classification", train, validation, classifier, classes)
    variables = (classifier.params, classifier.batch_stats)
    if config.classifier.frozen_epochs:
        variables = trainer.train("frozen", variables)
    variables = trainer.train("all", variables)
    if devices.is_lead:
        params, batch_stats = variables
        trained = classifier._replace(params=params, batch_stats=batch_stats)
        save_weights(classifier_weights(config, workdir)[0], trained)


def examples(config: Config, prepared: Prepared, masks: MaskStore, split: str) -> Examples:
    """The bridged images of a split."""
    rows, size = classifier_rows(prepared, config, split), config.classifier.image_size
    return Examples(prepared, rows, size, masks, config.bridge, reduced=split == "train")


def make_network(config: Config, devices: Devices, classes: Classes) -> Functional:
    """The classifier with initial weights."""
    return make_classifier(
        config.classifier,
        config.bridge,
        seed=derive_seed(config.seed, "classify", "weights", config.classifier.seed),
        dtype=devices.compute_dtype(config.compute_dtype),
        axis_name=AXIS if config.parallel.sync_batch_norm else None,
        remat=config.classifier.training.remat,
        num_logits=classes.num_logits,
    )


def class_weights(config: Config, classes: Classes, train: Sequence[Row]) -> tuple[float, ...]:
    """Of each class; balanced ones are inverse frequencies, 1 on average over the training images."""
    number = len(classes.names)
    if config.classifier.class_weights == "none":
        return (1.0,) * number
    counts = collections.Counter(row.target for row in train)
    return tuple(len(train) / (number * counts[target]) for target in range(number))


def steps_per_epoch(config: Config, train: Sequence[Row]) -> int:
    """Of all phases."""
    training = config.classifier.training
    return max(1, (training.images_per_epoch or len(train)) // training.batch_size)


def train_step(
    config: Config, classifier: Functional, phase: str, *, steps_per_epoch: int, class_weights: tuple[float, ...]
) -> tuple[Callable, optax.GradientTransformation]:
    """The step `(state, batch) -> (state, metrics)` of one device, and its optimiser.

    Args:
      config: of the run.
      classifier: that is trained.
      phase: "all", or "frozen", which trains the last layer only.
      steps_per_epoch: what an epoch of the schedule is.
      class_weights: of each class.
    """
    training, head_only, decay = _training(config, phase), phase == "frozen", config.classifier.layer_decay
    rates = decayed_rates(classifier.params, decay) if decay < 1 and not head_only else None
    optimizer = make_optimizer(training, steps_per_epoch, rates)
    if head_only:
        optimizer = optax.masked(optimizer, {name: name == "head" for name in classifier.params})
    objective = steps.classification_objective(
        classifier, config.bridge, config.classifier, class_weights=class_weights, head_only=head_only
    )
    step = steps.make_train_step(
        objective,
        optimizer,
        seed=derive_seed(config.seed, "classify", phase, config.classifier.seed),
        ema_decay=training.ema_decay,
        microbatches=training.microbatches,
        skip_nonfinite=training.nonfinite == "skip",
    )
    return step, optimizer


def _training(config: Config, phase: str) -> Training:
    classifier = config.classifier
    if phase == "all":
        return classifier.training
    return Training(
        epochs=classifier.frozen_epochs,
        batch_size=classifier.training.batch_size,
        learning_rate=classifier.frozen_learning_rate,
        schedule="constant",
        sampling=classifier.training.sampling,
        resident=classifier.training.resident,
        microbatches=classifier.training.microbatches,
        nonfinite=classifier.training.nonfinite,
    )


@dataclasses.dataclass(frozen=True)
class _Trainer:
    config: Config
    devices: Devices
    folder: pathlib.Path
    train_examples: Examples
    validation_examples: Examples
    classifier: Functional
    classes: Classes

    def train(self, phase: str, variables: tuple[Variables, Variables]) -> Any:
        """Trains all weights, or the last layer in the phase "frozen"; returns the best params and batch_stats."""
        training, rows = _training(self.config, phase), self.train_examples.rows
        epoch = steps_per_epoch(self.config, rows)
        weights = class_weights(self.config, self.classes, rows)
        step, optimizer = train_step(self.config, self.classifier, phase, steps_per_epoch=epoch, class_weights=weights)
        scores = steps.make_class_scores(self.classifier, self.config.bridge, self.classes.positive)
        compiled_scores = self.devices.compile_predict(scores)
        stream = TrainStream(
            self.train_examples,
            self.config.classifier.augmentation,
            training.batch_size,
            derive_seed(self.config.seed, "classify", phase, self.config.classifier.seed, "input"),
            resident=training.resident,
            weights=self._sampling_weights(),
        )
        compiled_step = compile_step(step, self.devices, resident=training.resident)
        task = Fit(
            name=f"classifier ({phase})",
            folder=self.folder / phase,
            train_step=with_examples(compiled_step, stream, self.devices, self.config.input),
            stream=stream,
            validate=lambda params, batch_stats: self._validate(compiled_scores, (params, batch_stats)),
            best_metric="roc_auc",
            epochs=training.epochs,
            steps_per_epoch=epoch,
        )
        state = create_state(*variables, optimizer, ema_decay=training.ema_decay)
        return fit(task, state, self.devices, self.config.input, self.config.checkpoints)

    def _sampling_weights(self) -> np.ndarray | None:
        if self.config.classifier.training.sampling == "shuffled":
            return None
        return class_balanced([row.target for row in self.train_examples.rows])

    def _validate(self, compiled, variables):
        """ROC-AUC of malignancy, and the log loss of the classes."""
        predicted = predict(
            compiled,
            variables,
            self.validation_examples,
            batch_size=self.config.classifier.training.batch_size,
            devices=self.devices,
            config=self.config.input,
        )
        rows, scores = zip(*predicted, strict=True)
        targets = [row.target for row in rows]
        labels = [self.classes.positive[target] for target in targets]
        probabilities = sigmoid(np.array([score["malignant"] for score in scores]))
        of_classes = class_probabilities(np.array([score["logits"] for score in scores]))
        return {
            "roc_auc": float(metrics.roc_auc_score(labels, probabilities)),
            "loss": float(metrics.log_loss(targets, of_classes, labels=range(len(self.classes.names)))),
        }
