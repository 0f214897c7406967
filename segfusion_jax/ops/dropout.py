"""Dropout whose random numbers cost next to nothing and are kept nowhere: the gradient draws them again.

A value is dropped by a hash of its place and a key. The hash is two rounds, one a word of the key, of a mixing function
of 32 bits (multiply, exclusive or with itself shifted) whose constants were found by search for the least bias
(github.com/skeeto/hash-prospector).
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segfusion_jax.ops import native


def dropout(x: jax.Array, rate: float, *, key: jax.Array | None) -> jax.Array:
    """Zeroes each value with probability `rate` and scales the others by 1 / (1 - rate); key None leaves x as it is."""
    return concatenate_dropout([x], rate, key=key)


def concatenate_dropout(parts: Sequence[jax.Array], rate: float, *, key: jax.Array | None) -> jax.Array:
    """Applies `dropout` to one or two arrays [..., channels] put together along their channels.

    Raises:
      ValueError: the arrays differ in more than their channels, or `rate` is not in [0, 1).
    """
    if len(parts) not in (1, 2) or len({(part.shape[:-1], part.dtype) for part in parts}) != 1:
        kinds = ", ".join(f"{part.dtype}{part.shape}" for part in parts)
        raise ValueError(f"parts = {kinds}: must be one or two arrays, alike but for the last axis")
    if not 0 <= rate < 1:
        raise ValueError(f"rate = {rate}: must be at least 0 and less than 1")
    if key is None or rate == 0.0:
        if len(parts) == 1:
            return parts[0]
        return _concatenate_dropout(tuple(parts), jnp.zeros((2,), jnp.uint32), 0.0)
    return _concatenate_dropout(tuple(parts), jax.random.bits(key, (2,), jnp.uint32), rate)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _concatenate_dropout(parts, seed, rate):
    in_native, in_jax = functools.partial(_native, seed, rate), functools.partial(_jax, seed, rate)
    return native.either(in_native, in_jax, *parts)


def _forward(parts, seed, rate):
    return _concatenate_dropout(parts, seed, rate), (parts, seed)


def _backward(rate, residuals, gradient):
    parts, seed = residuals
    widths = tuple(part.shape[-1] for part in parts)
    in_native = functools.partial(_native_gradient, seed, rate, widths)
    in_jax = functools.partial(_jax_gradient, seed, rate, widths)
    return native.either(in_native, in_jax, gradient), np.zeros(seed.shape, jax.dtypes.float0)


_concatenate_dropout.defvjp(_forward, _backward)


def _native(seed, rate, *parts):
    shape = (*parts[0].shape[:-1], sum(part.shape[-1] for part in parts))
    none = jnp.zeros((*shape[:-1], 0), parts[0].dtype)
    like_y = jax.ShapeDtypeStruct(shape, parts[0].dtype)
    return native.call("concatenate_dropout", like_y, *(*parts, none)[:2], seed, **_attributes(rate))


def _native_gradient(seed, rate, widths, gradient):
    like = tuple(jax.ShapeDtypeStruct((*gradient.shape[:-1], width), gradient.dtype) for width in (*widths, 0)[:2])
    outputs = native.call("concatenate_dropout_gradient", like, gradient, seed, **_attributes(rate))
    return tuple(outputs[: len(widths)])


def _jax(seed, rate, *parts):
    return _drop(parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1), rate, seed)


def _jax_gradient(seed, rate, widths, gradient):
    return tuple(jnp.split(_drop(gradient, rate, seed), np.cumsum(widths[:-1]), axis=-1))


def _drop(x, rate, seed):
    if rate == 0.0:
        return x
    hashed = jax.lax.iota(jnp.uint32, x.size).reshape(x.shape)
    for word in (seed[0], seed[1]):
        hashed ^= word
        hashed = (hashed ^ hashed >> 16) * jnp.uint32(0x21F0AAAD)
        hashed = (hashed ^ hashed >> 15) * jnp.uint32(0xD35A2D97)
        hashed ^= hashed >> 15
    attributes = _attributes(rate)
    kept = hashed >= np.uint32(attributes["threshold"])
    return jnp.where(kept, x * attributes["scale"].astype(x.dtype), 0)


def _attributes(rate) -> dict[str, Any]:
    return {"threshold": min(round(rate * 2**32), 2**32 - 1), "scale": np.float32(1 / (1 - rate))}
