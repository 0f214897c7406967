"""Every field of a run: its default, unit and meaning, and every check of a value.

Configs are written as `ml_collections.ConfigDict` (see `configs/`) and become frozen dataclasses at the door. Nothing
else sees a ConfigDict or a flag. It imports nothing of ours, and for the help nothing that takes time.
"""

from segfusion_jax.config.reading import flatten
from segfusion_jax.config.root import Config, default
from segfusion_jax.config.sections import (
    BACKBONES,
    BRIDGE_MODES,
    COLLECTIONS,
    CONVENTIONS,
    TEST_TIME_AUGMENTATIONS,
    Augmentation,
    Bridge,
    Checkpointing,
    Classifier,
    Data,
    Evaluation,
    Input,
    Parallel,
    Segmenter,
    Splits,
    Training,
)

__all__ = [
    "BACKBONES",
    "BRIDGE_MODES",
    "COLLECTIONS",
    "CONVENTIONS",
    "TEST_TIME_AUGMENTATIONS",
    "Augmentation",
    "Bridge",
    "Checkpointing",
    "Classifier",
    "Config",
    "Data",
    "Evaluation",
    "Input",
    "Parallel",
    "Segmenter",
    "Splits",
    "Training",
    "default",
    "flatten",
]
