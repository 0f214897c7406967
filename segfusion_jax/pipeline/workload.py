"""How much a run has to do: the images of each stage, counted before anything is trained, or even prepared."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence

from segfusion_jax.config import Config
from segfusion_jax.datasets.classes import kinds, targets
from segfusion_jax.datasets.joining import collect
from segfusion_jax.pipeline.run import Run
from segfusion_jax.serving.ensembles import Classes

STEPS = 1000
"""The steps of an epoch, where nothing is known of the images."""


@dataclasses.dataclass(frozen=True)
class Workload:
    """Numbers of images, and what is told apart.

    Attributes:
      origin: where the numbers are from.
      classes: what is told apart.
      stored: images of all collections.
      masked: images that get a mask.
      annotated_tests: test images whose masks are scored.
      tests: test images that are classified.
      unet_training: the images of each U-Net.
      unet_validation: the images that choose its weights, of each.
      classifier_training: the images of each classifier.
      classifier_validation: the images that choose its weights, of each.
    """

    origin: str
    classes: Classes
    stored: int
    masked: int
    annotated_tests: int
    tests: int
    unet_training: tuple[int, ...]
    unet_validation: tuple[int, ...]
    classifier_training: tuple[int, ...]
    classifier_validation: tuple[int, ...]


def workload(run: Run) -> Workload | None:
    """Counts the images of a run: as they were dealt, else as its files say; None where these are not there."""
    if run.is_prepared:
        return _prepared(run)
    try:
        return _listed(run)
    except FileNotFoundError:
        return None


def _prepared(run: Run) -> Workload:
    train, choose = run.split.unet()
    classifiers, choosing = run.split.training, run.split.validation
    own = [row for row in run.rows if row.source in run.config.data.own]
    return Workload(
        "as prepared",
        run.classes,
        len(run.rows),
        sum(row.split in ("train", "validation", "test") for row in own),
        len(run.split.annotated_test),
        sum(row.split == "test" and row.target >= 0 for row in own),
        tuple(map(len, train.values())),
        tuple(_at_most(len(rows), run.config.segmenter.training.images_per_epoch) for rows in choose.values()),
        tuple(map(len, classifiers)),
        tuple(_at_most(len(rows), run.config.classifier.training.images_per_epoch) for _, rows in choosing),
    )


def _listed(run: Run) -> Workload:
    config = run.config
    records, splits = collect(config.data).records, config.splits
    numbers, told = targets([(record.diagnosis, record.malignant) for record in records], config.data)
    own = [place for place, record in enumerate(records) if record.source in config.data.own]
    labelled = [numbers[place] for place in own if numbers[place] >= 0]
    classes = Classes.of(told, config.data)
    judged, names = kinds(told, config.data)
    _check(collections.Counter(names[judged[target]] for target in labelled if judged[target] >= 0), names, config)
    annotated = sum(record.mask is not None for record in records)
    train, validation = 1 - splits.test_fraction - splits.validation_fraction, splits.validation_fraction
    outside = (splits.num_folds - 1) / splits.num_folds
    members = splits.num_folds if config.classifier.fold_ensemble else 1
    shares = ((train + validation) * outside, (train + validation) / members) if members > 1 else (train, validation)
    trained = not config.bridge.released and (annotated or config.bridge.mode != "none")
    unets = splits.num_folds if trained else 0
    seen = f" (with those that {config.bridge.masks} saw, which take no part)" if config.bridge.released else ""
    return Workload(
        f"as the files say, which are not prepared yet{seen}",
        classes,
        len(records),
        len(own),
        round(annotated * splits.test_fraction),
        round(len(labelled) * splits.test_fraction),
        (round(annotated * train * outside),) * unets,
        (_at_most(round(annotated * validation * outside), config.segmenter.training.images_per_epoch),) * unets,
        (round(len(labelled) * shares[0]),) * members,
        (_at_most(round(len(labelled) * shares[1]), config.classifier.training.images_per_epoch),) * members,
    )


def _check(found: Mapping[str, int], names: Sequence[str], config: Config) -> None:
    """Refuses kinds of too few images for any deal; what this one does not meet is said when it is made."""
    parts = 1 + config.splits.num_folds if config.classifier.fold_ensemble else 3
    if min(found[name] for name in names) < parts:
        counts = " and ".join(f"{found[name]} {name}" for name in reversed(names))
        raise ValueError(
            f"the images are {counts}: of each {parts} are needed, "
            "one in test and one in each part that trains or chooses a classifier. Bring more images"
            + (", or set classifier.fold_ensemble=False" if config.classifier.fold_ensemble else "")
        )


def _at_most(number: int, most: int) -> int:
    """Returns as many as `split.evenly_spaced` leaves of a number of images; 0 means all."""
    return min(number, most) if most else number
