"""Every field of a run: its default, unit and meaning, and every check of a value.

Configs are written as `ml_collections.ConfigDict` (see `configs/`) and become these frozen dataclasses at the door.
Nothing below this module sees a ConfigDict or a flag.
"""

import dataclasses
import json
import math
import types
from typing import Any, Self

import ml_collections

COLLECTIONS = (
    "synthetic",
    "ham10000",
    "isic2017",
    "isic2018",
    "isic2019",
    "isic2020",
    "isic2024",
    "ph2",
    "image_folder",
)
BRIDGE_MODES = (
    "none",
    "black",
    "dim",
    "soft",
    "dilate",
    "crop",
    "crop_dilate",
    "channel",
    "background_only",
    "mask_only",
)
BACKBONES = (
    *(f"efficientnet_b{number}" for number in range(8)),
    "mobilenet_v3_small",
    "mobilenet_v3_large",
)
CONVENTIONS = ("tensorflow", "timm", "torchvision")
TEST_TIME_AUGMENTATIONS = (1, 8)


def _refuse(section: Any, name: str, accepted: str) -> None:
    raise ValueError(f"{name} = {getattr(section, name)!r}: must be {accepted}")


def _one_of(section: Any, name: str, choices: tuple[str | int, ...]) -> None:
    if getattr(section, name) not in choices:
        _refuse(section, name, "one of " + ", ".join(map(repr, choices)))


def _in_range(section: Any, name: str, low: float, high: float) -> None:
    value = getattr(section, name)
    if not low <= value <= high:  # false for NaN too
        _refuse(section, name, f"in [{low:g}, {high:g}]")


def _at_least(section: Any, name: str, low: int) -> None:
    if getattr(section, name) < low:
        _refuse(section, name, f"at least {low}")


def _image_size(section: Any) -> None:
    if any(side < 16 for side in section.image_size):
        _refuse(section, "image_size", "(height, width), each at least 16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Which images are read, and what happens to those that cannot be."""

    collection: str = "synthetic"  # one of COLLECTIONS
    root: str = ""  # folder or zip of the official files; "" looks for <collection>/ in the folders of SEGFUSION_DATA
    mask_collection: str = ""  # collection that brings the annotated masks; "" = the collection itself
    mask_root: str = ""  # its folder, found like `root`
    download: bool = False  # fetch what is published without a login, where no folder is found
    records: str = ""  # where prepared records are kept; "" = <workdir>/records
    on_error: str = "raise"  # "raise" stops at an unusable file, "skip" leaves it out and lists it
    target: str = "malignant"  # what is told apart: "malignant", "melanoma" (from all else) or "diagnosis" (classes)
    akiec: str = "malignant"  # HAM10000's 'akiec' (327 images): also "by_isic2019" (130 AK, 197 SCC) or "exclude"
    actinic_keratosis: str = "malignant"  # ISIC 2019's 'AK' (867 images): "malignant", "benign" or "exclude"
    size: tuple[int, int] = (1024, 1024)  # height and width in pixels that stored images fit into
    aspect: str = "keep"  # fit within `size`; or fill it: "stretch", "letterbox" (black borders), "crop" (the centre)
    resampling: str = "area"  # filter that resizes: "area", "bilinear", "bicubic" or "lanczos"
    synthetic_images: int = 600  # images that the synthetic collection draws
    synthetic_seed: int = 0

    def __post_init__(self):
        _one_of(self, "collection", COLLECTIONS)
        _one_of(self, "mask_collection", ("", *COLLECTIONS))
        _one_of(self, "on_error", ("raise", "skip"))
        _one_of(self, "target", ("malignant", "melanoma", "diagnosis"))
        _one_of(self, "akiec", ("malignant", "by_isic2019", "exclude"))
        _one_of(self, "actinic_keratosis", ("malignant", "benign", "exclude"))
        if any(side < 32 for side in self.size):
            _refuse(self, "size", "(height, width), each at least 32")
        _one_of(self, "aspect", ("keep", "stretch", "letterbox", "crop"))
        _one_of(self, "resampling", ("area", "bilinear", "bicubic", "lanczos"))
        _at_least(self, "synthetic_images", 20)
        _at_least(self, "synthetic_seed", 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Splits:
    """How groups (lesions, patients, duplicates) are dealt to test, validation and cross-fitting folds."""

    protocol: str = "grouped"  # or, to show what leaks do: "by_image", at random; "paper", so after augmenting
    test_fraction: float = 0.15  # of the images of each stratum, held out and looked at once
    validation_fraction: float = 0.15  # chooses checkpoint and threshold of the classifier
    num_folds: int = 5  # U-Nets that are cross-fitted over all groups outside test
    seed: int = 0
    official_test: bool = False  # test on the collection's own test set, which otherwise takes no part
    table: str = ""  # CSV with columns image_id and split (and fold): its images stay where it puts them

    def __post_init__(self):
        _one_of(self, "protocol", ("grouped", "by_image", "paper"))
        _in_range(self, "test_fraction", 0.01, 0.9)
        _in_range(self, "validation_fraction", 0.01, 0.9)
        _at_least(self, "num_folds", 3)
        if self.test_fraction + self.validation_fraction >= 0.95:
            _refuse(self, "validation_fraction", "test_fraction + validation_fraction below 0.95")
        for name in ("official_test", "table"):
            if getattr(self, name) and self.protocol != "grouped":
                _refuse(self, name, f"left alone with protocol {self.protocol!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random geometry and colours, drawn anew for every example; the mask moves with the image.

    Beyond borders the nearest pixel repeats.
    """

    rotation: float = 15.0  # degrees, drawn from [-rotation, rotation]
    shift_height: float = 0.2  # fraction of the height, drawn from [-shift, shift]
    shift_width: float = 0.2  # fraction of the width
    zoom: float = 0.2  # scale drawn from [1 - zoom, 1 + zoom] for each axis
    flip_horizontal: bool = True  # mirrored with probability 1/2
    flip_vertical: bool = True
    brightness: float = 0.0  # all channels times a factor drawn from [1 - brightness, 1 + brightness]
    contrast: float = 0.0  # distances from mid-grey, likewise
    saturation: float = 0.0  # distances from the grey of the same luma, likewise
    hue: float = 0.0  # degrees that hues turn by, drawn from [-hue, hue]
    white_balance: float = 0.0  # each channel times a factor of its own, drawn from [1 - balance, 1 + balance]

    def __post_init__(self):
        _in_range(self, "rotation", 0.0, 180.0)
        _in_range(self, "shift_height", 0.0, 1.0)
        _in_range(self, "shift_width", 0.0, 1.0)
        _in_range(self, "zoom", 0.0, 0.9)
        for name in ("brightness", "contrast", "saturation", "white_balance"):
            _in_range(self, name, 0.0, 0.9)
        _in_range(self, "hue", 0.0, 180.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """Optimisation of one model."""

    epochs: int = 10  # passes over the training images
    images_per_epoch: int = 0  # another length of an epoch, in images, and most that choose weights; 0 = a pass, all
    batch_size: int = 32  # images a step over all devices
    optimizer: str = "adam"  # "adam", "adamw" or "sgd" (Nesterov momentum 0.9)
    learning_rate: float = 1e-3  # at its peak
    weight_decay: float = 0.0  # decoupled in "adamw", L2 in "sgd"; on kernels, not on biases or norms
    schedule: str = "cosine"  # "cosine" to zero after the warm-up, or "constant"
    warmup_epochs: float = 0.0  # linear rise of the learning rate from zero
    gradient_clip: float = 0.0  # largest global gradient norm; 0 = no clipping
    ema_decay: float = 0.0  # exponential moving average of the weights, evaluated and released; 0 = none
    sampling: str = "shuffled"  # passes over the images, or "balanced": classes equally often, drawn with replacement
    on_device_data: bool = False  # every device holds the training images, decoded once (uint8), and augments them
    microbatches: int = 1  # parts that a device's share of a batch is worked through in, one by one: the less memory
    remat: bool = False  # activations are computed again for the gradients, block by block, instead of being kept
    nonfinite: str = "stop"  # at a loss or gradient that is not finite; or "skip": the step changes nothing, is counted

    def __post_init__(self):
        _at_least(self, "epochs", 1)
        _at_least(self, "images_per_epoch", 0)
        _at_least(self, "batch_size", 1)
        _one_of(self, "optimizer", ("adam", "adamw", "sgd"))
        _in_range(self, "learning_rate", 1e-8, 10.0)
        _in_range(self, "weight_decay", 0.0, 1.0)
        _one_of(self, "schedule", ("cosine", "constant"))
        _in_range(self, "warmup_epochs", 0.0, float(self.epochs))
        _in_range(self, "gradient_clip", 0.0, math.inf)
        _in_range(self, "ema_decay", 0.0, 0.99999)
        _one_of(self, "sampling", ("shuffled", "balanced"))
        _at_least(self, "microbatches", 1)
        _one_of(self, "nonfinite", ("stop", "skip"))
        if self.optimizer == "adam" and self.weight_decay:
            _refuse(self, "weight_decay", '0.0 with optimizer "adam"; "adamw" decays weights')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segmenter:
    """The U-Net and its training."""

    image_size: tuple[int, int] = (256, 384)  # height and width in pixels
    encoder: str = ""  # one of BACKBONES; "" = the paper's U-Net
    conventions: str = "tensorflow"  # of the encoder, as `classifier.conventions`
    pretrained: str = ""  # weights of the encoder, as `classifier.pretrained`
    filters: int = 16  # at the image's own size; doubled at each of the four levels below
    dropout: float = 0.1
    loss: str = "bce"  # "bce", "dice", or "bce_dice" (their sum)
    test_time_augmentation: int = 1  # orientations of each image that are predicted and averaged: 1, or 8
    augmentation: Augmentation = Augmentation()
    training: Training = Training(epochs=10)

    def __post_init__(self):
        _image_size(self)
        _one_of(self, "encoder", ("", *BACKBONES))
        _one_of(self, "conventions", CONVENTIONS)
        _at_least(self, "filters", 1)
        _in_range(self, "dropout", 0.0, 0.95)
        _one_of(self, "loss", ("bce", "dice", "bce_dice"))
        _one_of(self, "test_time_augmentation", TEST_TIME_AUGMENTATIONS)
        if self.training.sampling != "shuffled":
            raise ValueError(f"training.sampling = {self.training.sampling!r}: must be 'shuffled'")
        if self.pretrained and not self.encoder:
            _refuse(self, "pretrained", '"" without an encoder: the paper\'s U-Net has no released weights')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bridge:
    """The Data Processing Bridge: how the mask meets the image."""

    mode: str = "crop"  # one of BRIDGE_MODES; the paper's is "dim"
    masks: str = "predicted"  # by U-Nets that never saw the image's group; or "annotated", where there are such
    alpha: float = 0.53  # what is left of the background in mode "dim"
    threshold: float = 0.5  # probability from which a pixel is lesion
    dilation: float = 0.05  # of the diagonal, in modes "dilate" and "crop_dilate"
    margin: float = 0.2  # of the box's sides, added at each side in modes "crop" and "crop_dilate"
    min_area: float = 0.005  # of the image; a smaller mask falls back to the whole image
    max_border: float = 0.9  # of the image's border; a mask that covers more falls back to the whole image

    def __post_init__(self):
        _one_of(self, "mode", BRIDGE_MODES)
        _one_of(self, "masks", ("predicted", "annotated"))
        _in_range(self, "alpha", 0.0, 1.0)
        _in_range(self, "threshold", 0.01, 0.99)
        _in_range(self, "dilation", 0.0, 0.5)
        _in_range(self, "margin", 0.0, 2.0)
        _in_range(self, "min_area", 0.0, 0.5)
        _in_range(self, "max_border", 0.1, 1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classifier:
    """The network on bridged images and its training."""

    image_size: tuple[int, int] = (224, 224)  # height and width in pixels
    backbone: str = "efficientnet_b0"  # one of BACKBONES
    conventions: str = "tensorflow"  # whose weights it takes: 'SAME' padding; or "timm", "torchvision": symmetric
    width: float = 1.0  # multiplies the backbone's channels
    depth: float = 1.0  # multiplies an EfficientNet's block counts
    pretrained: str = ""  # weight file, found like `data.root`, or a name of models/published.py; "" = from scratch
    dropout: float = 0.1  # before the last layer
    drop_path: float = 0.2  # stochastic depth; block i of n is dropped with probability drop_path x i / n, from i = 0
    loss: str = "cross_entropy"  # or "focal"; of a sigmoid, or, with data.target "diagnosis", of a softmax
    focal_gamma: float = 2.0
    class_weights: str = "none"  # "balanced" weights classes by inverse frequency
    frozen_epochs: int = 0  # leading epochs, in addition to training.epochs, that train the last layer only
    frozen_learning_rate: float = 1e-3  # constant, in those epochs
    seed: int = 0  # beside the run's own: another one makes another classifier on the same masks
    layer_decay: float = 1.0  # each block learns at this times the rate of the block after it; 1 = all at the same
    fold_ensemble: bool = False  # a classifier a fold, chosen on that fold, trained on the others; test: their mean
    test_time_augmentation: int = 1  # as `segmenter.test_time_augmentation`
    augmentation: Augmentation = Augmentation()
    training: Training = Training(epochs=50)

    def __post_init__(self):
        _image_size(self)
        _one_of(self, "backbone", BACKBONES)
        _one_of(self, "conventions", CONVENTIONS)
        _in_range(self, "width", 0.1, 4.0)
        _in_range(self, "depth", 0.1, 4.0)
        _in_range(self, "dropout", 0.0, 0.95)
        _in_range(self, "drop_path", 0.0, 0.95)
        _one_of(self, "loss", ("cross_entropy", "focal"))
        _in_range(self, "focal_gamma", 0.0, 10.0)
        _one_of(self, "class_weights", ("none", "balanced"))
        if self.class_weights == "balanced" and self.training.sampling == "balanced":
            _refuse(self, "class_weights", '"none" with training.sampling "balanced", which balances them already')
        _at_least(self, "seed", 0)
        _at_least(self, "frozen_epochs", 0)
        _in_range(self, "frozen_learning_rate", 1e-8, 10.0)
        _in_range(self, "layer_decay", 0.01, 1.0)
        _one_of(self, "test_time_augmentation", TEST_TIME_AUGMENTATIONS)
        if self.depth != 1 and self.backbone.startswith("mobilenet"):
            _refuse(self, "depth", f"1.0 with backbone {self.backbone!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How the models are judged on the test images."""

    resamples: int = 2000  # of the groups, for each 95 % interval
    min_subgroup: int = 50  # images; of a smaller subgroup only the size is told

    def __post_init__(self):
        _at_least(self, "resamples", 100)
        _at_least(self, "min_subgroup", 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parallel:
    """How a step is spread over devices."""

    api: str = "shard_map"  # "shard_map" (jit of shard_map) or "pmap"; both give the same numbers
    sync_batch_norm: bool = True  # batch statistics over all devices; otherwise over each device's share

    def __post_init__(self):
        _one_of(self, "api", ("shard_map", "pmap"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Input:
    """How examples are read. Changes speed, never results, and may differ when a run goes on."""

    num_threads: int = 4  # that decode and augment, in each reading process
    num_workers: int = 0  # processes that read for training; 0 = threads of the training process
    log_seconds: float = 10.0  # between progress lines

    def __post_init__(self):
        _at_least(self, "num_threads", 1)
        _at_least(self, "num_workers", 0)
        _in_range(self, "log_seconds", 0.0, math.inf)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpointing:
    """When a training is saved, beside each epoch's end. Changes no result, and may differ when a run goes on."""

    seconds: float = 600.0  # between two checkpoints
    keep: int = 2  # newest ones of a training; each holds the best weights so far too

    def __post_init__(self):
        _in_range(self, "seconds", 0.0, math.inf)
        _at_least(self, "keep", 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """One experiment."""

    seed: int = 0  # of initial weights, dropout, input order and augmentation
    compute_dtype: str = "auto"  # "float32", "bfloat16"; "auto" = bfloat16 on an accelerator, float32 on a CPU
    data: Data = Data()
    splits: Splits = Splits()
    segmenter: Segmenter = Segmenter()
    bridge: Bridge = Bridge()
    classifier: Classifier = Classifier()
    evaluation: Evaluation = Evaluation()
    parallel: Parallel = Parallel()
    input: Input = Input()
    checkpoints: Checkpointing = Checkpointing()

    def __post_init__(self):
        _at_least(self, "seed", 0)
        _one_of(self, "compute_dtype", ("auto", "float32", "bfloat16"))

    @classmethod
    def from_config_dict(cls, config_dict: ml_collections.ConfigDict) -> Self:
        """Checks every value of `config_dict` and freezes it.

        Raises:
          ValueError: names the field, its value and what is accepted: an unknown or missing field, a wrong type, a
            value out of range.
        """
        return _from_dict(cls, config_dict.to_dict(), "config")

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote, of an earlier version too: fields that it did not have get their defaults."""
        return _from_dict(cls, _completed(dataclasses.asdict(cls()), json.loads(text)), "config")

    def to_json(self) -> str:
        """The config as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    def to_config_dict(self) -> ml_collections.ConfigDict:
        """The config as a ConfigDict that configs and flags may change field by field."""
        return ml_collections.ConfigDict(dataclasses.asdict(self))


def default() -> ml_collections.ConfigDict:
    """All fields at their defaults: what a file in `configs/` starts from."""
    return Config().to_config_dict()


def flatten(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    """The fields of a config, or of a part of it, as nested dicts, by their dotted names."""
    flat = {}
    for name, value in values.items():
        flat |= flatten(value, f"{path}{name}.") if isinstance(value, dict) else {f"{path}{name}": value}
    return flat


def _completed(default: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """`values`, nested, with what they lack taken from `default`."""
    sections = {
        name: _completed(section, values[name])
        for name, section in default.items()
        if isinstance(section, dict) and isinstance(values.get(name), dict)
    }
    return default | values | sections


def _from_dict(cls: type, values: dict[str, Any], path: str) -> Any:
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for name in sorted(set(values) - set(fields)):
        raise ValueError(f"{path}.{name} = {values[name]!r}: unknown field; accepted are {', '.join(fields)}")
    for name in sorted(set(fields) - set(values)):
        raise ValueError(f"{path}.{name} is missing")
    converted = {name: _convert(field.type, values[name], f"{path}.{name}") for name, field in fields.items()}
    try:
        return cls(**converted)
    except ValueError as error:
        raise ValueError(f"{path}.{error}") from None


def _convert(kind: Any, value: Any, path: str) -> Any:
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ValueError(f"{path} = {value!r}: must be a section of fields")
        return _from_dict(kind, value, path)
    if isinstance(kind, types.GenericAlias):
        if isinstance(value, list | tuple) and len(value) == 2 and all(type(v) is int for v in value):
            return tuple(value)
        raise ValueError(f"{path} = {value!r}: must be (height, width), two whole numbers")
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{path} = {value!r}: must be of type {kind.__name__}")
    return value
