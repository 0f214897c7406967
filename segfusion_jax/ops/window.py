"""How the kernel of a convolution is laid over an image."""

from typing import NamedTuple

import jax

Padding = tuple[tuple[int, int], tuple[int, int]]
"""Zeros added ((above, below), (left, right))."""


class Window(NamedTuple):
    """Stride of both axes, and the zeros around the image."""

    stride: int
    padding: Padding

    def check(self, x: jax.Array, kernel: jax.Array) -> None:
        """Checks that a kernel [size, size, channels, ...] fits x [batch, height, width, channels] at least once.

        Raises:
          ValueError: it cannot, or what is added to a side is as wide as the kernel.
        """
        size, (stride, padding) = kernel.shape[0], self
        if x.ndim != 4 or kernel.shape[:3] != (size, size, x.shape[-1]):
            raise ValueError(
                f"kernel of shape {kernel.shape}: must begin with (size, size, channels) "
                f"for an image of shape {x.shape}"
            )
        if stride < 1 or not all(0 <= zeros < size for pair in padding for zeros in pair):
            raise ValueError(f"stride = {stride}, padding = {padding}: must be >= 1, and from 0 to {size - 1}")
        if any(side + sum(pair) < size for side, pair in zip(x.shape[1:3], padding, strict=True)):
            raise ValueError(
                f"image of shape {x.shape}, padding = {padding}: must not be smaller than the kernel, {size}"
            )

    def output_shape(self, x: jax.Array, kernel: jax.Array) -> tuple[int, ...]:
        """Returns [batch, new height, new width, the kernel's last axis]."""
        sides = (
            (side + sum(pair) - kernel.shape[0]) // self.stride + 1
            for side, pair in zip(x.shape[1:3], self.padding, strict=True)
        )
        return x.shape[0], *sides, kernel.shape[-1]

    def attributes(self, size: int) -> dict[str, int]:
        """Returns the window as the native kernels take it, for a kernel of that size."""
        (top, _), (left, _) = self.padding
        return {"size": size, "stride": self.stride, "top": top, "left": left}
