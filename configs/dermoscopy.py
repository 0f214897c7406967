"""Five collections at once: HAM10000, ISIC 2017, 2019 and 2020, and images of the ISIC archive; diagnoses.

    segfusion train --config dermoscopy --workdir runs/dermoscopy
    segfusion train --config dermoscopy:quick --workdir runs/dermoscopy_quick

A folder of SEGFUSION_DATA holds them as ham10000/, isic2017/, isic2019/, isic2020/ and isic_archive/, the last an image
folder with labels.csv; or --set data.collections.isic2017.root=PATH and so on. Each may be a part of what is published:
rows without an image are listed, and ISIC 2019's table still gives its diagnoses to the images of the others. U-Nets
learn from the masks of HAM10000 and ISIC 2017. With --set data.collections.isic2020.use=test it is for the test alone.

Hardware, time and results: meant for an accelerator; not run to its end here.
"""

import ml_collections

from segfusion_jax import config as segfusion_config


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the method at full size; with the variant 'quick' smaller, for 2 CPU cores."""
    config = segfusion_config.default()
    config.data.collection = ""
    config.data.collections = {
        "ham10000": {},
        "isic2017": {},
        "isic2019": {},
        "isic2020": {},
        "isic_archive": {"reader": "image_folder"},
    }
    config.data.on_error = "skip"
    config.data.target = "diagnosis"
    if variant == "quick":
        _shrink(config)
    elif variant:
        raise ValueError(f"configs/dermoscopy.py:{variant} is not known; 'quick' is")
    return config


def _shrink(config: ml_collections.ConfigDict) -> None:
    config.splits.num_folds = 3
    config.segmenter.image_size = (96, 128)
    config.segmenter.filters = 8
    config.segmenter.loss = "bce_dice"
    config.segmenter.training.update(epochs=4, batch_size=16, learning_rate=2e-3)
    config.classifier.image_size = (80, 80)
    config.classifier.training.update(epochs=8, ema_decay=0.99)
