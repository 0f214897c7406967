"""Traces steps of a network: the device's time in each instruction, beside the bytes that it moves.

    python benchmarks/trace.py --network=efficientnet_b0 --mode=train --batch=256 --out=FOLDER

Writes FOLDER/trace_NETWORK_MODE.md, the same as JSON, the compiled program, and the trace itself, for xprof. Bytes are
those of moved.py.
"""

import argparse
import collections
import json
import pathlib

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from moved import SIZES, lower, moved
from side_by_side import table

from segfusion_jax.config import Parallel
from segfusion_jax.runtime.devices import AXIS, keep_memory, make_devices


def device_seconds(folder: pathlib.Path) -> dict[str, float]:
    """Adds up the seconds of each instruction in a trace: those of a GPU's streams, without one those of the host."""
    (file,) = folder.rglob("*.xplane.pb")
    planes = list(jax.profiler.ProfileData.from_file(str(file)).planes)
    gpus = [plane for plane in planes if "/device:GPU" in plane.name]
    seconds = collections.Counter()
    for plane in gpus or planes:
        for line in plane.lines:
            if not gpus or line.name.startswith("Stream"):
                for event in line.events:
                    name = dict(event.stats).get("hlo_op") or (event.name if gpus else None)
                    if name:
                        seconds[str(name)] += event.duration_ns / 1e9
    return seconds


def main() -> None:
    """Compiles, traces, and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=SIZES, default="efficientnet_b0")
    parser.add_argument("--mode", choices=("train", "predict"), default="train")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for what is written")
    args = parser.parse_args()
    keep_memory()
    devices = make_devices(Parallel())
    lowered, arguments = lower(args.network, args.mode, args.batch, devices)
    compiled = lowered.compile()
    first, batch = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), arguments)
    first = devices.replicate(first)
    batch = jax.device_put(batch, NamedSharding(devices.mesh, P(AXIS if args.mode == "train" else None)))

    def run(steps, first):
        for _ in range(steps):
            result = compiled(first, batch)
            first = result[0] if args.mode == "train" else first  # the state was donated
        jax.block_until_ready(result)
        return first

    first, name = run(2, first), f"trace_{args.network}_{args.mode}"
    folder = args.out / name
    with jax.profiler.trace(str(folder)):
        run(args.steps, first)
    (args.out / f"{name}.hlo").write_text(compiled.as_text())
    moves = {one.name: one.num_bytes * one.times for one in moved(compiled.as_text())}
    seconds = {key: value / args.steps for key, value in device_seconds(folder).items()}
    (args.out / f"{name}.json").write_text(json.dumps({"seconds": seconds, "bytes": moves}, indent=1))
    rows = [
        [key, f"{1000 * value:.3f}", f"{moves.get(key, 0) / 1e6:.0f}", f"{moves.get(key, 0) / value / 1e9:.0f}"]
        for key, value in sorted(seconds.items(), key=lambda item: -item[1])[:60]
    ]
    total, all_bytes = sum(seconds.values()), sum(moves.values())
    rows.insert(
        0, ["all", f"{1000 * total:.2f}", f"{all_bytes / 1e6:.0f}", f"{all_bytes / max(total, 1e-9) / 1e9:.0f}"]
    )
    text = table(["instruction", "ms a step", "MB", "GB/s"], rows)
    (args.out / f"{name}.md").write_text(f"{devices.describe()}, batch {args.batch}\n\n{text}\n")
    print("\n".join(text.splitlines()[:25]))


if __name__ == "__main__":
    main()
