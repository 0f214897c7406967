"""What an image goes through before a model sees it: it belongs to the model's weights."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Preprocessing(NamedTuple):
    """Normalisation of the red, green and blue values of an image in [0, 1], and its size.

    Attributes:
      mean: subtracted.
      std: divided by, after that.
      image_size: height and width in pixels that the weights were trained for; None where that is not known.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: tuple[int, ...] | None = None

    def __call__(self, images: jax.Array) -> jax.Array:
        """Normalises [..., channels], which is in [0, 1]; channels after the third, a mask, stay as they are."""
        colour = (images[..., :3] - jnp.array(self.mean)) / jnp.array(self.std)
        return jnp.concatenate([colour, images[..., 3:]], axis=-1)


IMAGENET = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation over ImageNet's training images."""
CENTRED = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""What takes images from [0, 1] to [-1, 1]."""
NONE = Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
"""Stays in [0, 1]."""
