"""A trained model, ready to predict: image, U-Nets, Data Processing Bridge, classifiers."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from segfusion_jax.bridge import masked
from segfusion_jax.bridge.clean import clean
from segfusion_jax.bridge.levels import is_lesion, to_levels
from segfusion_jax.bridge.resize import resize
from segfusion_jax.config import Bridge, Config, Input
from segfusion_jax.evaluation.calibration import Calibration
from segfusion_jax.evaluation.novelty import Novelty
from segfusion_jax.input import arrays
from segfusion_jax.models.malignancy import malignancy
from segfusion_jax.runtime.devices import make_devices
from segfusion_jax.serving.ensembles import (
    Classes,
    ClassifierEnsemble,
    SegmenterEnsemble,
    WholeImages,
    class_probabilities,
    make_segmenters,
)

METADATA = "metadata.json"
"""Name of the file in a model folder that says what the weights beside it are."""
NOVELTY = "novelty.safetensors"
"""Name of the file in a model folder by which unfamiliar images are told."""

SPLIT = "split.csv"
"""Name of the file beside it that says which images they learned from."""

_NEEDED = tuple("config unets classifiers classes positive num_logits temperature shift prevalence threshold".split())

BATCH = 8
"""Images that a loaded model takes at once: a last batch is filled up, and one image alone must not cost too much."""


class Prediction(NamedTuple):
    """What SegFusion says of one image.

    Attributes:
      mask: [height, width] bool lesion, of the image's own size; where `fallback` is set, the whole image.
      probability: probability of 'malignant', in [0, 1]; of a model for melanoma, of melanoma.
      malignant: whether the probability reaches the threshold that was chosen on validation data.
      fallback: "" or why the bridge took the whole image: "empty", "tiny" or "border".
      probabilities: probability of each class by its name, in [0, 1]; they add up to 1.
      novelty: how far the image is from those that the model was trained on, from 0; see `evaluation.novelty`.
      familiar: whether `novelty` is at most 1, as of 99 % of the validation images. Of an image that is not, such as a
        picture of something else, nobody knows what the rest is worth.
      evidence: evidence in the image, as `SegFusion.explain` returns it, where it was asked for.
    """

    mask: np.ndarray
    probability: float
    malignant: bool
    fallback: str
    probabilities: dict[str, float]
    novelty: float
    familiar: bool
    evidence: np.ndarray | None = None


class SegFusion:
    """The whole chain: image, U-Nets, Data Processing Bridge, classifiers.

    Research use only: not a medical device.

    Args:
      config: config of the run that trained the models.
      segmenters: the U-Nets; an image's mask is the mean of all, or, where there are none, the whole image.
      classifiers: the classifiers, whose mean is taken.
      calibration: what is done to their logits.
      prevalence: share of malignant images, in (0, 1), for which the probabilities then hold.
      threshold: probability, at that prevalence, from which an image is called malignant.
      familiarity: tells by features of the first classifier which images are like those that it was trained on.
    """

    def __init__(
        self,
        config: Config,
        segmenters: SegmenterEnsemble | WholeImages,
        classifiers: ClassifierEnsemble,
        *,
        calibration: Calibration,
        prevalence: float,
        threshold: float,
        familiarity: Novelty,
    ):
        self.config = config
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
    def load(cls, folder: str | pathlib.Path, *, compute_dtype: str = "") -> Self:
        """Loads a run's workdir, or the folder `model` in it.

        Args:
          folder: the one or the other.
          compute_dtype: dtype that the networks compute in, as `config.compute_dtype`; "" for the run's own.

        Raises:
          FileNotFoundError: there is no model in the folder, or a file of it is missing.
          ValueError: its weights do not fit its config.
        """
        folder = model_folder(folder)
        metadata = read_metadata(folder / METADATA)
        config = Config.from_json(json.dumps(metadata["config"]))
        dtype = compute_dtype or config.compute_dtype
        config = dataclasses.replace(config, input=Input(), compute_dtype=dtype)
        devices = make_devices(config.parallel)
        segmenters = make_segmenters(config, devices, [folder / name for name in metadata["unets"]], batch_size=BATCH)
        names, positive = tuple(metadata["classes"]), metadata["positive"]
        classes = Classes(names, tuple(name in positive for name in names), metadata["num_logits"])
        weights = [folder / name for name in metadata["classifiers"]]
        classifiers = ClassifierEnsemble(config, devices, weights, classes, batch_size=BATCH)
        return cls(
            config,
            segmenters,
            classifiers,
            calibration=Calibration(metadata["temperature"], tuple(metadata["shift"])),
            prevalence=metadata["prevalence"],
            threshold=metadata["threshold"],
            familiarity=Novelty.load(folder / NOVELTY),
        )

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
          ValueError: an array is not uint8 [height, width, 3], a file is not an image, `images` is a single one, or
            the prevalence is not in (0, 1).
        """
        if prevalence is not None and not 0 < prevalence < 1:
            raise ValueError(f"prevalence = {prevalence!r}: must be in (0, 1)")
        loaded = arrays.load(images)
        if not loaded:
            return []
        masks, fallbacks = self._masks(loaded)
        bridged = self._bridged(loaded, masks)
        classified = self.classifiers.predict(bridged)
        predictions = [
            self._prediction(resize(mask, image.shape[:2]), logits, fallback, prevalence, novelty)
            for image, mask, (_, logits), fallback, novelty in zip(
                loaded, masks, classified, fallbacks, self.novelty(loaded), strict=True
            )
        ]
        if not explain:
            return predictions
        return [
            prediction._replace(evidence=_placed(evidence, image.shape[:2], mask, self.config.bridge))
            for prediction, image, mask, (_, evidence) in zip(
                predictions, loaded, masks, self.classifiers.explain(bridged), strict=True
            )
        ]

    def explain(self, images: np.ndarray | Sequence[np.ndarray | str | pathlib.Path]) -> list[np.ndarray]:
        """Returns where in each image the classifiers find evidence for malignancy (above 0) and against it (below 0).

        Args:
          images: as in `predict`.

        Returns:
          float32 [height, width] of each image: evidence as `steps.make_explain` defines it, interpolated from its
          coarse grid; 0 outside of what a crop mode shows the classifiers.

        Raises:
          ValueError: as `predict`.
        """
        evidence = (prediction.evidence for prediction in self.predict(images, explain=True))
        return [one for one in evidence if one is not None]

    def novelty(self, images: np.ndarray | Sequence[np.ndarray | str | pathlib.Path]) -> list[float]:
        """Returns how unlike the training images each image is, as `Prediction.novelty`, without predicting.

        Args:
          images: as in `predict`.

        Raises:
          ValueError: as `predict`.
        """
        loaded = arrays.load(images)
        if not loaded:
            return []
        described = self.classifiers.describe(arrays.Arrays(loaded, self.classifiers.novelty_size))
        return self.familiarity.score(np.stack([features for _, features in described])).tolist()

    def _masks(self, images: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[str]]:
        """Returns the cleaned mask of each image, uint8 of the U-Nets' size, and why it fell back."""
        probabilities = self.segmenters.predict(arrays.Arrays(images, self.config.segmenter.image_size))
        quantised = [to_levels(probability) for _, probability in probabilities]
        masks, fallbacks = zip(*(clean(mask, self.config.bridge) for mask in quantised), strict=True)
        return list(masks), list(fallbacks)

    def _bridged(self, images: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> arrays.Arrays:
        framed = [masked.frame(*pair, self.config.bridge) for pair in zip(images, masks, strict=True)]
        inputs, input_masks = zip(*framed, strict=True)
        return arrays.Arrays(inputs, self.config.classifier.image_size, input_masks)

    def _prediction(
        self, mask: np.ndarray, logits: np.ndarray, fallback: str, prevalence: float | None, novelty: float
    ) -> Prediction:
        positive = np.array(self.classifiers.classes.positive)
        shares = class_probabilities(self.calibration.apply(logits[None])[0])
        malignant = bool(malignancy(shares, positive) >= self.threshold)
        if prevalence is not None:
            own = self.prevalence
            shares = shares * np.where(positive, prevalence / own, (1 - prevalence) / (1 - own))
            shares = shares / shares.sum()
        probabilities = dict(zip(self.classes, shares.tolist(), strict=True))
        probability = float(malignancy(shares, positive))
        return Prediction(
            is_lesion(mask, self.config.bridge), probability, malignant, fallback, probabilities, novelty, novelty <= 1
        )


def model_folder(folder: str | pathlib.Path) -> pathlib.Path:
    """Returns a folder that holds a model, or the folder `model` in it.

    Raises:
      FileNotFoundError: neither does.
    """
    folder = pathlib.Path(folder).expanduser()
    for path in (folder, folder / "model"):
        if (path / METADATA).exists():
            return path
    where = f"{folder} holds no {METADATA}, nor does its folder 'model'"
    raise FileNotFoundError(f"{where}: give the folder of a released model, or a finished workdir")


def read_metadata(path: pathlib.Path) -> dict[str, Any]:
    """Returns what the file METADATA of a model folder says.

    Raises:
      ValueError: it is no such file.
    """
    try:
        metadata = json.loads(path.read_text())
        missing = [name for name in _NEEDED if name not in metadata] if isinstance(metadata, dict) else list(_NEEDED)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if missing:
        raise ValueError(f"{path} describes no model of segfusion_jax: it holds no {', '.join(missing)}")
    return metadata


def _placed(evidence: np.ndarray, size: tuple[int, int], mask: np.ndarray, bridge: Bridge) -> np.ndarray:
    """Lays evidence on the grid of what the bridge shows into the frame of the image, which is of `size`."""
    height, width = size
    numbers, _ = masked.frame(np.arange(height * width, dtype=np.int32).reshape(size), mask, bridge)
    top, left = divmod(int(numbers[0, 0]), width)
    rows, columns = numbers.shape
    placed = np.zeros(size, np.float32)
    placed[top : top + rows, left : left + columns] = resize(evidence, (rows, columns))
    return placed
