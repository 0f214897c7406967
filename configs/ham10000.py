"""HAM10000: 10,015 dermoscopic images of 7,470 lesions, annotated masks, benign against malignant.

    segfusion train --config ham10000 --set data.root=PATH --workdir runs/ham10000
    segfusion train --config ham10000:quick --set data.root=PATH --workdir runs/ham10000_quick

PATH holds the official files: HAM10000_metadata.csv, HAM10000_images_part_1/, HAM10000_images_part_2/,
HAM10000_segmentations_lesion_tschandl/ (doi:10.7910/DVN/DBW86T). With
--set classifier.pretrained=efficientnet_b0.npz the classifier starts from ImageNet weights.

What the paper reports, under its own protocol and under honest ones: `protocols` is small, `paper` of the paper's size.
    segfusion study protocols --config ham10000:protocols --set data.root=PATH --workdir runs/protocols
    segfusion train --config ham10000:paper --set data.root=PATH --workdir runs/ham10000_paper

Hardware, time and results: the full size is meant for an accelerator and has not been run to its end here; `quick` and
`protocols` run on 2 CPU cores, see docs/results.md and docs/evaluation.md.
"""

import ml_collections

from segfusion_jax import config as segfusion_config


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the method at full size, or a variant of it: all of it, smaller, within an hour on 2 CPU cores ('quick');
    the paper's own protocol at full size ('paper'), and small and with annotated masks ('protocols').
    """
    config = segfusion_config.default()
    config.data.collection = "ham10000"
    if variant:
        if variant not in _VARIANTS:
            raise ValueError(f"configs/ham10000.py:{variant} is not known; {', '.join(_VARIANTS)} are")
        _VARIANTS[variant](config)
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


def _as_published(config: ml_collections.ConfigDict) -> None:
    """Takes the pool, the protocol and the schedule that the paper's code and figures show."""
    config.splits.protocol = "paper"
    config.splits.pool = 250
    config.splits.test_fraction = 0.2
    config.splits.validation_fraction = 0.1
    config.splits.num_folds = 3
    config.segmenter.training.schedule = "constant"
    config.bridge.mode = "dim"
    config.classifier.training.schedule = "constant"


def _shrink_published(config: ml_collections.ConfigDict) -> None:
    _as_published(config)
    config.segmenter.image_size = (112, 112)  # of the annotated masks
    config.bridge.masks = "annotated"
    config.classifier.image_size = (112, 112)
    config.classifier.training.schedule = "cosine"
    config.classifier.training.epochs = 8


_VARIANTS = {"quick": _shrink, "paper": _as_published, "protocols": _shrink_published}
