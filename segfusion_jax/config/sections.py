"""The sections of a config and their fields: defaults, meanings, units, and which values go together.

What `segfusion train --help` says of a field stands once, in the docstring below it, and what is checked of its value
alone in `field(...)`.
"""

import dataclasses

from segfusion_jax.config.fields import (
    Accepted,
    Section,
    at_least,
    field,
    in_range,
    is_plugin,
    one_of,
    plugin,
    refuse,
    sides,
)

BRIDGE_MODES = (
    *("none", "black", "dim", "soft", "dilate", "crop", "crop_dilate", "channel"),
    *("background_only", "mask_only"),
)
BACKBONES = (*(f"efficientnet_b{number}" for number in range(8)), "mobilenet_v3_small", "mobilenet_v3_large")
CONVENTIONS = ("tensorflow", "timm", "torchvision")
TEST_TIME_AUGMENTATIONS = (1, 8)
_MASKS = Accepted(
    "'predicted', 'annotated', or the folder of a released model, written with a /",
    lambda value: value in ("predicted", "annotated") or "/" in value,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Splits(Section):
    """How groups (lesions, patients, duplicates) are dealt to test, validation and cross-fitting folds."""

    protocol: str = field("grouped", one_of("grouped", "by_image", "paper"))
    """Grouped; or, to show what leaks do, "by_image", at random; "paper", so after augmenting."""
    pool: int = field(0, at_least(0))
    """Images of each class that take part, drawn by group; 0 = all, of which "paper" takes equally many."""
    test_fraction: float = field(0.15, in_range(0.01, 0.9))
    """Share of the images of each stratum that is held out and looked at once."""
    validation_fraction: float = field(0.15, in_range(0.01, 0.9))
    """Share of the images that choose checkpoint and threshold of the classifier."""
    num_folds: int = field(5, at_least(3))
    """U-Nets that are cross-fitted over all groups outside test."""
    seed: int = field(0)
    """Seed of the deal."""
    official_test: bool = field(False)
    """Test on the collection's own test set, which otherwise takes no part."""
    table: str = field("")
    """CSV with columns image_id and split (and fold), or "published:isic2019-v1": its images stay there."""

    def __post_init__(self):
        super().__post_init__()
        if self.test_fraction + self.validation_fraction >= 0.95:
            refuse(self, "validation_fraction", "test_fraction + validation_fraction below 0.95")
        for name in ("official_test", "table"):
            if getattr(self, name) and self.protocol != "grouped":
                refuse(self, name, f"left alone with protocol {self.protocol!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation(Section):
    """Random geometry and colours, drawn anew for every example; the mask moves with the image.

    Beyond borders the nearest pixel repeats.
    """

    rotation: float = field(15.0, in_range(0, 180))
    """Degrees that images turn by, drawn from [-rotation, rotation]."""
    shift_height: float = field(0.2, in_range(0, 1))
    """Fraction of the height, drawn from [-shift, shift]."""
    shift_width: float = field(0.2, in_range(0, 1))
    """Fraction of the width, likewise."""
    zoom: float = field(0.2, in_range(0, 0.9))
    """Scale drawn from [1 - zoom, 1 + zoom] for each axis."""
    flip_horizontal: bool = field(True)
    """Mirror left and right, with probability 1/2."""
    flip_vertical: bool = field(True)
    """Mirror top and bottom, likewise."""
    brightness: float = field(0.0, in_range(0, 0.9))
    """All channels times a factor from [1 - brightness, 1 + brightness]."""
    contrast: float = field(0.0, in_range(0, 0.9))
    """Distances from mid-grey, likewise."""
    saturation: float = field(0.0, in_range(0, 0.9))
    """Distances from the grey of the same luma, likewise."""
    hue: float = field(0.0, in_range(0, 180))
    """Degrees that hues turn by, drawn from [-hue, hue]."""
    white_balance: float = field(0.0, in_range(0, 0.9))
    """Each channel times a factor of its own from [1 - balance, 1 + balance]."""
    extra: str = field("", plugin(""))
    """Your own augmentation, done after these."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training(Section):
    """Optimisation of one model."""

    epochs: int = field(10, at_least(1))
    """Passes over the training images."""
    images_per_epoch: int = field(0, at_least(0))
    """Another length of an epoch, in images, and most that choose weights; 0 = a pass, all."""
    batch_size: int = field(32, at_least(1))
    """Images a step over all devices."""
    optimizer: str = field("adam", one_of("adam", "adamw", "sgd"))
    """The rule of a step; "sgd" has Nesterov momentum 0.9."""
    learning_rate: float = field(1e-3, in_range(1e-8, 10))
    """At its peak."""
    weight_decay: float = field(0.0, in_range(0, 1))
    """Decoupled in "adamw", L2 in "sgd"; on kernels, not on biases or norms."""
    schedule: str = field("cosine", one_of("cosine", "constant"))
    """Course of the learning rate after the warm-up, "cosine" to zero."""
    warmup_epochs: float = field(0.0, at_least(0))
    """Linear rise of the learning rate from zero; at most `epochs`."""
    gradient_clip: float = field(0.0, at_least(0))
    """Largest global gradient norm; 0 = no clipping."""
    ema_decay: float = field(0.0, in_range(0, 0.99999))
    """Exponential moving average of the weights, evaluated and released; 0 = none."""
    sampling: str = field("shuffled", one_of("shuffled", "balanced"))
    """Passes over the images, or "balanced": classes equally often, drawn with replacement."""
    shares: str = field("natural", one_of("natural", "collections", "origins"))
    """Draws as images come; or collections, or the origins in each, equally often, classes alike."""
    on_device_data: bool = field(False, was="resident")
    """Every device holds the training images, decoded once (uint8), and augments them."""
    microbatches: int = field(1, at_least(1))
    """Parts that a device's share of a batch is worked through in, one by one: the less memory."""
    remat: bool = field(False)
    """Activations are computed again for the gradients, block by block, instead of being kept."""
    best_metric: str = field("score", one_of("score", "loss", "balanced_accuracy"))
    """On validation, of the epoch whose weights are kept: "score" is ROC-AUC, of U-Nets Dice; ties by loss."""
    nonfinite: str = field("stop", one_of("stop", "skip"))
    """At a loss or gradient that is not finite; "skip": the step changes nothing, is counted."""

    def __post_init__(self):
        super().__post_init__()
        if self.warmup_epochs > self.epochs:
            refuse(self, "warmup_epochs", f"in [0, {self.epochs}], as epochs = {self.epochs}")
        if self.optimizer == "adam" and self.weight_decay:
            refuse(self, "weight_decay", '0.0 with optimizer "adam"; "adamw" decays weights')


def _check_extra(augmentation: Augmentation, training: Training) -> None:
    if augmentation.extra and training.on_device_data:
        raise ValueError(
            f"augmentation.extra = {augmentation.extra!r}: must be '' with training.on_device_data, where images are "
            "augmented on the device"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segmenter(Section):
    """The U-Net and its training."""

    image_size: tuple[int, int] = field((256, 384), sides(16))
    """Height and width in pixels."""
    encoder: str = field("", one_of("", *BACKBONES))
    """A backbone; "" = the paper's U-Net."""
    conventions: str = field("tensorflow", one_of(*CONVENTIONS), was="family")
    """The encoder's, as classifier.conventions."""
    pretrained: str = field("")
    """Weights of the encoder, as classifier.pretrained, or of a whole U-Net, trained here or released."""
    pretrained_head: str = field("")
    """As classifier.pretrained_head."""
    filters: int = field(16, at_least(1))
    """Channels at the image's own size; doubled at each of the four levels below."""
    dropout: float = field(0.1, in_range(0, 0.95))
    """Share of the features that a training step leaves out."""
    loss: str = field("bce", one_of("bce", "dice", "bce_dice"))
    """Binary cross-entropy or Dice; "bce_dice" is their sum."""
    test_time_augmentation: int = field(1, one_of(*TEST_TIME_AUGMENTATIONS), was="views")
    """Orientations of each image that are predicted and averaged."""
    augmentation: Augmentation = Augmentation()
    training: Training = Training(epochs=10)

    def __post_init__(self):
        super().__post_init__()
        if self.training.sampling != "shuffled":
            raise ValueError(f"training.sampling = {self.training.sampling!r}: must be 'shuffled'")
        if self.training.best_metric == "balanced_accuracy":
            raise ValueError(f"training.best_metric = {self.training.best_metric!r}: must be 'score' or 'loss'")
        _check_extra(self.augmentation, self.training)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bridge(Section):
    """The Data Processing Bridge: how the mask meets the image."""

    mode: str = field("crop", one_of(*BRIDGE_MODES))
    """The paper's is "dim"."""
    masks: str = field("predicted", _MASKS)
    """By U-Nets that never saw the image's group; "annotated", where there are such; or by a released model's."""
    alpha: float = field(0.53, in_range(0, 1))
    """What is left of the background in mode "dim"."""
    threshold: float = field(0.5, in_range(0.01, 0.99))
    """Probability from which a pixel is lesion."""
    dilation: float = field(0.05, in_range(0, 0.5))
    """Share of the diagonal, in modes "dilate" and "crop_dilate"."""
    margin: float = field(0.2, in_range(0, 2))
    """Share of the box's sides, added at each side in modes "crop" and "crop_dilate"."""
    min_area: float = field(0.005, in_range(0, 0.5))
    """Share of the image; a smaller mask falls back to the whole image."""
    max_border: float = field(0.9, in_range(0.1, 1))
    """Share of the image's border; a mask that covers more falls back to the whole image."""

    @property
    def released(self) -> str:
        """The folder of the released model whose U-Nets make the masks; "" = none does."""
        return "" if self.masks in ("predicted", "annotated") else self.masks


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classifier(Section):
    """The network on bridged images and its training."""

    image_size: tuple[int, int] = field((224, 224), sides(16))
    """Height and width in pixels."""
    backbone: str = field("efficientnet_b0", plugin(*BACKBONES))
    """The network."""
    conventions: str = field("tensorflow", one_of(*CONVENTIONS), was="family")
    """Whose weights it takes: 'SAME' padding; of timm and torchvision symmetric."""
    width: float = field(1.0, in_range(0.1, 4))
    """Multiplies the backbone's channels."""
    depth: float = field(1.0, in_range(0.1, 4))
    """Multiplies an EfficientNet's block counts."""
    pretrained: str = field("")
    """Weight file or released model, found like data.root, or a published name (docs/models.md); "" = none."""
    pretrained_head: str = field("")
    """Name of that file's last layer, which is not read; "" = its publisher's ("classifier", "predictions")."""
    dropout: float = field(0.1, in_range(0, 0.95))
    """Share of the features before the last layer that a training step leaves out."""
    drop_path: float = field(0.2, in_range(0, 0.95))
    """Stochastic depth; block i of n is dropped with probability drop_path x i / n, from i = 0."""
    loss: str = field("cross_entropy", plugin("cross_entropy", "focal"))
    """Taken of a sigmoid; of a softmax with data.classes, and with data.target "diagnosis"."""
    focal_gamma: float = field(2.0, in_range(0, 10))
    """Exponent of "focal"."""
    class_weights: str = field("none", one_of("none", "balanced"))
    """Weights of classes in the loss, "balanced" by inverse frequency."""
    frozen_epochs: int = field(0, at_least(0))
    """Leading epochs, in addition to training.epochs, that train the last layer only."""
    frozen_learning_rate: float = field(1e-3, in_range(1e-8, 10))
    """Constant, in those epochs."""
    seed: int = field(0, at_least(0))
    """Beside the run's own: another seed makes another classifier on the same masks."""
    layer_decay: float = field(1.0, in_range(0.01, 1))
    """Each block learns at this times the rate of the block after it; 1 = all at the same."""
    fold_ensemble: bool = field(False)
    """A classifier a fold, chosen on that fold, trained on the others; test: their mean."""
    test_time_augmentation: int = field(1, one_of(*TEST_TIME_AUGMENTATIONS), was="views")
    """As segmenter.test_time_augmentation."""
    augmentation: Augmentation = Augmentation()
    training: Training = Training(epochs=50)

    def __post_init__(self):
        super().__post_init__()
        if self.class_weights == "balanced" and self.training.sampling == "balanced":
            refuse(self, "class_weights", '"none" with training.sampling "balanced", which balances them already')
        if self.depth != 1 and self.backbone.startswith("mobilenet"):
            refuse(self, "depth", f"1.0 with backbone {self.backbone!r}")
        ours = ("width", "depth", "conventions", "layer_decay") if is_plugin(self.backbone) else ()
        for one in (one for one in dataclasses.fields(self) if one.name in ours):
            if getattr(self, one.name) != one.default:
                refuse(self, one.name, f"{one.default!r} with a backbone of your own, {self.backbone!r}")
        _check_extra(self.augmentation, self.training)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation(Section):
    """How the models are judged on the test images."""

    resamples: int = field(2000, at_least(100))
    """Resamples of the groups of images, for each 95 % interval."""
    min_subgroup: int = field(50, at_least(1))
    """Images; of a smaller subgroup only the size is told."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Release(Section):
    """What a released model gives away of the images that it learned from."""

    perceptual_hashes: bool = field(False)
    """Hashes of an image_folder's images are released too, by which copies are known, and looks can be guessed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parallel(Section):
    """How a step is spread over devices."""

    api: str = field("shard_map", one_of("shard_map", "pmap"))
    """Jit of shard_map, or pmap; both give the same numbers."""
    sync_batch_norm: bool = field(True)
    """Batch statistics over all devices; otherwise over each device's share."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Input(Section):
    """How examples are read. Changes speed, never results, and may differ when a run goes on."""

    num_threads: int = field(4, at_least(1))
    """Threads that decode and augment, in each reading process."""
    num_workers: int = field(0, at_least(0))
    """Processes that read for training; 0 = threads of the training process."""
    log_seconds: float = field(10.0, at_least(0))
    """Seconds between progress lines."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpointing(Section):
    """When a training is saved, beside each epoch's end. Changes no result, and may differ when a run goes on."""

    seconds: float = field(600.0, at_least(0))
    """Seconds between two checkpoints."""
    keep: int = field(2, at_least(2))
    """Newest ones of a training; each holds the best weights so far too."""
