r"""ISIC 2020: 33,126 dermoscopic images of 2,056 patients, 584 melanomas; the U-Net learns from HAM10000.

    segfusion train --config isic2020 --set data.root=PATH --set data.mask_root=HAM10000_PATH \
        --workdir runs/isic2020

PATH holds the official files: ISIC_2020_Training_GroundTruth.csv (or _v2.csv),
ISIC_2020_Training_Duplicates.csv, train/
(https://challenge2020.isic-archive.com); HAM10000_PATH as in configs/ham10000.py.

Hardware, time and results: meant for an accelerator; not run to its end here.
"""

import ml_collections

from segfusion_jax import config as segfusion_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the method at full size, for a malignant share of 1.8 %."""
    config = segfusion_config.default()
    config.data.collection = "isic2020"
    config.data.mask_collection = "ham10000"
    config.classifier.class_weights = "balanced"
    return config
