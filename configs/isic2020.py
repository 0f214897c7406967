r"""ISIC 2020: 33,126 dermoscopic images of 2,056 patients, 584 melanomas; the U-Net learns from HAM10000.

    segfusion train --config isic2020 --set data.root=PATH --set data.collections.ham10000.root=HAM \
        --workdir runs/isic2020

PATH holds the official files: ISIC_2020_Training_GroundTruth.csv (or _v2.csv),
ISIC_2020_Training_Duplicates.csv, train/
(https://challenge2020.isic-archive.com); HAM as in configs/ham10000.py.

What the paper reports of it, under its own protocol and under honest ones, small:
    segfusion study protocols --config isic2020:protocols --set data.root=PATH \
        --set data.collections.ham10000.root=HAM --workdir runs/isic2020_protocols

Hardware, time and results: meant for an accelerator; not run to its end here.
"""

import ml_collections

from segfusion_jax import config as segfusion_config


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the method at full size, for a malignant share of 1.8 %; with the variant 'protocols' small, under the
    paper's own protocol.
    """
    config = segfusion_config.default()
    config.data.collection = "isic2020"
    config.data.collections = {"ham10000": {"use": "masks"}}
    config.classifier.class_weights = "balanced"
    if variant == "protocols":
        _shrink_published(config)
    elif variant:
        raise ValueError(f"configs/isic2020.py:{variant} is not known; 'protocols' is")
    return config


def _shrink_published(config: ml_collections.ConfigDict) -> None:
    """Takes the pool, the protocol and the batch of the paper's code and figures, and small networks."""
    config.splits.protocol = "paper"
    config.splits.pool = 250
    config.splits.test_fraction = 0.2
    config.splits.validation_fraction = 0.1
    config.splits.num_folds = 3
    config.segmenter.image_size = (96, 128)
    config.segmenter.filters = 8
    config.segmenter.loss = "bce_dice"
    config.segmenter.training.epochs = 4
    config.segmenter.training.batch_size = 16
    config.segmenter.training.learning_rate = 2e-3
    config.bridge.mode = "dim"
    config.classifier.image_size = (112, 112)
    config.classifier.training.epochs = 8
    config.classifier.class_weights = "none"  # the pool is balanced
