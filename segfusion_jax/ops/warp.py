"""Affine maps of images, of places and of colours, on the device."""

import jax
import jax.numpy as jnp


def warp_affine(images: jax.Array, matrices: jax.Array) -> jax.Array:
    """Warps each image as `cv2.warpAffine` does with INTER_LINEAR and BORDER_REPLICATE, in float32 throughout.

    OpenCV may round coordinates to 1/32 pixel, so that its values differ by up to 1/32 of those between neighbours.

    Args:
      images: [batch, height, width, channels] uint8.
      matrices: [batch, 2, 3] float32, of (x, y) pixels of the input to pixels of the output; invertible.

    Returns:
      uint8 of the shape of `images`, interpolated between the four nearest pixels and rounded; beyond the border the
      nearest pixel repeats.
    """
    return jax.vmap(_warp)(images, matrices)


def recolour(images: jax.Array, matrices: jax.Array) -> jax.Array:
    """Recolours images [batch, height, width, 3] uint8 as `cv2.transform` does, by matrices [batch, 3, 4] float32."""
    linear = jnp.einsum("bhwc,bdc->bhwd", images.astype(jnp.float32), matrices[..., :3], precision="highest")
    moved = linear + matrices[:, None, None, :, 3]
    return jnp.clip(jnp.round(moved), 0, 255).astype(jnp.uint8)


def _warp(image, matrix):
    height, width, channels = image.shape
    x, y = _sources(matrix, height, width)
    # Whoever is clamped beyond the border is between equal pixels.
    x, y = jnp.clip(x, 0, width - 1), jnp.clip(y, 0, height - 1)
    left, top = jnp.floor(x), jnp.floor(y)
    across, down = (x - left)[..., None], (y - top)[..., None]
    left, top = left.astype(jnp.int32), top.astype(jnp.int32)
    right, bottom = jnp.minimum(left + 1, width - 1), jnp.minimum(top + 1, height - 1)
    pixels = image.reshape(-1, channels)

    def row(start):
        a, b = (pixels[start * width + column].astype(jnp.float32) for column in (left, right))
        return a + across * (b - a)

    upper, lower = row(top), row(bottom)
    return jnp.round(upper + down * (lower - upper)).astype(jnp.uint8)


def _sources(matrix, height, width):
    """Returns where each output pixel comes from, by sums instead of `@`, which accelerators round to fewer bits."""
    (a, b, shift_x), (c, d, shift_y) = matrix
    determinant = a * d - b * c
    x, y = jnp.arange(width) - shift_x, jnp.arange(height)[:, None] - shift_y
    return (d * x - b * y) / determinant, (a * y - c * x) / determinant
