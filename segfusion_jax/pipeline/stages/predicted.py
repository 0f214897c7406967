"""What the classifiers say of images, calibrated on images that none of them was trained on."""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from segfusion_jax.config import Config
from segfusion_jax.datasets.prepared import Prepared
from segfusion_jax.datasets.table import Row
from segfusion_jax.evaluation.calibration import Calibration, fit_temperature, prior_shift
from segfusion_jax.input.loader import Source
from segfusion_jax.input.mask_store import MaskStore
from segfusion_jax.pipeline.stages.classify import examples, training_rows, validation_rows
from segfusion_jax.serving.ensembles import Classes, ClassifierEnsemble, class_probabilities, malignant_probability


@dataclasses.dataclass(frozen=True)
class Predicted:
    """Images with what the classifiers say of them.

    Attributes:
      rows: the images.
      logits: float64 [n, logits], as they are.
      calibration: what makes probabilities of them.
      classes: what is told apart.
      shares: of each class in the images of training, for which the probabilities hold; they add up to 1.
    """

    rows: tuple[Row, ...]
    logits: np.ndarray
    calibration: Calibration
    classes: Classes
    shares: tuple[float, ...]

    @property
    def groups(self) -> list[str]:
        """The group of each image."""
        return [row.group for row in self.rows]

    @property
    def targets(self) -> np.ndarray:
        """The number of each image's class, [n]."""
        return np.array([row.target for row in self.rows])

    @property
    def labels(self) -> np.ndarray:
        """Whether each image is malignant, [n] bool."""
        return np.array(self.classes.positive)[self.targets]

    @property
    def of_classes(self) -> np.ndarray:
        """Calibrated probability of each class, [n, classes]."""
        return class_probabilities(self.calibration.apply(self.logits))

    @property
    def malignancy(self) -> np.ndarray:
        """Calibrated probability of malignancy, [n]."""
        return malignant_probability(self.calibration.apply(self.logits), self.classes)

    @property
    def prevalence(self) -> float:
        """Share of malignant images in training."""
        return float(np.array(self.shares)[np.array(self.classes.positive)].sum())

    @property
    def uncalibrated(self) -> np.ndarray:
        """Probability of malignancy as the networks give it, [n]."""
        return malignant_probability(self.logits, self.classes)


def predict_validation(
    config: Config, prepared: Prepared, masks: MaskStore, classifiers: ClassifierEnsemble
) -> Predicted:
    """Every image that some classifier was not trained on, by that one, with the calibration that these fit best.

    Where classes were sampled or weighted to be equal, the calibration first takes that back.
    """
    parts = [
        pair
        for number, rows in validation_rows(config, prepared)
        for pair in classifiers.predict(examples(config, prepared, masks, rows), [number])
    ]
    rows, logits = zip(*parts, strict=True)
    classes = classifiers.classes
    counts = collections.Counter(row.target for rows in training_rows(config, prepared) for row in rows)
    numbers = [counts[target] for target in range(len(classes.names))]
    shares = tuple(number / sum(numbers) for number in numbers)
    shift = _shift(config, numbers, classes)
    values = np.array(logits)
    temperature = fit_temperature(np.array([row.target for row in rows]), values, shift)
    return Predicted(rows, values, Calibration(temperature, shift), classes, shares)


def predict(classifiers: ClassifierEnsemble, source: Source, like: Predicted) -> Predicted:
    """The images of `source`, examples, by all classifiers, with the calibration of `like`."""
    rows, logits = zip(*classifiers.predict(source), strict=True)
    return dataclasses.replace(like, rows=rows, logits=np.array(logits))


def _shift(config: Config, numbers: Sequence[int], classes: Classes) -> tuple[float, ...]:
    """From equal shares of the classes, where training had such, to those of its images."""
    if config.classifier.training.sampling != "balanced" and config.classifier.class_weights != "balanced":
        return (0.0,) * classes.num_logits
    if classes.num_logits == 1:
        return prior_shift(numbers[1] / sum(numbers), 0.5)
    return prior_shift(numbers, [1.0] * len(numbers))
