"""Initial values of kernels [height, width, in, out] or [in, out], float32.

They are drawn by NumPy from a key of `rngs`: JAX would compile a program of random bits for every shape, which takes
EfficientNet-B0 ten seconds and more.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer
from scipy import special

Shape = tuple[int, ...]


def he_normal(rngs: nnx.Rngs, shape: Shape) -> jax.Array:
    """Draws from a truncated normal of variance 2 / fan-in (He et al., arXiv 1502.01852), as Keras does."""
    return _draw(rngs, shape, _truncated_normal, 2 / math.prod(shape[:-1]))


def lecun_normal(rngs: nnx.Rngs, shape: Shape) -> jax.Array:
    """Draws from a truncated normal of variance 1 / fan-in: what Flax gives a linear layer."""
    return _draw(rngs, shape, _truncated_normal, 1 / math.prod(shape[:-1]))


def fan_out_normal(rngs: nnx.Rngs, shape: Shape) -> jax.Array:
    """Draws from a normal of variance 2 / fan-out, as EfficientNet's authors do."""
    return _draw(rngs, shape, np.random.Generator.standard_normal, 2 / (math.prod(shape[:-2]) * shape[-1]))


def _draw(rngs: nnx.Rngs, shape: Shape, standard: Callable, variance: float) -> jax.Array:
    def on_host(key):
        return np.float32(math.sqrt(variance)) * standard(np.random.default_rng(np.asarray(key)), shape).astype("f4")

    key = jax.random.key_data(rngs.params())
    if isinstance(key, Tracer):
        return jax.pure_callback(on_host, jax.ShapeDtypeStruct(shape, jnp.float32), key)
    return jnp.asarray(on_host(key))  # a callback is a program of its own, compiled for every kernel


def _truncated_normal(generator, shape):
    """Draws normal values between -2 and 2 standard deviations, scaled to variance 1."""
    values = special.ndtri(generator.uniform(special.ndtr(-2), special.ndtr(2), shape))
    return values / 0.8796256610342398
