"""Anybody's own images, with masks for at least some of them.

    segfusion train --config image_folder --set data.root=PATH --workdir runs/mine

PATH holds a table, `labels.csv`, with a column `image` and, as far as they are known, `label`, `mask`, `group` and
others; or the folders `benign` and `malignant`. segfusion_jax/datasets/collections/image_folder.py says more. Without
masks, those of another collection serve: --set data.collections.ham10000.use=masks, found in SEGFUSION_DATA or at
--set data.collections.ham10000.root=HAM10000.

Hardware, time and results: meant for an accelerator; not run to its end here.
"""

import ml_collections

from segfusion_jax import config as segfusion_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the method at full size."""
    config = segfusion_config.default()
    config.data.collection = "image_folder"
    return config
