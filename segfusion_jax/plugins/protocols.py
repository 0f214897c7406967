"""The five parts of which a config may name somebody's own: what each is called with, and what it returns.

All but the logger are pure: the same arguments give the same result, and arguments are left as they are.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from segfusion_jax.config import Data
from segfusion_jax.datasets.files import Folder
from segfusion_jax.datasets.record import Problem, Record


class Classifier(Protocol):
    """The `nnx.Module` that a `Backbone` makes; `head` is the name of its last layer.

    Its parameters are `nnx.Param` and float32, batch-norm statistics `nnx.BatchStat`; it holds no `nnx.Rngs`, since
    keys are passed. `key` None is no dropout.
    """

    head: nnx.Module

    def __call__(self, x: jax.Array, *, train: bool, key: jax.Array | None = None) -> jax.Array:
        """Maps images [batch, height, width, channels], normalised as ImageNet's, to logits [batch, num_classes]
        float32: `classify` of `features`.
        """
        ...

    def maps(self, x: jax.Array, *, train: bool, key: jax.Array | None = None) -> jax.Array:
        """Maps images to the last feature maps [batch, rows, columns, channels], on which evidence is shown."""
        ...

    def pool(self, maps: jax.Array) -> jax.Array:
        """Pools these maps to features [batch, features] float32."""
        ...

    def features(self, x: jax.Array, *, train: bool, key: jax.Array | None = None) -> jax.Array:
        """Maps images to `pool` of `maps`, [batch, features] float32."""
        ...

    def classify(self, features: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Applies `head`: features to logits [batch, num_classes] float32."""
        ...

    def middle_features(self, x: jax.Array) -> jax.Array:
        """Maps images to what they look like, [batch, any] float32, by which unfamiliar ones are told."""
        ...


class Backbone(Protocol):
    """`classifier.backbone`."""

    def __call__(
        self,
        *,
        num_classes: int,
        channels: int,
        dropout: float,
        drop_path: float,
        axis_name: str | None,
        remat: bool,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> Classifier:
        """Makes the network.

        Args:
          num_classes: number of logits, 1 for a sigmoid.
          channels: of the images, 3, or 4 with the mask.
          dropout: `classifier.dropout`.
          drop_path: `classifier.drop_path`.
          axis_name: axis of devices over which batch norm is synchronised; None for each device's own.
          remat: `classifier.training.remat`, which may be passed over.
          dtype: of the computation.
          rngs: keys that initial weights are drawn from.
        """
        ...


class Loss(Protocol):
    """`classifier.loss`."""

    def __call__(self, logits: jax.Array, possible: jax.Array) -> jax.Array:
        """Returns the loss of each image, [batch] float32, from 0; weights of classes are applied to it.

        Args:
          logits: [batch, classes] float32, of a softmax; of a sigmoid of logit z they are (0, z).
          possible: [batch, classes] bool, the classes that the image's label leaves possible: one, or, of a label of
            coarser grain, several.
        """
        ...


class Augmentation(Protocol):
    """`segmenter.augmentation.extra` and `classifier.augmentation.extra`, on the host after our own augmentation."""

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Returns image and mask, of the same shapes and dtypes.

        Args:
          image: [height, width, 3] uint8 RGB, to be left as it is.
          mask: [height, width] uint8, 255 times the share of lesion, to be left as it is.
          rng: all that is random comes from it.
        """
        ...


class Logger(Protocol):
    """What a `MakeLogger` makes."""

    def write(self, step: int, epoch: float, split: str, metrics: Mapping[str, float]) -> None:
        """Takes finite metrics of "train" or "validation"; after each step, or several, in rising order."""
        ...

    def close(self) -> None:
        """Ends it, also where a training was stopped."""
        ...


class MakeLogger(Protocol):
    """`metric_logger`."""

    def __call__(self, folder: pathlib.Path, from_step: int) -> Logger:
        """Returns a logger of the training of one network, on the one process that writes.

        Args:
          folder: that of its metrics.jsonl, in the workdir.
          from_step: the training goes on from here; of later steps, what was written before is void.
        """
        ...


class Reader(Protocol):
    """`data.collections.NAME.reader`; a module, a class or an object."""

    TITLE: str
    """What the collection is called."""
    ADDRESS: str
    """Where it is published."""
    LICENCE: str
    """Licence of its images and labels."""

    def read(self, root: Folder, data: Data) -> tuple[Sequence[Record], Sequence[Problem]]:
        """Lists the images without decoding one, and what cannot be used.

        Args:
          root: the folder or zip archive, `data.collections.NAME.root`.
          data: the section of the config.
        """
        ...


PROTOCOLS: Mapping[str, Any] = {
    "backbone": Backbone,
    "loss": Loss,
    "extra": Augmentation,
    "metric_logger": MakeLogger,
    "reader": Reader,
}
"""By the last part of the fields' names."""
