"""Stage 5: the classifier, or one a fold, on bridged images."""

import collections
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import optax
from absl import logging
from sklearn import metrics

from segfusion_jax.config import Config, Training
from segfusion_jax.datasets.table import Row
from segfusion_jax.input.loader import Examples, TrainStream
from segfusion_jax.input.sampling import class_balanced
from segfusion_jax.models.from_config import load_backbone, make_classifier
from segfusion_jax.models.functional import Functional, Variables
from segfusion_jax.models.pretrained import save_weights
from segfusion_jax.pipeline.rows import bridged_examples, evenly_spaced, training_rows, validation_rows
from segfusion_jax.pipeline.run import Run
from segfusion_jax.runtime.devices import AXIS, Devices
from segfusion_jax.serving.ensembles import Classes, class_probabilities, malignant_probability
from segfusion_jax.training import steps
from segfusion_jax.training.fit import Fit, fit
from segfusion_jax.training.on_device import compile_step, with_examples
from segfusion_jax.training.optimizer import decayed_rates, make_optimizer
from segfusion_jax.training.predict import predict
from segfusion_jax.training.seeds import derive_seed
from segfusion_jax.training.state import create_state


def classify(run: Run) -> None:
    """Trains on the images of the split 'train' and chooses the weights by ROC-AUC on 'validation'.

    With `fold_ensemble`, classifier k is trained on all folds but k, of both splits, and chosen on fold k. With
    `frozen_epochs`, the last layer alone is trained first. Writes the weights, and for each phase its metrics.

    Raises:
      ValueError: the images that a classifier is trained or chosen on are all of one kind.
    """
    config = run.config
    train, choose = training_rows(run), validation_rows(run)
    _check_kinds(train, choose, run.classes)
    trainer = _Trainer(config, run.devices, run.classes, train)
    for (number, rows), weights in zip(choose, run.classifier_weights, strict=True):
        if weights.exists():
            logging.info("classifier %d: done before", number)
            continue
        to_train = bridged_examples(run, train[number], scaled_decoding=True)
        to_choose = evenly_spaced(rows, config.classifier.training.images_per_epoch)
        classifier = trainer.train(number, weights.parent, to_train, bridged_examples(run, to_choose))
        if run.devices.is_lead:
            save_weights(weights, classifier)


def _check_kinds(train: Sequence[Sequence[Row]], choose: Sequence[tuple[int, Sequence[Row]]], classes: Classes) -> None:
    for (number, chosen), trained in zip(choose, train, strict=True):
        for what, rows in (("trained", trained), ("chosen", chosen)):
            if len({classes.positive[row.target] for row in rows}) < 2:
                raise ValueError(
                    f"the {len(rows)} images that classifier {number} is {what} on must be of both kinds, "
                    f"{classes.binary_names[0]} and {classes.binary_names[1]}"
                )


def make_network(config: Config, devices: Devices, classes: Classes, *, seed: int) -> Functional:
    """A classifier with initial weights drawn from `seed`."""
    return make_classifier(
        config.classifier,
        config.bridge,
        seed=seed,
        dtype=devices.compute_dtype(config.compute_dtype),
        axis_name=AXIS if config.parallel.sync_batch_norm else None,
        remat=config.classifier.training.remat,
        num_logits=classes.num_logits,
    )


def class_weights(config: Config, classes: Classes, train: Sequence[Sequence[Row]]) -> tuple[float, ...]:
    """Of each class; balanced ones are inverse frequencies, 1 on average over the images of all classifiers."""
    number = len(classes.names)
    if config.classifier.class_weights == "none":
        return (1.0,) * number
    counts = collections.Counter(row.target for rows in train for row in rows)
    return tuple(counts.total() / (number * counts[target]) for target in range(number))


def sampling_weights(config: Config, train: Sequence[Row]) -> np.ndarray | None:
    """How often each image is drawn; None for all alike."""
    if config.classifier.training.sampling == "shuffled":
        return None
    return class_balanced([row.target for row in train])


def steps_per_epoch(config: Config, train: Sequence[Sequence[Row]]) -> int:
    """Of all classifiers and phases alike: what the images of an average classifier make."""
    training = config.classifier.training
    return max(1, (training.images_per_epoch or sum(map(len, train)) // len(train)) // training.batch_size)


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
        on_device_data=classifier.training.on_device_data,
        microbatches=classifier.training.microbatches,
        nonfinite=classifier.training.nonfinite,
    )


class _Trainer:
    """Trains classifiers one after the other with steps that are compiled once, all for the same number of steps."""

    def __init__(self, config: Config, devices: Devices, classes: Classes, train: Sequence[Sequence[Row]]):
        self._config = config
        self._devices = devices
        self._classes = classes
        self._most_trained = max(map(len, train))
        self._steps_per_epoch = steps_per_epoch(config, train)
        classifier = self._initial(0)
        logging.info("classifiers start from %s", config.classifier.pretrained or "random weights")
        self._steps = {}
        for phase in ("frozen", "all") if config.classifier.frozen_epochs else ("all",):
            step, optimizer = train_step(
                config,
                classifier,
                phase,
                steps_per_epoch=self._steps_per_epoch,
                class_weights=class_weights(config, classes, train),
            )
            self._steps[phase] = (
                compile_step(step, devices, on_device=config.classifier.training.on_device_data),
                optimizer,
            )
        self._classify = devices.compile_predict(steps.make_classify(classifier, config.bridge))

    def train(self, number: int, folder: pathlib.Path, train: Examples, validation: Examples) -> Functional:
        """Returns the classifier with its best weights, after all phases."""
        config, classifier = self._config, self._initial(number)
        for phase, (compiled, optimizer) in self._steps.items():
            training = _training(config, phase)
            stream = TrainStream(
                train,
                config.classifier.augmentation,
                training.batch_size,
                derive_seed(self._seed(number, phase), "input"),
                on_device=training.on_device_data,
                weights=sampling_weights(config, train.rows),
            )
            task = Fit(
                name=f"classifier {number} ({phase})" if config.classifier.fold_ensemble else f"classifier ({phase})",
                folder=folder / phase,
                train_step=with_examples(compiled, stream, self._devices, config.input, length=self._most_trained),
                stream=stream,
                validate=lambda params, batch_stats: self._validate((params, batch_stats), validation),
                best_metric="roc_auc",
                epochs=training.epochs,
                steps_per_epoch=self._steps_per_epoch,
            )
            state = create_state(classifier.params, classifier.batch_stats, optimizer, ema_decay=training.ema_decay)
            params, batch_stats = fit(task, state, self._devices, config.input, config.checkpoints)
            classifier = classifier._replace(params=params, batch_stats=batch_stats)
        return classifier

    def _initial(self, number: int) -> Functional:
        seed = self._seed(number, "weights")
        network = make_network(self._config, self._devices, self._classes, seed=seed)
        return load_backbone(self._config.classifier, network)

    def _seed(self, number: int, *purpose: str) -> int:
        member = (number,) if self._config.classifier.fold_ensemble else ()
        return derive_seed(self._config.seed, "classify", *purpose, self._config.classifier.seed, *member)

    def _validate(self, variables: tuple[Variables, Variables], validation: Examples) -> dict[str, float]:
        """ROC-AUC of malignancy, and the log loss of the classes."""
        predicted = predict(
            self._classify,
            variables,
            validation,
            batch_size=self._config.classifier.training.batch_size,
            devices=self._devices,
            config=self._config.input,
        )
        rows, outputs = zip(*predicted, strict=True)
        logits, targets, classes = np.array(outputs), [row.target for row in rows], self._classes
        labels = [classes.positive[target] for target in targets]
        return {
            "roc_auc": float(metrics.roc_auc_score(labels, malignant_probability(logits, classes))),
            "loss": float(metrics.log_loss(targets, class_probabilities(logits), labels=range(len(classes.names)))),
        }
