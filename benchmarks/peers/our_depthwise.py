"""Our depthwise convolution as the steps use it, and the other ways in JAX: shifted sums, `lax`."""

import functools
import sys

import jax
import jax.numpy as jnp
from depthwise_passes import batch, serve_passes

from segfusion_jax.ops import depthwise
from segfusion_jax.ops.window import Window
from segfusion_jax.runtime.devices import keep_memory


def main() -> None:
    """Serves the implementation that the last argument names."""
    way = sys.argv.pop()
    keep_memory()
    images = batch()
    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16

    def prepare(layer, which):
        side, channels, size, stride = layer
        padding = ((size // 2, size // 2),) * 2
        options = {"window": Window(stride, padding)}
        x = jax.random.normal(jax.random.key(0), (images, side, side, channels), dtype)
        kernel = jax.random.normal(jax.random.key(1), (size, size, channels), dtype)
        y = jax.eval_shape(functools.partial(depthwise._lax_linear, **options), x, kernel)
        gradient = jax.random.normal(jax.random.key(2), y.shape, dtype)
        forward, backward = {
            "ours": (
                lambda x, k: depthwise.depthwise_moments(x, k, stride, padding)[0],
                _ours_backward(stride, padding),
            ),
            "shifts": _with(options, depthwise._shifted_linear, depthwise._shifted_gradients),
            "lax": _with(options, depthwise._lax_linear, depthwise._lax_gradients),
        }[way]
        passes = {
            "forward": lambda x, k, g: forward(x, k),
            "input gradient": lambda x, k, g: backward(x, k, g)[0],
            "kernel gradient": lambda x, k, g: backward(x, k, g)[1],
        }
        compiled = jax.jit(passes[which])

        def run(times):
            for _ in range(times):
                result = compiled(x, kernel, gradient)
            jax.block_until_ready(result)

        return run

    serve_passes(prepare)


def _with(options, *functions):
    return tuple(functools.partial(function, **options) for function in functions)


def _ours_backward(stride, padding):
    return lambda x, k, g: jax.vjp(lambda *a: depthwise.depthwise_moments(*a, stride, padding)[0], x, k)[1](g)


main()
