"""Trained models, ready to predict: the U-Nets, the classifier, and `SegFusion`, which joins them."""

import dataclasses
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from segfusion_jax import bridge as bridging
from segfusion_jax.config import Config, Input
from segfusion_jax.datasets import images as image_files
from segfusion_jax.datasets.files import DiskFile
from segfusion_jax.input import decode
from segfusion_jax.input.loader import Batch, Source
from segfusion_jax.models.from_config import make_classifier, make_unet
from segfusion_jax.models.pretrained import load_weights
from segfusion_jax.parallel import Devices, make_devices
from segfusion_jax.training import steps
from segfusion_jax.training.predict import predict

METADATA = "metadata.json"
"""Name of the file in a model folder that says what the weights beside it are."""


@dataclasses.dataclass(frozen=True)
class Classes:
    """What a classifier tells apart.

    Attributes:
      names: by number.
      positive: whether each counts as malignant; with `data.target` "melanoma", as melanoma.
      num_logits: of the network: one a class with `data.target` "diagnosis"; otherwise 1, of class 1.
    """

    names: tuple[str, ...]
    positive: tuple[bool, ...]
    num_logits: int

    @property
    def sides(self) -> tuple[str, str]:
        """What the classes that are not positive are called together, and those that are."""
        return self.names if self.num_logits == 1 else ("benign", "malignant")  # pyright: ignore[reportReturnType]


class Segmenters:
    """The cross-fitted U-Nets.

    Args:
      config: of the run that trained them.
      devices: where they run.
      weights: their files, by the fold that each never saw.
    """

    def __init__(self, config: Config, devices: Devices, weights: Sequence[pathlib.Path]):
        unet = make_unet(config.segmenter, seed=0, dtype=devices.compute_dtype(config.compute_dtype))
        unets = [load_weights(path, unet) for path in weights]
        self._variables = [(unet.params, unet.batch_stats) for unet in unets]
        self._compiled = devices.compile_predict(steps.make_segment(unets[0]))
        self._config = config
        self._devices = devices

    def predict(self, source: Source, unets: Sequence[int] | None = None) -> Iterator[tuple[Any, np.ndarray]]:
        """Yields each example's row and lesion probability [height, width] float32.

        It is the mean of the U-Nets named by `unets`, or of all.
        """
        chosen = self._variables if unets is None else [self._variables[unet] for unet in unets]
        variables = jax.tree.map(lambda *leaves: jnp.stack(leaves), *chosen)
        batch_size = self._devices.round_up(self._config.segmenter.training.batch_size)
        return predict(
            self._compiled,
            variables,
            source,
            batch_size=batch_size,
            devices=self._devices,
            config=self._config.input,
        )


class Classifier:
    """The classifier.

    Args:
      config: of the run that trained it.
      devices: where it runs.
      weights: its file.
      classes: what it tells apart.
    """

    def __init__(self, config: Config, devices: Devices, weights: pathlib.Path, classes: Classes):
        dtype = devices.compute_dtype(config.compute_dtype)
        classifier = make_classifier(
            config.classifier, config.bridge, seed=0, dtype=dtype, num_logits=classes.num_logits
        )
        classifier = load_weights(weights, classifier)
        self.classes = classes
        self._variables = (classifier.params, classifier.batch_stats)
        class_scores = steps.make_class_scores(classifier, config.bridge, classes.positive)
        self._compiled = devices.compile_predict(class_scores)
        self._config = config
        self._devices = devices

    def predict(self, source: Source) -> Iterator[tuple[Any, float, np.ndarray]]:
        """Yields each example's row, probability of 'malignant', and probabilities of the classes, float64 [classes].

        The examples bring their masks.
        """
        batch_size = self._devices.round_up(self._config.classifier.training.batch_size)
        predicted = predict(
            self._compiled,
            self._variables,
            source,
            batch_size=batch_size,
            devices=self._devices,
            config=self._config.input,
        )
        return (
            (row, float(sigmoid(scores["malignant"])), class_probabilities(scores["logits"]))
            for row, scores in predicted
        )


class Prediction(NamedTuple):
    """What SegFusion says of one image.

    Attributes:
      mask: [height, width] bool lesion, of the image's own size; where `fallback` is set, the whole image.
      probability: of 'malignant', in [0, 1]; of a model for melanoma, of melanoma.
      malignant: whether the probability reaches the threshold that was chosen on validation data.
      fallback: "" or why the bridge took the whole image: "empty", "tiny" or "border".
      probabilities: of each class by its name, in [0, 1]; they add up to 1.
    """

    mask: np.ndarray
    probability: float
    malignant: bool
    fallback: str
    probabilities: dict[str, float]


class SegFusion:
    """The whole chain: image, U-Nets, Data Processing Bridge, classifier.

    Research use only: not a medical device.

    Args:
      config: of the run that trained the models.
      segmenters: the U-Nets; an image's mask is the mean of all.
      classifier: the classifier.
      threshold: probability from which an image is called malignant.
    """

    def __init__(self, config: Config, segmenters: Segmenters, classifier: Classifier, threshold: float):
        self.config = config
        self.threshold = threshold
        self._segmenters = segmenters
        self._classifier = classifier

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of what the classifier tells apart."""
        return self._classifier.classes.names

    @classmethod
    def load(cls, folder: str | pathlib.Path) -> Self:
        """Loads a run's workdir, or the folder `model` in it.

        Raises:
          FileNotFoundError: there is no model in the folder.
          ValueError: its weights do not fit its config.
        """
        folder = pathlib.Path(folder).expanduser()
        folders = [path for path in (folder, folder / "model") if (path / METADATA).exists()]
        if not folders:
            raise FileNotFoundError(
                f"{folder} holds no {METADATA}, nor does its folder 'model': give a finished workdir"
            )
        metadata = json.loads((folders[0] / METADATA).read_text())
        config = Config.from_json(json.dumps(metadata["config"]))
        config = dataclasses.replace(config, input=Input())
        devices = make_devices(config.parallel)
        segmenters = Segmenters(config, devices, [folders[0] / name for name in metadata["unets"]])
        names, positive = tuple(metadata["classes"]), metadata["positive"]
        classes = Classes(names, tuple(name in positive for name in names), metadata["num_logits"])
        classifier = Classifier(config, devices, folders[0] / metadata["classifiers"][0], classes)
        return cls(config, segmenters, classifier, metadata["threshold"])

    def predict(self, images: np.ndarray | Sequence[np.ndarray | str | pathlib.Path]) -> list[Prediction]:
        """Segments and classifies images.

        Args:
          images: uint8 [N, height, width, 3] RGB, or a sequence of uint8 [height, width, 3] arrays and paths of JPEG
            or PNG files, of any sizes.

        Raises:
          ValueError: an array is not uint8 [height, width, 3], a file is not an image, or `images` is a single path.
        """
        if isinstance(images, str | pathlib.Path):
            raise ValueError(f"images = {str(images)!r}: must be a sequence, such as [{str(images)!r}]")
        loaded = [_load(image, number) for number, image in enumerate(images)]
        if not loaded:
            return []
        probabilities = self._segmenters.predict(_Images(loaded, self.config.segmenter.image_size))
        quantised = [np.round(p * bridging.WHOLE).astype(np.uint8) for _, p in probabilities]
        masks, fallbacks = zip(*(bridging.clean(mask, self.config.bridge) for mask in quantised), strict=True)
        framed = [bridging.frame(*pair, self.config.bridge) for pair in zip(loaded, masks, strict=True)]
        inputs, input_masks = zip(*framed, strict=True)
        classified = self._classifier.predict(_Images(inputs, self.config.classifier.image_size, input_masks))
        limit = self.config.bridge.threshold * bridging.WHOLE
        return [
            Prediction(
                decode.resize(mask, image.shape[:2]) >= limit,
                probability,
                probability >= self.threshold,
                fallback,
                dict(zip(self.classes, of_classes.tolist(), strict=True)),
            )
            for image, mask, (_, probability, of_classes), fallback in zip(
                loaded, masks, classified, fallbacks, strict=True
            )
        ]


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-logits)) in float64."""
    return 1 / (1 + np.exp(-np.asarray(logits, np.float64)))


def class_probabilities(logits: np.ndarray) -> np.ndarray:
    """Logits [..., 1] (sigmoid) or [..., classes] (softmax) to probabilities of the classes, float64 [..., classes]."""
    if logits.shape[-1] == 1:
        second = sigmoid(logits)
        return np.concatenate([1 - second, second], axis=-1)
    return special.softmax(np.asarray(logits, np.float64), axis=-1)


@dataclasses.dataclass(frozen=True)
class _Images:
    """Arrays as a source of examples; rows are their numbers."""

    images: Sequence[np.ndarray]
    image_size: tuple[int, int]
    masks: Sequence[np.ndarray] | None = None

    @property
    def rows(self) -> Sequence[int]:
        return range(len(self.images))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        mask = np.zeros(self.image_size, np.uint8) if self.masks is None else self.masks[index]
        return {
            "image": decode.resize(self.images[index], self.image_size),
            "mask": decode.resize(mask, self.image_size)[..., None],
            "label": np.int32(-1),
            "weight": np.float32(1),
        }


def _load(image: np.ndarray | str | pathlib.Path, number: int) -> np.ndarray:
    if isinstance(image, str | pathlib.Path):
        path = pathlib.Path(image).expanduser()
        if not path.exists():
            raise FileNotFoundError(f"{image}: no such file")
        try:
            return image_files.read(DiskFile(path, path.stat().st_size))
        except ValueError as error:
            raise ValueError(f"{image}: {error}") from error
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ValueError(f"image {number} is {array.dtype} {array.shape}: must be uint8 (height, width, 3)")
    return array
