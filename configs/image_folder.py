"""Anybody's own images, with masks for some of them or for none.

    segfusion check PATH
    segfusion train --config image_folder:quick --set data.root=PATH --set bridge.mode=none --workdir runs/mine
    segfusion train --config image_folder --set data.root=PATH --workdir runs/mine

PATH holds a table, `labels.csv`, with a column `image` and, as far as they are known, `label`, `mask`, `patient_id` and
others; or folders that are called like classes. `segfusion check` tells what is read of it, and the command to train
with. Without masks, `bridge.mode=none` trains a classifier of whole images alone; `bridge.masks=released/ham10000`
takes masks by a released model's U-Nets, of images that it never saw; or those of another collection serve:
--set data.collections.ham10000.use=masks, found in SEGFUSION_DATA or at --set data.collections.ham10000.root=HAM10000.

Hardware, time and results: `quick` is meant for some hundred images on 2 CPU cores. 120 of the ISIC archive, 50 of them
melanomas, without masks, took 10 min 52 s to the report, beside other work (2 cores of an Intel Xeon, 2026-11-28); the
ROC-AUC of 18 test images was 0.675, its interval from 0.377 to 0.944, which tells little. Another 120, of HAM10000,
took 2 min 14 s of processor time (22 min 33 s by the clock, beside some twenty other processes, 2026-12-01). The full
size is meant for an accelerator, and was not run to its end here.
"""

import ml_collections

from segfusion_jax import config as segfusion_config


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the method at full size, or, with 'quick', all of it smaller."""
    config = segfusion_config.default()
    config.data.collection = "image_folder"
    if variant == "quick":
        _shrink(config)
    elif variant:
        raise ValueError(f"configs/image_folder.py:{variant} is not known; quick is")
    return config


def _shrink(config: ml_collections.ConfigDict) -> None:
    config.splits.num_folds = 3

    config.segmenter.image_size = (96, 128)
    config.segmenter.filters = 8
    config.segmenter.loss = "bce_dice"
    config.segmenter.training.epochs = 10
    config.segmenter.training.batch_size = 16
    config.segmenter.training.learning_rate = 2e-3

    config.classifier.image_size = (112, 112)
    config.classifier.training.epochs = 20
    config.classifier.training.batch_size = 16
