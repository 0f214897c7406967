"""What a kernel of a convolution and an image must be to one another."""

import jax

Padding = tuple[tuple[int, int], tuple[int, int]]
"""Zeros added ((above, below), (left, right))."""


def check_window(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> None:
    """That a kernel [size, size, channels, ...] can be laid over x [batch, height, width, channels] at least once.

    Raises:
      ValueError: it cannot, or what is added to a side is as wide as the kernel.
    """
    size, channels = kernel.shape[0], x.shape[-1]
    if x.ndim != 4 or kernel.shape[:3] != (size, size, channels):
        raise ValueError(
            f"kernel of shape {kernel.shape}: must begin with (size, size, channels) for an image of shape {x.shape}"
        )
    if stride < 1 or not all(0 <= zeros < size for pair in padding for zeros in pair):
        raise ValueError(f"stride = {stride}, padding = {padding}: must be >= 1, and from 0 to {size - 1}")
    if any(side + sum(pair) < size for side, pair in zip(x.shape[1:3], padding, strict=True)):
        raise ValueError(f"image of shape {x.shape}, padding = {padding}: must not be smaller than the kernel, {size}")


def check_channels(channels: int, **arrays: jax.Array) -> None:
    """Raises ValueError where one of the arrays, given by their names, is not of shape [channels]."""
    for name, array in arrays.items():
        if array.shape != (channels,):
            raise ValueError(f"{name} of shape {array.shape}: must be {(channels,)}")
