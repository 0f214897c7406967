"""Depthwise convolution on a GPU by Pallas kernels (Triton), for the layers that a table says they are faster for.

Forwards a kernel reads its input and writes its output, and adds up the output's moments or applies bias and activation
on the way. Backwards one kernel makes both gradients: the products of the output's gradient with the kernel's taps, and
with the input, need the same values. Zeros around the image are masks, and cost no pass.

A program works on tiles of [pixels, channels], one after the other. Pixels are numbered through images, rows, columns.
"""

import functools
import json
import pathlib
from collections.abc import Iterator
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from segfusion_jax.ops import native
from segfusion_jax.ops.normalization import Activation, Moments
from segfusion_jax.ops.window import Window

TABLE = pathlib.Path(__file__).with_name("depthwise_gpu.json")
"""Kind of device -> layer -> pass -> its `Tiling`, where that is faster than XLA; benchmarks/gpu.sh writes it."""

Pass = Literal["moments", "activation", "gradients"]
"""Convolution and moments, convolution and activation, both gradients: the functions below."""


class Tiling(NamedTuple):
    """How a kernel shares its work.

    Attributes:
      pixels: pixels of a tile, a power of two.
      channels: channels of a tile, a power of two.
      tiles: tiles that a program works on, one after the other; it adds up sums over them.
    """

    pixels: int
    channels: int
    tiles: int


def tiling(which: Pass, x: jax.Array, kernel: jax.Array, window: Window) -> Tiling | None:
    """Returns how the kernel of a pass is to share its work; None where the layer is XLA's.

    It is XLA's where no device like this one was measured, of no images, and of more values than 32 bits can number.
    """
    if jax.default_backend() != "gpu" or not native.allowed() or not 0 < x.size < 2**31:
        return None
    measured = _table().get(jax.devices()[0].device_kind, {}).get(layer(x, kernel, window), {})
    return Tiling(*measured[which]) if which in measured else None


def layer(x: jax.Array, kernel: jax.Array, window: Window) -> str:
    """Returns a layer's name in the table, such as "56x56x144, 5x5/2, bfloat16"."""
    size = kernel.shape[0]
    return f"{'x'.join(map(str, x.shape[1:]))}, {size}x{size}/{window.stride}, {x.dtype}"


@functools.cache
def _table() -> dict[str, dict[str, dict[Pass, list[int]]]]:
    return json.loads(TABLE.read_text())


def conv_moments(x: jax.Array, kernel: jax.Array, window: Window, tiling: Tiling) -> tuple[jax.Array, Moments]:
    """Returns the convolution of x [batch, height, width, channels], and the moments of what it makes."""
    shape = window.output_shape(x, kernel)
    grid = _Grid(_Pixels(*shape[:3]).number, shape[-1], tiling)
    sums = jax.ShapeDtypeStruct((grid.groups, shape[-1]), jnp.float32)
    shapes = jax.ShapeDtypeStruct((grid.pixels, shape[-1]), x.dtype), sums, sums
    body = functools.partial(_moments_body, grid=grid, convolve=_convolution(x, kernel, shape, window))
    y, total, square = grid.call("depthwise_moments", body, shapes, _flat(x), _flat(kernel))
    return y.reshape(shape), (total.sum(0), square.sum(0))


def conv_activation(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, window: Window, tiling: Tiling, activation: Activation
) -> jax.Array:
    """Returns activation(convolution + bias), which is rounded to x's dtype once."""
    shape = window.output_shape(x, kernel)
    grid = _Grid(_Pixels(*shape[:3]).number, shape[-1], tiling)
    convolve = _convolution(x, kernel, shape, window)
    body = functools.partial(_activation_body, grid=grid, convolve=convolve, activation=activation)
    shapes = jax.ShapeDtypeStruct((grid.pixels, shape[-1]), x.dtype)
    return grid.call("depthwise_activation", body, shapes, _flat(x), _flat(kernel), bias).reshape(shape)


def gradients(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, window: Window, tiling: Tiling
) -> tuple[jax.Array, jax.Array]:
    """Returns the gradients of x and of the kernel [size, size, channels], for that of the output."""
    batch, height, width, channels = x.shape
    cells = _Pixels(batch, -(-height // window.stride), -(-width // window.stride))
    grid = _Grid(cells.number, channels, tiling)
    body = functools.partial(
        _gradients_body,
        grid=grid,
        cells=cells,
        inputs=_Pixels(*x.shape[:3]),
        outputs=_Pixels(*gradient.shape[:3]),
        taps=_Taps(kernel.shape[0], window),
    )
    shapes = (
        jax.ShapeDtypeStruct(_flat(x).shape, x.dtype),
        jax.ShapeDtypeStruct((grid.groups, kernel.shape[0] ** 2, channels), jnp.float32),
    )
    dx, dkernel = grid.call("depthwise_gradients", body, shapes, _flat(x), _flat(kernel), _flat(gradient))
    return dx.reshape(x.shape), dkernel.sum(0).reshape(kernel.shape).astype(kernel.dtype)


class _Pixels(NamedTuple):
    """Pixels of some images, which are numbered through."""

    images: int
    rows: int
    columns: int

    @property
    def number(self):
        return self.images * self.rows * self.columns

    def places(self, numbers):
        """Returns image, row and column of the pixels of these numbers."""
        rest = lax.div(numbers, self.columns)
        return lax.div(rest, self.rows), lax.rem(rest, self.rows), lax.rem(numbers, self.columns)

    def find(self, image, row, column):
        """Returns the numbers of the pixels there, and whether there are such in the image."""
        inside = (row >= 0) & (row < self.rows) & (column >= 0) & (column < self.columns)
        return (image * self.rows + row) * self.columns + column, inside


class _Taps(NamedTuple):
    """Where the taps of a kernel lie: input = stride x output + tap - zeros before the image, along both axes."""

    size: int
    window: Window

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        (top, _), (left, _) = self.window.padding
        for number in range(self.size**2):
            yield number, number // self.size - top, number % self.size - left

    def meeting(self, phase: tuple[int, int]) -> Iterator[tuple[int, tuple[int, int]]]:
        """Yields the taps that lead to inputs stride x cell + phase, and how far from the cell the outputs are."""
        stride = self.window.stride
        for number, down, right in self:
            away = phase[0] - down, phase[1] - right
            if away[0] % stride == away[1] % stride == 0:
                yield number, (away[0] // stride, away[1] // stride)


class _Grid:
    """The programs that share a number of pixels and channels, in one row: those of the same pixels stand together."""

    def __init__(self, pixels: int, channels: int, tiling: Tiling):
        self.pixels, self.channels, self.tiling = pixels, channels, tiling
        self.parts = pl.cdiv(channels, tiling.channels)
        self.groups = pl.cdiv(pixels, tiling.pixels * tiling.tiles)

    def call(self, name, body, shapes, *arrays):
        """Runs the kernel; on a CPU it is interpreted."""
        return pl.pallas_call(
            body,
            out_shape=shapes,
            grid=(self.groups * self.parts,),
            compiler_params=triton.CompilerParams(num_warps=4, num_stages=1),
            interpret=jax.default_backend() == "cpu",
            name=name,
        )(*arrays)

    def part(self):
        """Returns the program's group, and its channels with their mask."""
        group, part = lax.div(pl.program_id(0), self.parts), lax.rem(pl.program_id(0), self.parts)
        channels = part * self.tiling.channels + jnp.arange(self.tiling.channels)
        return group, channels, channels < self.channels

    def fold(self, group, work, carry):
        """Folds `work(pixel numbers, their mask, carry) -> carry` over the tiles of a group."""

        def tile(number, carry):
            first = (group * self.tiling.tiles + number) * self.tiling.pixels
            pixels = first + jnp.arange(self.tiling.pixels)
            return work(pixels, pixels < self.pixels, carry)

        return lax.fori_loop(0, self.tiling.tiles, tile, carry)

    def zeros(self):
        return jnp.zeros((self.tiling.pixels, self.tiling.channels), jnp.float32)


def _convolution(x, kernel, shape, window):
    """Returns a function of references, and of pixels and channels with their masks: the convolution there, float32."""
    inputs, outputs, taps = _Pixels(*x.shape[:3]), _Pixels(*shape[:3]), _Taps(kernel.shape[0], window)

    def convolve(x_ref, kernel_ref, pixels, in_pixels, channels, in_channels):
        image, row, column = outputs.places(pixels)
        total = jnp.zeros((len(pixels), len(channels)), jnp.float32)
        for tap, down, right in taps:
            place, inside = inputs.find(image, row * window.stride + down, column * window.stride + right)
            values = _load(x_ref, place, channels, (inside & in_pixels)[:, None] & in_channels)
            total += values * _weights(kernel_ref, tap, channels, in_channels)
        return total

    return convolve


def _moments_body(x_ref, kernel_ref, y_ref, total_ref, square_ref, *, grid, convolve):
    group, channels, in_channels = grid.part()

    def work(pixels, in_pixels, sums):
        y = convolve(x_ref, kernel_ref, pixels, in_pixels, channels, in_channels).astype(y_ref.dtype)
        triton.store(y_ref.at[pixels[:, None], channels[None]], y, mask=in_pixels[:, None] & in_channels)
        y = jnp.where(in_pixels[:, None], y.astype(jnp.float32), 0)
        return sums[0] + y, sums[1] + y * y

    sums = grid.fold(group, work, (grid.zeros(), grid.zeros()))
    for ref, values in zip((total_ref, square_ref), sums, strict=True):
        triton.store(ref.at[group, channels], values.sum(0), mask=in_channels)


def _activation_body(x_ref, kernel_ref, bias_ref, y_ref, *, grid, convolve, activation):
    group, channels, in_channels = grid.part()
    bias = triton.load(bias_ref.at[channels], mask=in_channels, other=0).astype(jnp.float32)

    def work(pixels, in_pixels, carry):
        y = activation(convolve(x_ref, kernel_ref, pixels, in_pixels, channels, in_channels) + bias)
        mask = in_pixels[:, None] & in_channels
        triton.store(y_ref.at[pixels[:, None], channels[None]], y.astype(y_ref.dtype), mask=mask)
        return carry

    grid.fold(group, work, ())


def _gradients_body(x_ref, kernel_ref, gradient_ref, dx_ref, dkernel_ref, *, grid, cells, inputs, outputs, taps):
    """Walks over cells of stride x stride inputs, each of which the same taps lead to as in any other cell."""
    group, channels, in_channels = grid.part()
    stride = taps.window.stride

    def work(numbers, in_cells, sums):
        image, cell_row, cell_column = cells.places(numbers)

        @functools.cache
        def gradient(down, right):
            place, inside = outputs.find(image, cell_row + down, cell_column + right)
            return _load(gradient_ref, place, channels, (inside & in_cells)[:, None] & in_channels)

        sums = list(sums)
        for phase in ((down, right) for down in range(stride) for right in range(stride)):
            place, inside = inputs.find(image, cell_row * stride + phase[0], cell_column * stride + phase[1])
            mask = (inside & in_cells)[:, None] & in_channels
            values, dx = _load(x_ref, place, channels, mask), grid.zeros()
            for tap, away in taps.meeting(phase):
                dx += gradient(*away) * _weights(kernel_ref, tap, channels, in_channels)
                sums[tap] += gradient(*away) * values
            triton.store(dx_ref.at[place[:, None], channels[None]], dx.astype(dx_ref.dtype), mask=mask)
        return tuple(sums)

    sums = grid.fold(group, work, tuple(grid.zeros() for _ in taps))
    for tap, values in enumerate(sums):
        triton.store(dkernel_ref.at[group, tap, channels], values.sum(0), mask=in_channels)


def _load(ref, pixels, channels, mask):
    """Reads [pixels, channels] as float32, zeros where the mask is not set."""
    return triton.load(ref.at[pixels[:, None], channels[None]], mask=mask, other=0).astype(jnp.float32)


def _weights(ref, tap, channels, in_channels):
    return triton.load(ref.at[tap, channels], mask=in_channels, other=0).astype(jnp.float32)


def _flat(array):
    """Returns [rows, channels]: pixels of images, or taps of a kernel."""
    return array.reshape(-1, array.shape[-1])
