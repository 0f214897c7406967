"""HAM10000: 10,015 dermoscopic images of 7,470 lesions, annotated masks, benign against malignant.

    segfusion train --config ham10000 --set data.root=PATH --workdir runs/ham10000
    segfusion train --config ham10000:quick --set data.root=PATH --workdir runs/ham10000_quick

PATH holds the official files: HAM10000_metadata.csv, HAM10000_images_part_1/, HAM10000_images_part_2/,
HAM10000_segmentations_lesion_tschandl/ (doi:10.7910/DVN/DBW86T). With
--set classifier.pretrained=efficientnet_b0.npz the classifier starts from ImageNet weights.

Hardware, time and results: the full size is meant for an accelerator and has not been run to its end here; `quick` runs
on 2 CPU cores, see the table in README.md.
"""

import ml_collections

from segfusion_jax import config as segfusion_config


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the method at full size; with the variant 'quick' all of it, smaller, within an hour on 2 CPU cores."""
    config = segfusion_config.default()
    config.data.collection = "ham10000"
    if variant == "quick":
        _shrink(config)
    elif variant:
        raise ValueError(f"configs/ham10000.py:{variant} is not known; 'quick' is")
    return config


def _shrink(config: ml_collections.ConfigDict) -> None:
    config.splits.num_folds = 3

    config.segmenter.image_size = (96, 128)
    config.segmenter.filters = 8
    config.segmenter.loss = "bce_dice"
    config.segmenter.training.epochs = 4
    config.segmenter.training.batch_size = 16
    config.segmenter.training.learning_rate = 2e-3

    config.classifier.image_size = (80, 80)
    config.classifier.training.epochs = 8
    config.classifier.training.ema_decay = 0.99
