"""Every field of a run: its default, unit and meaning, and every check of a value.

Configs are written as `ml_collections.ConfigDict` (see `configs/`) and become frozen dataclasses at the door. Nothing
else sees a ConfigDict or a flag. It imports nothing of ours, and for the help nothing that takes time.
"""

from segfusion_jax.config.data import COLLECTIONS as COLLECTIONS
from segfusion_jax.config.data import Data as Data
from segfusion_jax.config.data import Source as Source
from segfusion_jax.config.fields import is_plugin as is_plugin
from segfusion_jax.config.places import unplaced as unplaced
from segfusion_jax.config.reading import flatten as flatten
from segfusion_jax.config.root import Config as Config
from segfusion_jax.config.root import default as default
from segfusion_jax.config.sections import BACKBONES as BACKBONES
from segfusion_jax.config.sections import BRIDGE_MODES as BRIDGE_MODES
from segfusion_jax.config.sections import CONVENTIONS as CONVENTIONS
from segfusion_jax.config.sections import TEST_TIME_AUGMENTATIONS as TEST_TIME_AUGMENTATIONS
from segfusion_jax.config.sections import Augmentation as Augmentation
from segfusion_jax.config.sections import Bridge as Bridge
from segfusion_jax.config.sections import Checkpointing as Checkpointing
from segfusion_jax.config.sections import Classifier as Classifier
from segfusion_jax.config.sections import Evaluation as Evaluation
from segfusion_jax.config.sections import Input as Input
from segfusion_jax.config.sections import Parallel as Parallel
from segfusion_jax.config.sections import Release as Release
from segfusion_jax.config.sections import Segmenter as Segmenter
from segfusion_jax.config.sections import Splits as Splits
from segfusion_jax.config.sections import Training as Training
