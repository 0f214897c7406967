"""Test-time augmentation: the mean of what a network says of the eight orientations of an image."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

_FLIPS = ((False, False), (False, True), (True, False), (True, True))
"""Flips of rows and of columns. These four, of an image and of its transpose, are the symmetries of a square."""


def mean_over_orientations(
    predict: Callable[[jax.Array], jax.Array], images: jax.Array, orientations: int, *, is_map: bool
) -> jax.Array:
    """Returns the mean of what `predict` says of each orientation, which is the same of an image however it lies.

    Args:
      predict: images to an array with a row an image. It is traced once; twice for images that are not square, which
        stand upright after a quarter turn. One after the other is predicted, in the memory that one needs.
      images: [batch, height, width, channels].
      orientations: 1, the images as they are, or 8.
      is_map: whether `predict` gives [batch, height, width], which is turned back as its image was turned.

    Returns:
      What `predict` gives of `images`.
    """
    if orientations == 1:
        return predict(images)

    def mean_over_flips(images):
        def predict_flipped(flips):
            output = predict(_flip(images, flips))
            return _flip(output, flips) if is_map else output

        return lax.map(predict_flipped, jnp.array(_FLIPS)).mean(0)

    transposed = images.swapaxes(1, 2)
    if images.shape == transposed.shape:
        lying, standing = lax.map(mean_over_flips, jnp.stack([images, transposed]))
    else:
        lying, standing = mean_over_flips(images), mean_over_flips(transposed)
    return (lying + (standing.swapaxes(1, 2) if is_map else standing)) / 2


def _flip(array, flips):
    for axis, flip in enumerate(flips, start=1):
        array = jnp.where(flip, jnp.flip(array, axis), array)
    return array
