"""Trained networks of one kind, ready to predict together: U-Nets, classifiers, and what these tell apart."""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from segfusion_jax.config import Config, Data, is_plugin
from segfusion_jax.datasets.classes import Told, judged, positive, sides
from segfusion_jax.input.examples import Source
from segfusion_jax.models.from_config import make_classifier, make_unet
from segfusion_jax.models.functional import Functional
from segfusion_jax.models.malignancy import malignancy
from segfusion_jax.models.pretrained import load_weights
from segfusion_jax.ops import native
from segfusion_jax.runtime import plugins
from segfusion_jax.runtime.devices import Devices
from segfusion_jax.training import steps
from segfusion_jax.training.predict import predict

_OF_TRAINING = ("training", "augmentation", "pretrained", "pretrained_head", "seed")
"""Fields of networks by which their prediction computes nothing else."""

DESCRIBED = 112
"""Pixels a side, at most, by which an image is told to be familiar: in finer ones, sharpness and JPEG tell too much."""


@dataclasses.dataclass(frozen=True)
class Classes:
    """What a classifier tells apart.

    Attributes:
      names: name of each class, by number.
      positive: whether each counts as malignant; with `data.target` "melanoma", as melanoma; of somebody's own classes,
        as one that is looked for, which none need be.
      num_logits: number of logits of the network: one a class with `data.target` "diagnosis" and with `data.classes`;
        otherwise 1, of class 1.
      coarse: labels that leave several classes possible, as in `datasets.classes.Told`, where images have such.
      own: whether they are somebody's own, so that nobody says that one is malignant.
    """

    names: tuple[str, ...]
    positive: tuple[bool, ...]
    num_logits: int
    coarse: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    own: bool = False

    @classmethod
    def of(cls, told: Told, data: Data) -> Self:
        """Returns the classes of a run."""
        own = bool(data.own_classes)
        num_logits = len(told.classes) if own or data.target == "diagnosis" else 1
        return cls(told.classes, positive(told.classes, data), num_logits, told.coarse, own)

    @property
    def told(self) -> Told:
        """The classes and the labels that images have."""
        return Told(self.names, dict(self.coarse))

    @property
    def judged(self) -> np.ndarray:
        """Whether each target is positive, int [targets]: 1, 0, or -1 where a coarse label may be both."""
        return np.array(judged(self.told, self.positive))

    @property
    def has_sides(self) -> bool:
        """Whether some classes are looked for; of others an image is but called the most probable one."""
        return any(self.positive)

    @property
    def binary_names(self) -> tuple[str, str]:
        """What the classes that are not positive are called together, and those that are.

        Raises:
          ValueError: no class is positive.
        """
        if self.own:
            found = sides(self.names, self.positive)
            if found is None:
                raise ValueError(f"none of {', '.join(self.names)} is looked for: there are no two sides")
            return found
        return self.names if self.num_logits == 1 else ("benign", "malignant")  # pyright: ignore[reportReturnType]


class _Ensemble:
    """Networks of one shape, and how several of them predict."""

    def __init__(self, networks: Sequence[Functional], config: Config, devices: Devices, *, batch_size: int):
        self._variables = [(network.params, network.batch_stats) for network in networks]
        self._all = devices.replicate(_stacked(self._variables))
        self._batch_size = batch_size
        self._config = config
        self._devices = devices

    @property
    def variables(self) -> Any:
        """What the pure function `(variables, batch) -> outputs` of the ensemble takes of all networks."""
        return _stacked(self._variables)

    def _run(self, compiled, source: Source, members: Sequence[int] | None) -> Iterator[tuple[Any, np.ndarray]]:
        size = self._devices.round_up(1 if len(source.rows) == 1 else self._batch_size)
        common: dict[str, Any] = dict(batch_size=size, devices=self._devices, config=self._config.input)
        variables = self._all if members is None else _stacked([self._variables[member] for member in members])
        return predict(compiled, variables, source, **common)


class SegmenterEnsemble(_Ensemble):
    """The cross-fitted U-Nets. `segment`, a pure function, takes their `variables` and a batch to probabilities.

    Args:
      config: config of the run that trained them; `segmenter.test_time_augmentation` counts.
      devices: where they run.
      weights: weight files, by the fold that each never saw.
      batch_size: images that are predicted at once; 0 = that of the training.
    """

    def __init__(self, config: Config, devices: Devices, weights: Sequence[pathlib.Path], *, batch_size: int = 0):
        unet = make_unet(config.segmenter, seed=None, dtype=devices.compute_dtype(config.compute_dtype))
        unets = [load_weights(path, unet) for path in weights]
        self.segment = steps.make_ensemble(steps.make_segment(unets[0], config.segmenter.test_time_augmentation))
        self._compiled = devices.compile_predict(self.segment, identity=_identity("segment", config, unets))
        batch_size = batch_size or config.segmenter.training.batch_size
        super().__init__(unets, config, devices, batch_size=batch_size)

    def predict(self, source: Source, unets: Sequence[int] | None = None) -> Iterator[tuple[Any, np.ndarray]]:
        """Yields each example's row and lesion probability [height, width] float32.

        It is the mean of the U-Nets named by `unets`, or of all, and of the orientations in test-time augmentation.
        """
        return self._run(self._compiled, source, unets)


class WholeImages:
    """What stands for U-Nets where there are none: all of every image is lesion, so the bridge takes it whole."""

    variables: tuple[()] = ()

    def segment(self, variables: tuple[()], batch: Mapping[str, jax.Array]) -> jax.Array:
        """Returns the probability of lesion, 1 everywhere, [batch, height, width] float32."""
        del variables
        return jnp.ones(batch["image"].shape[:3], jnp.float32)

    def predict(self, source: Source, unets: Sequence[int] | None = None) -> Iterator[tuple[Any, np.ndarray]]:
        """Yields each example's row and 1 everywhere, [height, width] float32."""
        del unets
        for number, row in enumerate(source.rows):
            yield row, np.ones(source[number]["image"].shape[:2], np.float32)


def make_segmenters(
    config: Config, devices: Devices, weights: Sequence[pathlib.Path], *, batch_size: int = 0
) -> SegmenterEnsemble | WholeImages:
    """Returns the U-Nets of some weight files, see `SegmenterEnsemble`; of none, what stands for them."""
    return SegmenterEnsemble(config, devices, weights, batch_size=batch_size) if weights else WholeImages()


class ClassifierEnsemble(_Ensemble):
    """The classifier, or those of an ensemble. Pure functions take their `variables` and a batch: `classify` to logits,
    `attribute` to what `explain` yields, and `characterise`, of whole images, to what `describe` yields.

    Args:
      config: config of the run that trained them; `classifier.test_time_augmentation` counts.
      devices: where they run.
      weights: weight files; of an ensemble, by the fold that each is not trained on.
      classes: what they tell apart.
      batch_size: images that are predicted at once; 0 = that of the training.
    """

    def __init__(
        self,
        config: Config,
        devices: Devices,
        weights: Sequence[pathlib.Path],
        classes: Classes,
        *,
        batch_size: int = 0,
    ):
        dtype = devices.compute_dtype(config.compute_dtype)
        network = make_classifier(
            config.classifier, config.bridge, seed=None, dtype=dtype, num_logits=classes.num_logits
        )
        members = [load_weights(path, network) for path in weights]
        self.classify = steps.make_ensemble(
            steps.make_classify(members[0], config.bridge, config.classifier.test_time_augmentation)
        )
        self.attribute = steps.make_ensemble(steps.make_explain(members[0], config.bridge, classes.positive))
        self.characterise = steps.make_ensemble(steps.make_describe(members[0], config.bridge))
        self.classes = classes
        self._classify = devices.compile_predict(self.classify, identity=_identity("classify", config, members))
        identity = _identity(f"explain {classes.positive}", config, members)
        self._explain = devices.compile_predict(self.attribute, identity=identity)
        identity = _identity("describe", config, members)
        self._describe = devices.compile_predict(self.characterise, identity=identity)
        batch_size = batch_size or config.classifier.training.batch_size
        super().__init__(members, config, devices, batch_size=batch_size)

    @property
    def novelty_size(self) -> tuple[int, int]:
        """Height and width of the images for `describe`: its own, up to DESCRIBED."""
        height, width = self._config.classifier.image_size
        return min(height, DESCRIBED), min(width, DESCRIBED)

    def predict(self, source: Source, members: Sequence[int] | None = None) -> Iterator[tuple[Any, np.ndarray]]:
        """Yields each example's row and logits, float64 [logits], not calibrated. The examples bring their masks.

        They are the mean of the classifiers named by `members`, or of all, and of the orientations in test-time
        augmentation.
        """
        return ((row, logits.astype(np.float64)) for row, logits in self._run(self._classify, source, members))

    def explain(self, source: Source) -> Iterator[tuple[Any, np.ndarray]]:
        """Yields each example's row and signed evidence for malignancy, float32 [rows, columns] of a coarse grid.

        It is the mean of all classifiers, see `steps.make_explain`, without test-time
        augmentation.
        """
        return self._run(self._explain, source, None)

    def describe(self, source: Source) -> Iterator[tuple[Any, np.ndarray]]:
        """Yields each example's row and what the first classifier makes of the whole image, float32 [features].

        The images are of `novelty_size`. See `steps.make_describe`; `evaluation.novelty` says by it whether
        an image is familiar.
        """
        return self._run(self._describe, source, [0])


def class_probabilities(logits: np.ndarray) -> np.ndarray:
    """Turns logits [..., 1] (sigmoid) or [..., classes] (softmax) into probabilities, float64 [..., classes]."""
    logits = np.asarray(logits, np.float64)
    if logits.shape[-1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=-1)
    return special.softmax(logits, axis=-1)


def malignant_probability(logits: np.ndarray, classes: Classes) -> np.ndarray:
    """Returns the probability that the class is a positive one, float64 [n], of logits [n, 1 or classes]."""
    return malignancy(class_probabilities(logits), classes.positive)


def _identity(what: str, config: Config, networks: Sequence[Functional]) -> str:
    """Returns all that decides what a program of these networks computes, beside code and arguments.

    How they were trained does not. One that calls our kernels can be loaded only where they are registered, which
    asking for them does.
    """
    kernels = jax.default_backend() == "cpu" and native.available()
    sections = (
        {name: value for name, value in vars(section).items() if name not in _OF_TRAINING}
        for section in (config.segmenter, config.bridge, config.classifier)
    )
    backbone = config.classifier.backbone
    code = plugins.digest(backbone) if is_plugin(backbone) else ""
    used = (what, code, *sections, config.compute_dtype, networks[0].preprocessing, networks[0].conventions, kernels)
    return " ".join(map(str, used))


def _stacked(variables: Sequence[Any]) -> Any:
    """Stacks the variables of several models, with a leading axis, one entry a model."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *variables)
