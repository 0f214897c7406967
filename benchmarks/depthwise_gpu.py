"""Depthwise convolutions of EfficientNet-B0 on a GPU: XLA's beside our kernels in several tilings, checked and timed.

    python benchmarks/depthwise_gpu.py --out=FOLDER

Writes depthwise.md, depthwise.json and depthwise_gpu.json, the table that ops/depthwise_gpu.py reads: for each layer
and pass the fastest tiling, where it is right and faster than XLA. Both are compiled with what they replace: moments of
the output, bias and activation, both gradients. An error is the largest difference from XLA's result in float32, in
parts of the largest value. On a CPU the kernels are interpreted: a rehearsal, whose table is not for use.
"""

import argparse
import concurrent.futures
import functools
import json
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from side_by_side import PEERS, median, table

from segfusion_jax.ops import depthwise, depthwise_gpu
from segfusion_jax.ops.depthwise_gpu import Tiling
from segfusion_jax.ops.epilogue import activation_after, moments_after
from segfusion_jax.ops.window import Window

sys.path.insert(0, str(PEERS))
from depthwise_passes import LAYERS  # noqa: E402

TILINGS = {
    "moments": (Tiling(16, 64, 8), Tiling(16, 32, 8), Tiling(32, 64, 4)),
    "activation": (Tiling(16, 64, 4), Tiling(16, 32, 4)),
    "gradients": (Tiling(8, 64, 16), Tiling(16, 32, 16), Tiling(8, 32, 32)),
}
"""What is tried; larger tiles of the gradients' 25 sums do not fit into an H100's registers."""
TOLERANCE = 2e-2
"""Of bfloat16, whose steps are 0.4 to 0.8 %."""


def ways(which: str, window: Window) -> dict[str, Callable[..., Any]]:
    """Returns XLA's way and our kernels' to do a pass, each of the arrays that `arrays` makes."""
    silu = {"window": window, "activation": jax.nn.silu}
    linear = depthwise._lax_linear
    in_lax, kernel = {
        "moments": (functools.partial(moments_after, linear, window=window), depthwise_gpu.conv_moments),
        "activation": (functools.partial(activation_after, linear, **silu), depthwise_gpu.conv_activation),
        "gradients": (functools.partial(depthwise._lax_gradients, window=window), depthwise_gpu.gradients),
    }[which]
    options = silu if which == "activation" else {"window": window}
    return {"lax": in_lax} | {
        "x".join(map(str, tiling)): functools.partial(kernel, tiling=tiling, **options) for tiling in TILINGS[which]
    }


def arrays(which: str, batch: int, layer: tuple[int, int, int, int], dtype: Any) -> tuple[jax.Array, ...]:
    """Draws what a pass of a layer takes: the image and the kernel, then the bias or the output's gradient."""
    side, channels, size, stride = layer
    outputs = -(-side // stride)
    shapes = [(batch, side, side, channels), (size, size, channels)]
    shapes += {"moments": [], "activation": [(channels,)], "gradients": [(batch, outputs, outputs, channels)]}[which]
    return tuple(jax.random.normal(jax.random.key(i), shape, dtype) for i, shape in enumerate(shapes))


def error(actual: Any, expected: Any) -> float:
    """Returns the largest difference of arrays of two trees, in parts of the largest value; inf for what is NaN."""
    pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
    errors = [jnp.abs(a.astype(jnp.float32) - e).max() / (jnp.abs(e).max() + 1e-30) for a, e in pairs]
    return float(np.nan_to_num(max(map(float, errors)), nan=np.inf))


def compiled(way: Callable[..., Any], shapes: tuple[Any, ...]) -> Callable[..., Any] | str:
    """Compiles a way; returns a message where that fails, so that the others go on."""
    try:
        return jax.jit(way).lower(*shapes).compile()
    except Exception as failure:  # whatever the compiler says
        return f"{type(failure).__name__}: {failure}"[:200]


def programs(batch: int, layer: tuple[int, int, int, int]) -> dict[tuple[str, str], Any]:
    """Compiles all ways of all passes of a layer at once: {(pass, way): program}; "float32" is what they are to be."""
    window, jobs = Window(layer[3], ((layer[2] // 2,) * 2,) * 2), {}
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for which in TILINGS:
            shapes = jax.eval_shape(lambda which=which: arrays(which, batch, layer, jnp.bfloat16))
            wide = jax.eval_shape(lambda which=which: arrays(which, batch, layer, jnp.float32))
            for way, function in ways(which, window).items():
                jobs[which, way] = pool.submit(compiled, function, shapes)
            jobs[which, "float32"] = pool.submit(compiled, ways(which, window)["lax"], wide)
    return {name: job.result() for name, job in jobs.items()}


def checked(call: Callable[..., Any] | str, given: tuple[jax.Array, ...], expected: Any) -> float | str:
    """Returns the error of a program's result; the message of one that could not be compiled, or cannot run."""
    if isinstance(call, str):
        return call
    try:
        return error(call(*given), expected)
    except Exception as failure:  # whatever the driver says
        return f"{type(failure).__name__}: {failure}"[:200]


def measure(candidates: dict[str, Any], given: tuple[jax.Array, ...], rounds: int, times: int) -> dict:
    """Checks and times the ways of a pass: {way: (median seconds, error)}, or the message of one that fails."""
    expected = candidates.pop("float32")(*(array.astype(jnp.float32) for array in given))
    errors = {way: checked(call, given, expected) for way, call in candidates.items()}
    seconds: dict[str, list[float]] = {way: [] for way, told in errors.items() if isinstance(told, float)}
    for _ in range(rounds):
        for way in seconds:
            call = candidates[way]
            start = time.perf_counter()
            for _ in range(times):
                result = call(*given)
            jax.block_until_ready(result)
            seconds[way].append((time.perf_counter() - start) / times)
    return errors | {way: (median(each), errors[way]) for way, each in seconds.items()}


def fastest(results: dict) -> str:
    """Returns the way that is right and takes the least time."""
    right = {way: r[0] for way, r in results.items() if not isinstance(r, str) and (r[1] < TOLERANCE or way == "lax")}
    return min(right, key=lambda way: right[way])


def main() -> None:
    """Writes the files anew after each layer, so that what was measured is there when time is up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for what is written")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--layers", type=int, default=len(LAYERS), help="how many of them, from the first")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--times", type=int, default=10, help="runs that are timed together")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    dtype, kind = jnp.bfloat16, jax.devices()[0].device_kind
    rows, everything, chosen = [], {}, {}
    for layer in LAYERS[: args.layers]:
        made = programs(args.batch, layer)
        for which in TILINGS:
            candidates = {way: program for (owner, way), program in made.items() if owner == which}
            given = arrays(which, args.batch, layer, dtype)
            results = measure(candidates, given, args.rounds, args.times)
            name = depthwise_gpu.layer(*given[:2], Window(layer[3], ()))
            best = fastest(results)
            everything.setdefault(name, {})[which] = results
            if best != "lax":
                chosen.setdefault(name, {})[which] = [int(number) for number in best.split("x")]
            for way, r in results.items():
                told = [r, ""] if isinstance(r, str) else [f"{1000 * r[0]:.3f}", f"{r[1]:.1e}"]
                rows.append([name, which, f"**{way}**" if way == best else way, *told])
        text = table(["layer", "pass", "way", "ms", "error"], rows)
        (args.out / "depthwise.md").write_text(f"{kind}, {args.batch} images\n\n{text}\n")
        (args.out / "depthwise.json").write_text(json.dumps(everything, indent=1))
        (args.out / "depthwise_gpu.json").write_text(json.dumps({kind: chosen}, indent=1) + "\n")
        print(f"{name}: {chosen.get(name, {})}", flush=True)


if __name__ == "__main__":
    main()
