"""A trained model, ready to predict: image, U-Nets, Data Processing Bridge, classifiers."""

import dataclasses
import logging
import pathlib
from collections.abc import Collection, Sequence
from typing import NamedTuple, Self

import numpy as np

from segfusion_jax.bridge import masked
from segfusion_jax.bridge.clean import clean
from segfusion_jax.bridge.levels import is_lesion, to_levels
from segfusion_jax.bridge.resize import resize
from segfusion_jax.config import Bridge, Config, Input, is_plugin
from segfusion_jax.datasets import colours
from segfusion_jax.evaluation.calibration import Calibration
from segfusion_jax.evaluation.novelty import Novelty
from segfusion_jax.input import arrays
from segfusion_jax.input.examples import Batch
from segfusion_jax.models.malignancy import malignancy
from segfusion_jax.runtime.devices import make_devices
from segfusion_jax.runtime.plugins import digest
from segfusion_jax.runtime.plugins import load as load_plugin
from segfusion_jax.serving import pretrained
from segfusion_jax.serving.ensembles import (
    Classes,
    ClassifierEnsemble,
    SegmenterEnsemble,
    WholeImages,
    class_probabilities,
    make_segmenters,
)
from segfusion_jax.serving.model_folder import NOVELTY, ModelFolder, open_folder

_log = logging.getLogger(__name__)

BATCH = 8
"""Images that a loaded model takes at once: a last batch is filled up, and one image alone must not cost too much."""


class Prediction(NamedTuple):
    """What SegFusion says of one image.

    Attributes:
      mask: [height, width] bool lesion, of the image's own size; where `fallback` is set, the whole image.
      probability: probability of 'malignant', in [0, 1]; of a model for melanoma, of melanoma; of a model of somebody's
        own classes, of those that are looked for, and None where none is.
      malignant: whether the probability reaches the threshold that was chosen on validation data; None without one.
      fallback: "" or why the bridge took the whole image: "empty", "tiny" or "border".
      probabilities: probability of each class by its name, in [0, 1]; they add up to 1.
      novelty: how far the image is from those that the model was trained on, from 0; see `evaluation.novelty`.
      familiar: whether `novelty` is at most 1, as of 99 % of the validation images. Of an image that is not, such as a
        picture of something else, nobody knows what the rest is worth.
      evidence: evidence in the image, as `SegFusion.explain` returns it, where it was asked for.
      bridged: [height, width, 3] uint8, the image as the bridge shows it to the classifiers, where the evidence was
        asked for.
    """

    mask: np.ndarray
    probability: float | None
    malignant: bool | None
    fallback: str
    probabilities: dict[str, float]
    novelty: float
    familiar: bool
    evidence: np.ndarray | None = None
    bridged: np.ndarray | None = None

    @property
    def most_probable(self) -> str:
        """The name of the most probable class."""
        return max(self.probabilities, key=self.probabilities.__getitem__)


class SegFusion:
    """The whole chain: image, U-Nets, Data Processing Bridge, classifiers.

    Research use only: not a medical device.

    Args:
      config: config of the run that trained the models.
      segmenters: the U-Nets; an image's mask is the mean of all, or, where there are none, the whole image.
      classifiers: the classifiers, whose mean is taken.
      calibration: what is done to their logits.
      prevalence: share of malignant images, in (0, 1), for which the probabilities then hold; None where no class is
        looked for.
      threshold: probability, at that prevalence, from which an image is called malignant; None likewise.
      familiarity: tells by features of the first classifier which images are like those that it was trained on.
      folder: where all of it was loaded from; None where it was put together.
    """

    def __init__(
        self,
        config: Config,
        segmenters: SegmenterEnsemble | WholeImages,
        classifiers: ClassifierEnsemble,
        *,
        calibration: Calibration,
        prevalence: float | None,
        threshold: float | None,
        familiarity: Novelty,
        folder: ModelFolder | None = None,
    ):
        self.config = config
        self.folder = folder
        self.calibration = calibration
        self.prevalence = prevalence
        self.threshold = threshold
        self.segmenters = segmenters
        self.classifiers = classifiers
        self.familiarity = familiarity

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of what the classifiers tell apart."""
        return self.classifiers.classes.names

    @classmethod
    def load(cls, folder: str | pathlib.Path, *, compute_dtype: str = "", plugins: Collection[str] = ()) -> Self:
        """Loads a run's workdir, or the folder `model` in it.

        Args:
          folder: the one or the other.
          compute_dtype: dtype that the networks compute in, as `config.compute_dtype`; "" for the run's own.
          plugins: names, "package.module:name", of code that may be imported where the model's backbone is somebody's
            own. Nothing that is not named here is.

        Raises:
          FileNotFoundError: there is no model in the folder, or a file of it is missing.
          ValueError: a file of it was changed since the folder was made, a field of its metadata is out of its bounds,
            or its weights are not finite or do not fit its config; or it needs code that `plugins` does not name.
        """
        opened = open_folder(folder)
        metadata = opened.metadata
        _check_backbone(opened, plugins)
        dtype = compute_dtype or metadata.config.compute_dtype
        config = dataclasses.replace(metadata.config, input=Input(), compute_dtype=dtype)
        devices = make_devices(config.parallel)
        unets, classifiers = (
            [opened.path / name for name in names] for names in (metadata.unets, metadata.classifiers)
        )
        classes = Classes(metadata.classes, metadata.positive, metadata.num_logits, own=bool(config.data.own_classes))
        return cls(
            config,
            make_segmenters(config, devices, unets, batch_size=BATCH),
            ClassifierEnsemble(config, devices, classifiers, classes, batch_size=BATCH),
            calibration=metadata.calibration,
            prevalence=metadata.prevalence,
            threshold=metadata.threshold,
            familiarity=Novelty.load(opened.path / NOVELTY),
            folder=opened,
        )

    @classmethod
    def from_pretrained(
        cls,
        name: str | pathlib.Path,
        *,
        sha256: str = "",
        revision: str = "main",
        compute_dtype: str = "",
        plugins: Collection[str] = (),
    ) -> Self:
        """Loads a released model from wherever it is, fetching what is not in this user's cache.

        Each file is checked by the SHA-256 that the model's manifest has of it, and a fetch that was cut off goes on
        where it stopped.

        Args:
          name: a folder, as of `load`; the address of one, https://...; or a repository of the Hugging Face hub,
            OWNER/NAME (extra [hub]), where no folder is called so.
          sha256: SHA-256 of the model's manifest.json, as the report and `segfusion predict` state it. Without it,
            nobody knows that the model is the one that is meant, only that its files belong together. With it, a model
            that is in the cache is loaded without asking the web.
          revision: branch, tag or commit of the repository.
          compute_dtype, plugins: as of `load`.

        Raises:
          FileNotFoundError, ValueError: as `load`; or it is another model than `sha256` says.
          OSError: it cannot be fetched.
        """
        folder = pretrained.find(name, sha256=sha256, revision=revision)
        pretrained.check_digest(open_folder(folder), sha256)
        return cls.load(folder, compute_dtype=compute_dtype, plugins=plugins)

    def predict(
        self,
        images: np.ndarray | Sequence[np.ndarray | str | pathlib.Path],
        *,
        prevalence: float | None = None,
        explain: bool = False,
    ) -> list[Prediction]:
        """Segments and classifies images. All are in memory at once: of very many, pass a few dozen at a time.

        Args:
          images: uint8 [N, height, width, 3] RGB, or a sequence of uint8 [height, width, 3] arrays and paths of JPEG
            or PNG files, of any sizes.
          prevalence: share of malignant images, in (0, 1), where the model is used; None for the model's own. It
            changes the probabilities: the odds of malignancy are multiplied by those of this prevalence over those of
            the own one (Saerens et al., Neural Computation 14, 2002). The decisions stay what they are at the own
            prevalence, since the operating point is a trade of sensitivity for specificity, which no prevalence moves.
          explain: whether the predictions bring their evidence.

        Raises:
          ValueError: an array is not uint8 [height, width, 3], a file is not an image, `images` is a single one, the
            prevalence is not in (0, 1) or the model looks for no class, or the networks return for an image what is not
            finite.
        """
        if prevalence is not None and self.prevalence is None:
            raise ValueError(f"prevalence = {prevalence!r}: must be None, since {_no_sides(self.classes)}")
        if prevalence is not None and not 0 < prevalence < 1:
            raise ValueError(f"prevalence = {prevalence!r}: must be in (0, 1)")
        loaded = self._loaded(images)
        if not loaded:
            return []
        masks, fallbacks = self._masks(loaded)
        bridged = self._bridged(loaded, masks)
        classified = self.classifiers.predict(bridged)
        predictions = [
            self._prediction(resize(mask, image.shape[:2]), finite(logits, "logit", row), fallback, prevalence, novelty)
            for image, mask, (row, logits), fallback, novelty in zip(
                loaded, masks, classified, fallbacks, self._novelty(loaded), strict=True
            )
        ]
        if not explain:
            return predictions
        evidence = self._evidence(loaded, masks, bridged)
        return [
            prediction._replace(evidence=evidence[row], bridged=_shown(bridged[row], self.config.bridge))
            for row, prediction in enumerate(predictions)
        ]

    def explain(self, images: np.ndarray | Sequence[np.ndarray | str | pathlib.Path]) -> list[np.ndarray]:
        """Returns where in each image the classifiers find evidence for malignancy (above 0) and against it (below 0).

        Where no class is looked for, it is evidence for the class that each classifier finds the most probable.

        Args:
          images: as in `predict`.

        Returns:
          float32 [height, width] of each image: evidence as `steps.make_explain` defines it, interpolated from its
          coarse grid; 0 outside of what a crop mode shows the classifiers.

        Raises:
          ValueError: as `predict`.
        """
        loaded = arrays.load(images)
        if not loaded:
            return []
        masks, _ = self._masks(loaded)
        return self._evidence(loaded, masks, self._bridged(loaded, masks))

    def novelty(self, images: np.ndarray | Sequence[np.ndarray | str | pathlib.Path]) -> list[float]:
        """Returns how unlike the training images each image is, as `Prediction.novelty`, without predicting.

        Args:
          images: as in `predict`.

        Raises:
          ValueError: as `predict`.
        """
        return self._novelty(self._loaded(images))

    def _loaded(self, images: np.ndarray | Sequence[np.ndarray | str | pathlib.Path]) -> Sequence[np.ndarray]:
        """Returns images as those of training were stored: in even light, where `data.illumination` is "even"."""
        loaded = arrays.load(images)
        return [colours.even(image) for image in loaded] if self.config.data.illumination == "even" else loaded

    def _novelty(self, loaded: Sequence[np.ndarray]) -> list[float]:
        if not loaded:
            return []
        described = self.classifiers.describe(arrays.Arrays(loaded, self.classifiers.novelty_size))
        return self.familiarity.score(np.stack([finite(found, "feature", row) for row, found in described])).tolist()

    def decision(self, prediction: Prediction) -> str:
        """Returns what an image is called by its prediction: a side, or, without sides, the most probable class."""
        if prediction.malignant is None:
            return prediction.most_probable
        return self.classifiers.classes.binary_names[prediction.malignant]

    def _masks(self, images: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[str]]:
        """Returns the cleaned mask of each image, uint8 of the U-Nets' size, and why it fell back."""
        probabilities = self.segmenters.predict(arrays.Arrays(images, self.config.segmenter.image_size))
        quantised = [to_levels(finite(probability, "lesion probability", row)) for row, probability in probabilities]
        masks, fallbacks = zip(*(clean(mask, self.config.bridge) for mask in quantised), strict=True)
        return list(masks), list(fallbacks)

    def _bridged(self, images: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> arrays.Arrays:
        framed = [masked.frame(*pair, self.config.bridge) for pair in zip(images, masks, strict=True)]
        inputs, input_masks = zip(*framed, strict=True)
        return arrays.Arrays(inputs, self.config.classifier.image_size, input_masks)

    def _evidence(
        self, images: Sequence[np.ndarray], masks: Sequence[np.ndarray], bridged: arrays.Arrays
    ) -> list[np.ndarray]:
        explained = (finite(evidence, "evidence", row) for row, evidence in self.classifiers.explain(bridged))
        return [
            _placed(evidence, image.shape[:2], mask, self.config.bridge)
            for image, mask, evidence in zip(images, masks, explained, strict=True)
        ]

    def _prediction(
        self, mask: np.ndarray, logits: np.ndarray, fallback: str, prevalence: float | None, novelty: float
    ) -> Prediction:
        positive = np.array(self.classifiers.classes.positive)
        shares = class_probabilities(self.calibration.apply(logits[None])[0])
        malignant = None if self.threshold is None else bool(malignancy(shares, positive) >= self.threshold)
        if prevalence is not None and self.prevalence is not None:
            shares = at_prevalence(shares, positive, own=self.prevalence, prevalence=prevalence)
        probabilities = dict(zip(self.classes, shares.tolist(), strict=True))
        probability = None if self.threshold is None else float(malignancy(shares, positive))
        return Prediction(
            is_lesion(mask, self.config.bridge), probability, malignant, fallback, probabilities, novelty, novelty <= 1
        )


def at_prevalence(shares: np.ndarray, positive: np.ndarray, *, own: float, prevalence: float) -> np.ndarray:
    """Returns probabilities of classes as they are at another prevalence of malignant images.

    Args:
      shares: [classes] probabilities, which add up to 1, at the prevalence `own`.
      positive: [classes] bool, whether each counts as malignant.
      own: prevalence in (0, 1) for which `shares` hold.
      prevalence: the other one, in (0, 1).
    """
    shifted = shares * np.where(positive, prevalence / own, (1 - prevalence) / (1 - own))
    return shifted / shifted.sum()


def _check_backbone(folder: ModelFolder, allowed: Collection[str]) -> None:
    """Checks that the code of the model's backbone, where it is somebody's own, is named by the user, and loads it."""
    name = folder.metadata.config.classifier.backbone
    if not is_plugin(name):
        return
    if name not in allowed:
        raise ValueError(
            f"{folder.path}: the model's backbone is code of its maker, {name!r}, which would be imported and run; "
            f"nothing was. If you trust it, name it: SegFusion.load(..., plugins=[{name!r}]), or --plugin {name}"
        )
    load_plugin(name, "classifier.backbone")
    if digest(name) != folder.metadata.plugins.get(name):
        _log.warning("%s: the code of %s is not what the model was trained with, by its SHA-256", folder.path, name)


def _no_sides(names: Sequence[str]) -> str:
    return f"none of the model's classes ({', '.join(names)}) is looked for"


def finite(values: np.ndarray, what: str, image: object) -> np.ndarray:
    """Returns what a network says of an image, if all of it is finite.

    Raises:
      ValueError: it is not, so that nothing may be decided by it; names the image.
    """
    if not np.isfinite(values).all():
        raise ValueError(f"image {image}: the networks return a {what} that is not finite, so nothing is said of it")
    return values


def _shown(example: Batch, bridge: Bridge) -> np.ndarray:
    """Returns what the classifiers see of an example, uint8 RGB."""
    image, mask = (np.float32(example[name]) / 255 for name in ("image", "mask"))
    return np.round(255 * masked.apply(image, mask, bridge)[..., :3]).astype(np.uint8)


def _placed(evidence: np.ndarray, size: tuple[int, int], mask: np.ndarray, bridge: Bridge) -> np.ndarray:
    """Lays evidence on the grid of what the bridge shows into the frame of the image, which is of `size`."""
    height, width = size
    numbers, _ = masked.frame(np.arange(height * width, dtype=np.int32).reshape(size), mask, bridge)
    top, left = divmod(int(numbers[0, 0]), width)
    rows, columns = numbers.shape
    placed = np.zeros(size, np.float32)
    placed[top : top + rows, left : left + columns] = resize(evidence, (rows, columns))
    return placed
