"""Stage 5: the classifier, or one a fold, on bridged images."""

import functools
import logging
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import optax
from sklearn import metrics

from segfusion_jax.config import Config, Training
from segfusion_jax.datasets.table import Row
from segfusion_jax.evaluation.classification import multiclass_metrics
from segfusion_jax.evaluation.shares import balancing, class_counts
from segfusion_jax.evaluation.small_samples import roc_auc_interval
from segfusion_jax.models.functional import Functional
from segfusion_jax.pipeline.networks import classifier_seed
from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.split import evenly_spaced
from segfusion_jax.serving.ensembles import Classes, class_probabilities, malignant_probability
from segfusion_jax.training import steps
from segfusion_jax.training.losses import Coarse
from segfusion_jax.training.optimizer import decayed_rates, make_optimizer
from segfusion_jax.training.seeds import derive_seed
from segfusion_jax.training.trainer import Member, Phase, Recipe, steps_per_epoch

_log = logging.getLogger(__name__)

_TINY = float(np.finfo(np.float64).eps)


def classify(run: Run) -> None:
    """Trains on the images of the split 'train' and chooses the weights on 'validation'.

    With `fold_ensemble`, classifier k is trained on all folds but k, of both splits, and chosen on fold k. With
    `frozen_epochs`, the last layer alone is trained first. Writes the weights, and for each phase its metrics.
    """
    config = run.config
    train, choose = run.split.training, run.split.validation
    _log.info("classifiers start from %s", config.classifier.pretrained or "random weights")
    members = [
        Member(
            name=f"classifier {number}" if config.classifier.fold_ensemble else "classifier",
            weights=weights,
            make=functools.partial(run.networks.classifier, number, run.classes.num_logits),
            train=run.bridged(train[number], scaled_decoding=True),
            validation=run.bridged(evenly_spaced(rows, config.classifier.training.images_per_epoch)),
            seeds={phase: derive_seed(classifier_seed(config, number, phase), "input") for phase in _phases(config)},
        )
        for (number, rows), weights in zip(choose, run.classifier_weights, strict=True)
    ]
    run.trainer.train(make_recipe(run, train), members)


def make_recipe(run: Run, train: Sequence[Sequence[Row]]) -> Recipe:
    """Returns how classifiers are trained on these images, one entry a classifier."""
    config, numbers = run.config, [len(rows) for rows in train]
    num_steps = steps_per_epoch(config.classifier.training, numbers)
    classifier = run.networks.classifier(0, run.classes.num_logits)
    weights = class_weights(config, run.classes, train)
    options: dict[str, Any] = dict(steps_per_epoch=num_steps, class_weights=weights, coarse=coarse(run.classes))
    return Recipe(
        phases={phase: make_phase(config, classifier, phase, **options) for phase in _phases(config)},
        augmentation=config.classifier.augmentation,
        predict=steps.make_classify(classifier, config.bridge),
        score=functools.partial(score, classes=run.classes),
        best_metric=best_metric(config),
        steps_per_epoch=num_steps,
        most_images=max(numbers),
        possible=run.classes.told.possible,
    )


def class_weights(config: Config, classes: Classes, train: Sequence[Sequence[Row]]) -> tuple[float, ...]:
    """Returns the weight of each target; balanced ones are inverse frequencies, see `shares.balancing`, 1 on average
    over all classifiers' images.
    """
    possible = classes.told.possible
    if config.classifier.class_weights == "none":
        return (1.0,) * len(possible)
    counts = class_counts(np.array([row.target for rows in train for row in rows]), possible)
    return tuple(balancing(counts, possible).tolist())


def coarse(classes: Classes) -> Coarse:
    """Returns the classes that each coarse label leaves possible."""
    return tuple(map(tuple, classes.told.possible[len(classes.names) :].tolist()))


def make_phase(
    config: Config,
    classifier: Functional,
    phase: str,
    *,
    steps_per_epoch: int,
    class_weights: tuple[float, ...],
    coarse: Coarse,
) -> Phase:
    """Returns a phase: what is made smaller, and by which optimiser.

    Args:
      config: config of the run.
      classifier: the network that is trained.
      phase: "all", or "frozen", which trains the last layer only.
      steps_per_epoch: what an epoch of the schedule is.
      class_weights: weight of each target in the loss.
      coarse: the targets that are no classes, as `coarse` returns them.
    """
    training, head_only, decay = _phases(config)[phase], phase == "frozen", config.classifier.layer_decay
    rates = decayed_rates(classifier.params, decay) if decay < 1 and not head_only else None
    optimizer = make_optimizer(training, steps_per_epoch, rates)
    if head_only:
        optimizer = optax.masked(optimizer, {name: name == "head" for name in classifier.params})
    options: dict[str, Any] = dict(class_weights=class_weights, coarse=coarse, head_only=head_only)
    objective = steps.classification_objective(classifier, config.bridge, config.classifier, **options)
    seed = derive_seed(config.seed, "classify", phase, config.classifier.seed)
    return Phase.make(training, objective, optimizer, seed=seed)


def score(predicted: Iterable[tuple[Row, np.ndarray]], classes: Classes) -> dict[str, float]:
    """Returns, of the images whose label says whether they are malignant, the ROC-AUC with its 95 % interval and the
    balanced accuracy at the threshold that is best for it; and the log loss of the labels.

    Of classes none of which is looked for it is the ROC-AUC of each against the rest, `macro_roc_auc`, and the balanced
    accuracy of the most probable class.
    """
    rows, outputs = zip(*predicted, strict=True)
    logits, targets = np.array(outputs), [row.target for row in rows]
    probabilities = class_probabilities(logits)
    of_labels = (probabilities * classes.told.possible[targets]).sum(axis=1)
    loss = {"loss": float(-np.log(np.clip(of_labels, _TINY, 1 - _TINY)).mean())}
    if not classes.has_sides:
        measured = multiclass_metrics(np.array(targets), probabilities)
        return {name: measured[name] for name in ("macro_roc_auc", "balanced_accuracy")} | loss
    labels = classes.judged[targets]
    said = labels >= 0
    malignant, positive = malignant_probability(logits[said], classes), labels[said] == 1
    roc_auc = float(metrics.roc_auc_score(labels[said], malignant))
    low, high = roc_auc_interval(roc_auc, int(positive.sum()), int((~positive).sum()))
    false_alarms, found, _ = metrics.roc_curve(labels[said], malignant)
    return {
        "roc_auc": roc_auc,
        "roc_auc_low": low,
        "roc_auc_high": high,
        "balanced_accuracy": float((1 + found - false_alarms).max() / 2),
    } | loss


def best_metric(config: Config) -> str:
    """Returns the key of `score` that chooses the weights."""
    has_sides = not config.data.own_classes or config.data.own_positive
    score = "roc_auc" if has_sides else "macro_roc_auc"
    return {"score": score}.get(name := config.classifier.training.best_metric, name)


def _phases(config: Config) -> dict[str, Training]:
    classifier, training = config.classifier, config.classifier.training
    if not classifier.frozen_epochs:
        return {"all": training}
    schedule: dict[str, Any] = dict(learning_rate=classifier.frozen_learning_rate, schedule="constant")
    shared = ("batch_size", "sampling", "shares", "on_device_data", "microbatches", "nonfinite", "best_metric")
    schedule |= {name: getattr(training, name) for name in shared}
    return {"frozen": Training(epochs=classifier.frozen_epochs, **schedule), "all": training}
