r"""ISIC 2019: 25,331 dermoscopic images; the U-Net learns from the HAM10000 masks of the 10,015 images they share.

    segfusion train --config isic2019 --set data.root=PATH --set data.collections.ham10000.root=HAM \
        --workdir runs/isic2019

PATH holds the official files: ISIC_2019_Training_GroundTruth.csv, ISIC_2019_Training_Metadata.csv,
ISIC_2019_Training_Input/ (https://challenge.isic-archive.com/data/#2019); HAM as in configs/ham10000.py.

What the paper reports of it, under its own protocol and under honest ones, small:
    segfusion study protocols --config isic2019:protocols --set data.root=PATH \
        --set data.collections.ham10000.root=HAM --workdir runs/isic2019_protocols

Hardware, time and results: meant for an accelerator; not run to its end here.
"""

import ml_collections

from segfusion_jax import config as segfusion_config


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the method at full size; with the variant 'protocols' small, under the paper's own protocol."""
    config = segfusion_config.default()
    config.data.collection = "isic2019"
    config.data.collections = {"ham10000": {"use": "masks"}}
    if variant == "protocols":
        _shrink_published(config)
    elif variant:
        raise ValueError(f"configs/isic2019.py:{variant} is not known; 'protocols' is")
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
