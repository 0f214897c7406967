r"""ISIC 2019: 25,331 dermoscopic images; the U-Net learns from the HAM10000 masks of the 10,015 images they share.

    segfusion train --config isic2019 --set data.root=PATH --set data.mask_root=HAM10000_PATH \
        --workdir runs/isic2019

PATH holds the official files: ISIC_2019_Training_GroundTruth.csv, ISIC_2019_Training_Metadata.csv,
ISIC_2019_Training_Input/ (https://challenge.isic-archive.com/data/#2019); HAM10000_PATH as in configs/ham10000.py.

Hardware, time and results: meant for an accelerator; not run to its end here.
"""

import ml_collections

from segfusion_jax import config as segfusion_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the method at full size."""
    config = segfusion_config.default()
    config.data.collection = "isic2019"
    config.data.mask_collection = "ham10000"
    return config
