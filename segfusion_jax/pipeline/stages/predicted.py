"""What the classifiers say of images, calibrated on images that none of them was trained on."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from segfusion_jax.config import Classifier
from segfusion_jax.datasets.classes import judged_of
from segfusion_jax.datasets.table import Row
from segfusion_jax.evaluation.calibration import Calibration, fit_temperature, prior_shift
from segfusion_jax.evaluation.shares import class_counts
from segfusion_jax.input.examples import Source
from segfusion_jax.input.mask_store import MaskRow
from segfusion_jax.models.malignancy import malignancy
from segfusion_jax.pipeline.run import Run
from segfusion_jax.serving.ensembles import Classes, ClassifierEnsemble, class_probabilities, malignant_probability


@dataclasses.dataclass(frozen=True)
class Predicted:
    """Images with what the classifiers say of them.

    Attributes:
      rows: the images.
      logits: float64 [n, logits], as they are.
      calibration: what makes probabilities of them.
      classes: what is told apart.
      shares: share of each class in the images of training, for which the probabilities hold; they add up to 1.
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
        """The number of each image's class or coarse label, [n]."""
        return np.array([row.target for row in self.rows], np.int64)

    @property
    def judged(self) -> "Predicted":
        """The images whose label says whether they are malignant; `labels` are of these only. All, if no class is."""
        return self.where(self.classes.judged[self.targets] >= 0)

    def against_all(self, name: str) -> tuple["Predicted", np.ndarray]:
        """Returns the images whose label says whether they are of the class `name`, and whether they are, [n] bool."""
        said = np.array(judged_of(self.classes.told, name))[self.targets]
        return self.where(said >= 0), said[said >= 0] == 1

    @property
    def diagnosed(self) -> "Predicted":
        """The images whose label is one of the classes."""
        return self.where(self.targets < len(self.classes.names))

    def where(self, chosen: np.ndarray) -> "Predicted":
        """Returns these images without those that are not `chosen`, [n] bool."""
        rows = tuple(row for row, is_chosen in zip(self.rows, chosen, strict=True) if is_chosen)
        return dataclasses.replace(self, rows=rows, logits=self.logits[chosen])

    @property
    def labels(self) -> np.ndarray:
        """Whether each image is malignant, [n] bool.

        Raises:
          ValueError: the label of an image does not say.
        """
        labels = self.classes.judged[self.targets]
        if (labels < 0).any():
            raise ValueError(f"{(labels < 0).sum()} of {len(labels)} labels do not say whether a lesion is malignant")
        return labels.astype(bool)

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
        return float(malignancy(np.array(self.shares), self.classes.positive))

    @property
    def uncalibrated(self) -> np.ndarray:
        """Probability of malignancy as the networks give it, [n]."""
        return malignant_probability(self.logits, self.classes)


def predict_validation(run: Run) -> Predicted:
    """Predicts every image that chose weights, by the classifier that it chose, with the calibration that fits best.

    Where classes were sampled or weighted to be equal, the calibration first takes that back.
    """
    classifiers, classes = run.classifiers, run.classes
    parts = [pair for number, rows in run.split.validation for pair in classifiers.predict(run.bridged(rows), [number])]
    rows, logits = zip(*parts, strict=True)
    possible = classes.told.possible
    numbers = class_counts([row.target for rows in run.split.training for row in rows], possible).tolist()
    shares = tuple(number / sum(numbers) for number in numbers)
    shift = _shift(run.config.classifier, numbers, classes)
    values = np.array(logits)
    temperature = fit_temperature(np.array([row.target for row in rows]), values, shift, possible)
    return Predicted(rows, values, Calibration(temperature, shift), classes, shares)


def predict(classifiers: ClassifierEnsemble, source: Source, like: Predicted) -> Predicted:
    """Predicts the images of `source`, examples, by all classifiers, with the calibration of `like`."""
    rows, logits = zip(*classifiers.predict(source), strict=True)
    return dataclasses.replace(like, rows=rows, logits=np.array(logits))


def table(predicted: Predicted, masks: Mapping[str, MaskRow]) -> tuple[list[str], list[list]]:
    """Returns the columns and the lines of a table of predictions.

    `label` is 1 where `probability` should be high; with more than one logit, the diagnosis and each class follow.
    Where no class is looked for, `label` and `decision` are names of classes, and there is no `probability`.
    """
    classes = predicted.classes
    if not classes.has_sides:
        return _table_of_classes(predicted, masks)
    many = classes.num_logits > 1
    names = classes.names if many else classes.names[1:]
    columns = ["image_id", "group", "label", "probability", "fallback", *(f"logit of {name}" for name in names)]
    lines = [
        [row.image_id, row.group, int(label), repr(float(probability)), masks[row.image_id].fallback]
        + [repr(float(logit)) for logit in logits]
        for row, label, probability, logits in zip(
            predicted.rows, predicted.labels, predicted.malignancy, predicted.logits, strict=True
        )
    ]
    if many:
        columns += ["diagnosis", *classes.names]
        for line, row, probabilities in zip(lines, predicted.rows, predicted.of_classes, strict=True):
            line += [classes.told.labels[row.target], *map(repr, probabilities.tolist())]
    return columns, lines


def _table_of_classes(predicted: Predicted, masks: Mapping[str, MaskRow]) -> tuple[list[str], list[list]]:
    names = predicted.classes.names
    columns = ["image_id", "group", "label", "decision", "fallback", *(f"logit of {name}" for name in names), *names]
    lines = [
        [row.image_id, row.group, names[row.target], names[of_classes.argmax()], masks[row.image_id].fallback]
        + [*map(repr, logits.tolist()), *map(repr, of_classes.tolist())]
        for row, logits, of_classes in zip(predicted.rows, predicted.logits, predicted.of_classes, strict=True)
    ]
    return columns, lines


def _shift(classifier: Classifier, numbers: Sequence[float], classes: Classes) -> tuple[float, ...]:
    """Returns the shift from equal shares of the classes, where training had such, to those of its images."""
    if classifier.training.sampling != "balanced" and classifier.class_weights != "balanced":
        return (0.0,) * classes.num_logits
    if classes.num_logits == 1:
        return prior_shift(numbers[1] / sum(numbers), 0.5)
    return prior_shift(numbers, [1.0] * len(numbers))
