"""The embedded default: drawn images, small models, the same stages and the same code as real data.

    segfusion train --config synthetic --workdir runs/synthetic

Hardware: 2 CPU cores. Time and result: see the table in docs/results.md.
"""

import ml_collections

from segfusion_jax import config as segfusion_config


def get_config() -> ml_collections.ConfigDict:
    """Returns everything small enough for minutes on a CPU."""
    config = segfusion_config.default()
    config.data.collection = "synthetic"
    config.data.synthetic_images = 2000
    config.splits.num_folds = 3

    config.segmenter.image_size = (48, 64)
    config.segmenter.filters = 8
    config.segmenter.loss = "bce_dice"
    config.segmenter.training.epochs = 3
    config.segmenter.training.batch_size = 16
    config.segmenter.training.learning_rate = 5e-3

    config.classifier.image_size = (64, 64)
    config.classifier.width = 0.5
    config.classifier.depth = 0.5
    config.classifier.drop_path = 0.0
    config.classifier.augmentation.shift_height = 0.05
    config.classifier.augmentation.shift_width = 0.05
    config.classifier.training.epochs = 12
    config.classifier.training.batch_size = 16
    config.classifier.training.learning_rate = 2e-3
    config.classifier.training.ema_decay = 0.99
    return config
