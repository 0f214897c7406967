"""ISIC 2018: the images and masks of task 1, the diagnoses of task 3, which are those of HAM10000.

    segfusion train --config isic2018 --set data.root=PATH --workdir runs/isic2018
    segfusion train --config isic2018 --set data.download=True --workdir runs/isic2018

PATH holds the official files, as folders or zips: ISIC2018_Task1-2_Training_Input, ISIC2018_Task1_Training_GroundTruth,
ISIC2018_Task3_Training_Input, ISIC2018_Task3_Training_GroundTruth, ISIC2018_Task3_Training_LesionGroupings.csv, and the
same of Validation and Test (https://challenge.isic-archive.com/data/#2018). The official test images are left alone,
unless --set splits.official_test=True makes them the test split.

Hardware, time and results: meant for an accelerator; not run to its end here.
"""

import ml_collections

from segfusion_jax import config as segfusion_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the method at full size."""
    config = segfusion_config.default()
    config.data.collection = "isic2018"
    return config
