"""What released/ham10000 was trained with: U-Nets with a pretrained encoder, seven diagnoses, on 2 CPU cores.

    python released/ham10000/assemble.py --ham10000=HAM10000 --crops=CROPS --output=MIXED
    segfusion train --config released --set data.root=MIXED --workdir runs/released

HAM10000 holds the official files, CROPS sharper centre crops of 224x224 of 5,984 of its images, which are no
longer to be had; MIXED is written. The ImageNet weights, efficientnet_b0_imagenet_autoaug_notop_f32.npz, are found in
the folders of SEGFUSION_DATA; others of EfficientNet-B0 are named by --config.segmenter.pretrained and
--config.classifier.pretrained.

`configs/released.py:paper_unet` has the paper's U-Net, which starts from nothing: smaller images and less augmentation,
so that it sees more in the same time; and a small classifier.

Hardware, time and results: released/ham10000/README.md and docs/results.md.
"""

import ml_collections

from segfusion_jax import config as segfusion_config

WEIGHTS = "efficientnet_b0_imagenet_autoaug_notop_f32.npz"


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the released models' experiment; with the variant 'paper_unet' a smaller one around the paper's U-Net."""
    if variant not in ("", "paper_unet"):
        raise ValueError(f"configs/released.py:{variant} is not known; 'paper_unet' is")
    config = segfusion_config.default()
    config.data.collection = "image_folder"
    config.data.target = "diagnosis"
    config.splits.num_folds = 3
    config.splits.test_fraction = 0.2
    config.splits.validation_fraction = 0.1
    _segmenter(config.segmenter)
    _classifier(config.classifier)
    if variant == "paper_unet":
        _from_nothing(config.segmenter)
        config.classifier.image_size = (80, 80)
        config.classifier.augmentation.white_balance = 0.0
        config.classifier.training.update(epochs=3, images_per_epoch=4000)
    return config


def _segmenter(segmenter: ml_collections.ConfigDict) -> None:
    segmenter.image_size = (144, 192)
    segmenter.encoder = "efficientnet_b0"
    segmenter.pretrained = WEIGHTS
    segmenter.filters = 8
    segmenter.loss = "bce_dice"
    _augment(segmenter.augmentation)
    segmenter.training.update(
        epochs=5,
        images_per_epoch=4000,
        batch_size=8,
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=1e-4,
        warmup_epochs=0.5,
        ema_decay=0.995,
    )


def _from_nothing(segmenter: ml_collections.ConfigDict) -> None:
    segmenter.update(image_size=(96, 128), encoder="", pretrained="", filters=16)
    segmenter.augmentation.update(
        rotation=30.0,
        shift_height=0.05,
        shift_width=0.05,
        zoom=0.1,
        brightness=0.1,
        contrast=0.1,
        saturation=0.1,
        hue=4.0,
        white_balance=0.0,
    )
    segmenter.training.update(epochs=16, learning_rate=1.5e-3)


def _classifier(classifier: ml_collections.ConfigDict) -> None:
    classifier.pretrained = WEIGHTS
    classifier.dropout = 0.2
    classifier.frozen_epochs = 1
    _augment(classifier.augmentation)
    classifier.augmentation.update(brightness=0.25, contrast=0.25, saturation=0.3, hue=10.0)
    classifier.training.update(
        epochs=8,
        optimizer="adamw",
        learning_rate=5e-4,
        weight_decay=0.02,
        warmup_epochs=0.5,
        ema_decay=0.998,
    )


def _augment(augmentation: ml_collections.ConfigDict) -> None:
    augmentation.update(
        rotation=180.0,
        shift_height=0.1,
        shift_width=0.1,
        zoom=0.25,
        brightness=0.2,
        contrast=0.2,
        saturation=0.2,
        hue=8.0,
        white_balance=0.2,
    )
