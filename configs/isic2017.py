"""ISIC 2017: 2,000 dermoscopic images for training, 150 for validation, 600 official test images; masks and diagnoses.

    segfusion train --config isic2017 --set data.root=PATH --workdir runs/isic2017
    segfusion train --config isic2017 --set data.download=True --workdir runs/isic2017

PATH holds the official files, as folders or zips: ISIC-2017_Training_Data, ISIC-2017_Training_Part1_GroundTruth,
ISIC-2017_Training_Part3_GroundTruth.csv, and the same of Validation and Test_v2
(https://challenge.isic-archive.com/data/#2017). The official test images are left alone, unless
--set splits.official_test=True makes them the test split.

Hardware, time and results: meant for an accelerator; not run to its end here.
"""

import ml_collections

from segfusion_jax import config as segfusion_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the method at full size."""
    config = segfusion_config.default()
    config.data.collection = "isic2017"
    return config
