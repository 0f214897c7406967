"""The sections of a config and their fields: defaults, meanings, units, and which values go together.

What `segfusion train --help` says of a field, and what is checked of its value alone, is told once, in `field(...)`.
"""

import dataclasses

from segfusion_jax.config.fields import at_least, check, field, in_range, one_of, refuse, sides

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Which images are read, and what happens to those that cannot be."""

    collection: str = field("synthetic", "the images", one_of(*COLLECTIONS))
    root: str = field("", 'folder or zip of its files; "" looks for <collection>/ in the folders of SEGFUSION_DATA')
    mask_collection: str = field("", 'brings the annotated masks; "" = the collection itself', one_of("", *COLLECTIONS))
    mask_root: str = field("", "its folder, found like data.root")
    download: bool = field(False, "fetch what is published without a login, where no folder is found")
    records: str = field("", 'where prepared records are kept; "" = <workdir>/records')
    on_error: str = field(
        "raise", '"raise" stops at an unusable file, "skip" leaves it out and lists it', one_of("raise", "skip")
    )
    target: str = field(
        "malignant",
        'what is told apart: malignant, or melanoma, from all else; or "diagnosis": all classes',
        one_of("malignant", "melanoma", "diagnosis"),
    )
    akiec: str = field(
        "malignant",
        'HAM10000\'s "akiec" (327 images); "by_isic2019" calls 130 AK and 197 SCC',
        one_of("malignant", "by_isic2019", "exclude"),
    )
    actinic_keratosis: str = field(
        "malignant", 'ISIC 2019\'s "AK" (867 images)', one_of("malignant", "benign", "exclude")
    )
    size: tuple[int, int] = field((1024, 1024), "height and width in pixels that stored images fit into", sides(32))
    aspect: str = field(
        "keep",
        'fit within data.size; or fill it: "stretch", "letterbox" (black borders), "crop" (the centre)',
        one_of("keep", "stretch", "letterbox", "crop"),
    )
    resampling: str = field("area", "filter that resizes", one_of("area", "bilinear", "bicubic", "lanczos"))
    synthetic_images: int = field(600, "images that the synthetic collection draws", at_least(20))
    synthetic_seed: int = field(0, "seed of what it draws", at_least(0))

    def __post_init__(self):
        check(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Splits:
    """How groups (lesions, patients, duplicates) are dealt to test, validation and cross-fitting folds."""

    protocol: str = field(
        "grouped",
        'grouped; or, to show what leaks do, "by_image", at random; "paper", so after augmenting',
        one_of("grouped", "by_image", "paper"),
    )
    test_fraction: float = field(
        0.15, "of the images of each stratum, held out and looked at once", in_range(0.01, 0.9)
    )
    validation_fraction: float = field(
        0.15, "of the images, which choose checkpoint and threshold of the classifier", in_range(0.01, 0.9)
    )
    num_folds: int = field(5, "U-Nets that are cross-fitted over all groups outside test", at_least(3))
    seed: int = field(0, "seed of the deal")
    official_test: bool = field(False, "test on the collection's own test set, which otherwise takes no part")
    table: str = field("", "CSV with columns image_id and split (and fold): its images stay where it puts them")

    def __post_init__(self):
        check(self)
        if self.test_fraction + self.validation_fraction >= 0.95:
            refuse(self, "validation_fraction", "test_fraction + validation_fraction below 0.95")
        for name in ("official_test", "table"):
            if getattr(self, name) and self.protocol != "grouped":
                refuse(self, name, f"left alone with protocol {self.protocol!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random geometry and colours, drawn anew for every example; the mask moves with the image.

    Beyond borders the nearest pixel repeats.
    """

    rotation: float = field(15.0, "degrees that images turn by, drawn from [-rotation, rotation]", in_range(0, 180))
    shift_height: float = field(0.2, "fraction of the height, drawn from [-shift, shift]", in_range(0, 1))
    shift_width: float = field(0.2, "fraction of the width, likewise", in_range(0, 1))
    zoom: float = field(0.2, "scale drawn from [1 - zoom, 1 + zoom] for each axis", in_range(0, 0.9))
    flip_horizontal: bool = field(True, "mirror left and right, with probability 1/2")
    flip_vertical: bool = field(True, "mirror top and bottom, likewise")
    brightness: float = field(
        0.0, "all channels times a factor from [1 - brightness, 1 + brightness]", in_range(0, 0.9)
    )
    contrast: float = field(0.0, "distances from mid-grey, likewise", in_range(0, 0.9))
    saturation: float = field(0.0, "distances from the grey of the same luma, likewise", in_range(0, 0.9))
    hue: float = field(0.0, "degrees that hues turn by, drawn from [-hue, hue]", in_range(0, 180))
    white_balance: float = field(
        0.0, "each channel times a factor of its own from [1 - balance, 1 + balance]", in_range(0, 0.9)
    )

    def __post_init__(self):
        check(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """Optimisation of one model."""

    epochs: int = field(10, "passes over the training images", at_least(1))
    images_per_epoch: int = field(
        0, "another length of an epoch, in images, and most that choose weights; 0 = a pass, all", at_least(0)
    )
    batch_size: int = field(32, "images a step over all devices", at_least(1))
    optimizer: str = field("adam", '"sgd" has Nesterov momentum 0.9', one_of("adam", "adamw", "sgd"))
    learning_rate: float = field(1e-3, "at its peak", in_range(1e-8, 10))
    weight_decay: float = field(
        0.0, 'decoupled in "adamw", L2 in "sgd"; on kernels, not on biases or norms', in_range(0, 1)
    )
    schedule: str = field("cosine", '"cosine" to zero after the warm-up', one_of("cosine", "constant"))
    warmup_epochs: float = field(0.0, "linear rise of the learning rate from zero; at most `epochs`", at_least(0))
    gradient_clip: float = field(0.0, "largest global gradient norm; 0 = no clipping", at_least(0))
    ema_decay: float = field(
        0.0, "exponential moving average of the weights, evaluated and released; 0 = none", in_range(0, 0.99999)
    )
    sampling: str = field(
        "shuffled",
        'passes over the images, or "balanced": classes equally often, drawn with replacement',
        one_of("shuffled", "balanced"),
    )
    on_device_data: bool = field(
        False, "every device holds the training images, decoded once (uint8), and augments them", was="resident"
    )
    microbatches: int = field(
        1, "parts that a device's share of a batch is worked through in, one by one: the less memory", at_least(1)
    )
    remat: bool = field(
        False, "activations are computed again for the gradients, block by block, instead of being kept"
    )
    nonfinite: str = field(
        "stop",
        'at a loss or gradient that is not finite; "skip": the step changes nothing, is counted',
        one_of("stop", "skip"),
    )

    def __post_init__(self):
        check(self)
        if self.warmup_epochs > self.epochs:
            refuse(self, "warmup_epochs", f"in [0, {self.epochs}], as epochs = {self.epochs}")
        if self.optimizer == "adam" and self.weight_decay:
            refuse(self, "weight_decay", '0.0 with optimizer "adam"; "adamw" decays weights')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segmenter:
    """The U-Net and its training."""

    image_size: tuple[int, int] = field((256, 384), "height and width in pixels", sides(16))
    encoder: str = field("", '"" = the paper\'s U-Net', one_of("", *BACKBONES))
    conventions: str = field(
        "tensorflow", "of the encoder, as classifier.conventions", one_of(*CONVENTIONS), was="family"
    )
    pretrained: str = field("", "weights of the encoder, as classifier.pretrained")
    filters: int = field(16, "channels at the image's own size; doubled at each of the four levels below", at_least(1))
    dropout: float = field(0.1, "share of the features that a training step leaves out", in_range(0, 0.95))
    loss: str = field("bce", '"bce_dice" is their sum', one_of("bce", "dice", "bce_dice"))
    test_time_augmentation: int = field(
        1, "orientations of each image that are predicted and averaged", one_of(*TEST_TIME_AUGMENTATIONS), was="views"
    )
    augmentation: Augmentation = Augmentation()
    training: Training = Training(epochs=10)

    def __post_init__(self):
        check(self)
        if self.training.sampling != "shuffled":
            raise ValueError(f"training.sampling = {self.training.sampling!r}: must be 'shuffled'")
        if self.pretrained and not self.encoder:
            refuse(self, "pretrained", '"" without an encoder: the paper\'s U-Net has no released weights')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bridge:
    """The Data Processing Bridge: how the mask meets the image."""

    mode: str = field("crop", 'the paper\'s is "dim"', one_of(*BRIDGE_MODES))
    masks: str = field(
        "predicted",
        'by U-Nets that never saw the image\'s group; or "annotated", where there are such',
        one_of("predicted", "annotated"),
    )
    alpha: float = field(0.53, 'what is left of the background in mode "dim"', in_range(0, 1))
    threshold: float = field(0.5, "probability from which a pixel is lesion", in_range(0.01, 0.99))
    dilation: float = field(0.05, 'of the diagonal, in modes "dilate" and "crop_dilate"', in_range(0, 0.5))
    margin: float = field(
        0.2, 'of the box\'s sides, added at each side in modes "crop" and "crop_dilate"', in_range(0, 2)
    )
    min_area: float = field(0.005, "of the image; a smaller mask falls back to the whole image", in_range(0, 0.5))
    max_border: float = field(
        0.9, "of the image's border; a mask that covers more falls back to the whole image", in_range(0.1, 1)
    )

    def __post_init__(self):
        check(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classifier:
    """The network on bridged images and its training."""

    image_size: tuple[int, int] = field((224, 224), "height and width in pixels", sides(16))
    backbone: str = field("efficientnet_b0", "the network", one_of(*BACKBONES))
    conventions: str = field(
        "tensorflow",
        "whose weights it takes: 'SAME' padding; of timm and torchvision symmetric",
        one_of(*CONVENTIONS),
        was="family",
    )
    width: float = field(1.0, "multiplies the backbone's channels", in_range(0.1, 4))
    depth: float = field(1.0, "multiplies an EfficientNet's block counts", in_range(0.1, 4))
    pretrained: str = field(
        "", 'weight file, found like data.root, or a published name (docs/models.md); "" = from scratch'
    )
    dropout: float = field(0.1, "likewise, before the last layer", in_range(0, 0.95))
    drop_path: float = field(
        0.2,
        "stochastic depth; block i of n is dropped with probability drop_path x i / n, from i = 0",
        in_range(0, 0.95),
    )
    loss: str = field(
        "cross_entropy",
        'of a sigmoid, or, with data.target "diagnosis", of a softmax',
        one_of("cross_entropy", "focal"),
    )
    focal_gamma: float = field(2.0, 'exponent of "focal"', in_range(0, 10))
    class_weights: str = field("none", '"balanced" weights classes by inverse frequency', one_of("none", "balanced"))
    frozen_epochs: int = field(
        0, "leading epochs, in addition to training.epochs, that train the last layer only", at_least(0)
    )
    frozen_learning_rate: float = field(1e-3, "constant, in those epochs", in_range(1e-8, 10))
    seed: int = field(0, "beside the run's own: another seed makes another classifier on the same masks", at_least(0))
    layer_decay: float = field(
        1.0, "each block learns at this times the rate of the block after it; 1 = all at the same", in_range(0.01, 1)
    )
    fold_ensemble: bool = field(
        False, "a classifier a fold, chosen on that fold, trained on the others; test: their mean"
    )
    test_time_augmentation: int = field(
        1, "as segmenter.test_time_augmentation", one_of(*TEST_TIME_AUGMENTATIONS), was="views"
    )
    augmentation: Augmentation = Augmentation()
    training: Training = Training(epochs=50)

    def __post_init__(self):
        check(self)
        if self.class_weights == "balanced" and self.training.sampling == "balanced":
            refuse(self, "class_weights", '"none" with training.sampling "balanced", which balances them already')
        if self.depth != 1 and self.backbone.startswith("mobilenet"):
            refuse(self, "depth", f"1.0 with backbone {self.backbone!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How the models are judged on the test images."""

    resamples: int = field(2000, "of the groups of images, for each 95 % interval", at_least(100))
    min_subgroup: int = field(50, "images; of a smaller subgroup only the size is told", at_least(1))

    def __post_init__(self):
        check(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parallel:
    """How a step is spread over devices."""

    api: str = field("shard_map", "jit of shard_map, or pmap; both give the same numbers", one_of("shard_map", "pmap"))
    sync_batch_norm: bool = field(True, "batch statistics over all devices; otherwise over each device's share")

    def __post_init__(self):
        check(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Input:
    """How examples are read. Changes speed, never results, and may differ when a run goes on."""

    num_threads: int = field(4, "threads that decode and augment, in each reading process", at_least(1))
    num_workers: int = field(0, "processes that read for training; 0 = threads of the training process", at_least(0))
    log_seconds: float = field(10.0, "seconds between progress lines", at_least(0))

    def __post_init__(self):
        check(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpointing:
    """When a training is saved, beside each epoch's end. Changes no result, and may differ when a run goes on."""

    seconds: float = field(600.0, "seconds between two checkpoints", at_least(0))
    keep: int = field(2, "newest ones of a training; each holds the best weights so far too", at_least(2))

    def __post_init__(self):
        check(self)
