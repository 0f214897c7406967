"""What the machine can do: a large matrix product and a large copy, in JAX."""

import time

import jax
import jax.numpy as jnp
from serving import serve


def main() -> None:
    """Answers any line with operations and bytes a second."""
    gpu = jax.default_backend() == "gpu"
    side, dtype = (8192, jnp.bfloat16) if gpu else (2048, jnp.float32)
    a = jax.random.normal(jax.random.key(0), (side, side), dtype)
    x = jax.random.normal(jax.random.key(1), ((2**30 if gpu else 2**26),), jnp.bfloat16 if gpu else jnp.float32)
    product, copy = jax.jit(lambda a: a @ a), jax.jit(lambda x: -x)

    def rate(function, array, work):
        jax.block_until_ready(function(array))
        start = time.perf_counter()
        for _ in range(5):
            result = function(array)
        jax.block_until_ready(result)
        return 5 * work / (time.perf_counter() - start)

    def answer(_):
        return {"flops": rate(product, a, 2 * side**3), "bytes": rate(copy, x, 2 * x.nbytes)}

    serve(answer, {})


main()
