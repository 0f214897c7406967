"""Five collections at once: HAM10000, ISIC 2017, 2019 and 2020, and images of the ISIC archive; diagnoses.

    segfusion train --config dermoscopy --workdir runs/dermoscopy
    segfusion train --config dermoscopy:quick --workdir runs/dermoscopy_quick
    segfusion train --config dermoscopy:released --workdir runs/dermoscopy_released

A folder of SEGFUSION_DATA holds them as ham10000/, isic2017/, isic2019/, isic2020/ and isic_archive/, the last an image
folder with labels.csv; or --set data.collections.isic2017.root=PATH and so on. Each may be a part of what is published:
rows without an image are listed, and ISIC 2019's table still gives its diagnoses to the images of the others. U-Nets
learn from the masks of HAM10000 and ISIC 2017. With --set data.collections.isic2020.use=test it is for the test alone.

`released` is what a model for others is to be trained with, on 2 CPU cores: pretrained networks, strong augmentation.
The ImageNet weights, efficientnet_b0_imagenet_autoaug_notop_f32.npz, are found in the folders of SEGFUSION_DATA.

Hardware, time and results: the full size is meant for an accelerator; none was run to its end here.
"""

import ml_collections

from segfusion_jax import config as segfusion_config


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the method at full size; for 2 CPU cores smaller ('quick'), or with pretrained networks ('released')."""
    config = segfusion_config.default()
    config.data.collection = ""
    config.data.collections = {
        "ham10000": {},
        "isic2017": {},
        "isic2019": {},
        "isic2020": {},
        "isic_archive": {"reader": "image_folder"},
    }
    config.data.on_error = "skip"
    config.data.target = "diagnosis"
    if variant:
        if variant not in _VARIANTS:
            raise ValueError(f"configs/dermoscopy.py:{variant} is not known; {', '.join(_VARIANTS)} are")
        _VARIANTS[variant](config)
    return config


def _shrink(config: ml_collections.ConfigDict) -> None:
    config.splits.num_folds = 3
    config.segmenter.image_size = (96, 128)
    config.segmenter.filters = 8
    config.segmenter.loss = "bce_dice"
    config.segmenter.training.update(epochs=4, batch_size=16, learning_rate=2e-3)
    config.classifier.image_size = (80, 80)
    config.classifier.training.update(epochs=8, ema_decay=0.99)


def _pretrain(config: ml_collections.ConfigDict) -> None:
    weights = "efficientnet_b0_imagenet_autoaug_notop_f32.npz"
    config.splits.update(num_folds=3, test_fraction=0.1, validation_fraction=0.1)
    segmenter, classifier = config.segmenter, config.classifier
    segmenter.update(image_size=(144, 192), encoder="efficientnet_b0", pretrained=weights, filters=8, loss="bce_dice")
    classifier.update(pretrained=weights, dropout=0.2, frozen_epochs=1)
    for network in (segmenter, classifier):
        network.augmentation.update(rotation=180.0, shift_height=0.1, shift_width=0.1, zoom=0.25, white_balance=0.2)
        network.training.update(optimizer="adamw", warmup_epochs=0.5)
    segmenter.augmentation.update(brightness=0.2, contrast=0.2, saturation=0.2, hue=8.0)
    segmenter.training.update(epochs=6, images_per_epoch=4000, batch_size=8, weight_decay=1e-4, ema_decay=0.995)
    classifier.augmentation.update(brightness=0.25, contrast=0.25, saturation=0.3, hue=10.0)
    classifier.training.update(epochs=16, learning_rate=5e-4, weight_decay=0.02, ema_decay=0.998)


_VARIANTS = {"quick": _shrink, "released": _pretrain}
