"""Bytes that a step moves on a GPU, instruction by instruction, counted in its compiled text; no GPU is needed.

    pip install 'jax[cuda13]'
    python benchmarks/moved.py --network=efficientnet_b0 --mode=train --batch=256 --kernels

XLA's compiler for GPUs runs without one when the device is described to it, which takes minutes. Its text has what is
fused with what, so it tells the passes over memory that a change of the code saves. It does not tell times, nor which
algorithms a device would choose by trying them, nor what stays in the device's cache: each instruction is taken to read
all its operands and to write its results once.
"""

import argparse
import collections
import contextlib
import pathlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple
from unittest import mock

import jax
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from memory import draw_batch, make_step
from side_by_side import table

from segfusion_jax.config import Bridge, Classifier, Segmenter
from segfusion_jax.models.from_config import make_classifier, make_unet
from segfusion_jax.ops import depthwise_gpu
from segfusion_jax.runtime.devices import AXIS, Devices
from segfusion_jax.runtime.footprint import executions, shape_bytes
from segfusion_jax.training import steps

H100 = """
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  device_memory_size: 84929347584 memory_bandwidth: 3352320000000 l2_cache_size: 52428800
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448 shared_memory_per_core: 233472
  registers_per_block_limit: 65536 registers_per_core_limit: 65536
}
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 13 }
"""
"""What the compiler asks of a device, as an H100 answers."""

SIZES = {"efficientnet_b0": (224, 224), "unet": (256, 384)}
TILINGS = {"moments": (16, 64, 8), "activation": (16, 64, 8), "gradients": (8, 64, 16)}

_HEADER = re.compile(r"^(ENTRY )?%?([\w.-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?(%?[\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*?)\)(.*)")
_CALLED = re.compile(r"\b(?:body|to_apply|calls)=%?([\w.-]+)")
_NOTHING = ("parameter", "constant", "bitcast", "tuple", "get-tuple-element", "after-all", "while", "call")


class Moved(NamedTuple):
    """One instruction of a program.

    Attributes:
      name: its name, which a trace of the program tells too.
      kind: what it is: a custom call's function, a fusion's name without its number, "copy".
      num_bytes: bytes that it reads and writes.
      times: how often one run of the program executes it.
    """

    name: str
    kind: str
    num_bytes: int
    times: int


def moved(hlo_text: str) -> list[Moved]:
    """Returns what each instruction of a compiled program moves, as often as it runs.

    Args:
      hlo_text: text of the optimised program, as `jax.stages.Compiled.as_text` gives it.
    """
    bodies, entry = _computations(hlo_text)
    times, found, waiting = executions(hlo_text), [], [entry]
    while waiting:
        computation = waiting.pop()
        sizes: dict[str, int] = {}
        for name, shape, kind, operands, rest in bodies[computation]:
            sizes[name] = shape_bytes(shape)
            if kind in ("while", "call"):
                waiting += _CALLED.findall(rest)
            if kind not in _NOTHING and not kind.endswith("-start"):
                read = sum(sizes.get(operand, 0) for operand in re.findall(r"%[\w.-]+", operands))
                found.append(Moved(name.lstrip("%"), _kind(name, kind, rest), sizes[name] + read, times[computation]))
    return found


def _computations(hlo_text: str) -> tuple[dict[str, list[tuple[str, ...]]], str]:
    """Returns the instructions of each computation, and the name of the one that the program starts with."""
    bodies: dict[str, list[tuple[str, ...]]] = {}
    computation = entry = ""
    for line in hlo_text.splitlines():
        if header := _HEADER.match(line):
            computation = header[2]
            bodies[computation] = []
            entry = computation if header[1] else entry
        elif computation and (match := _INSTRUCTION.match(line)):
            bodies[computation].append(match.groups())
    return bodies, entry


def _kind(name: str, kind: str, rest: str) -> str:
    target = re.search(r'custom_call_target="([^"]*)"', rest)
    return target[1] if target else re.sub(r"[.\d]+$", "", name.lstrip("%")) if kind == "fusion" else kind


@contextlib.contextmanager
def described(description: str, *, kernels: bool) -> Iterator[Devices]:
    """Yields one GPU that is only described; what is traced within is traced as on one.

    Args:
      description: text of XLA's GpuTargetConfigProto.
      kernels: whether depthwise convolutions are our kernels, all of them.
    """
    topology = topologies.get_topology_desc(platform="cuda", target_config=description, topology="1x1x1")
    mesh = Mesh(topology.devices, (AXIS,), axis_types=(AxisType.Auto,))
    tiling = lambda which, *_: depthwise_gpu.Tiling(*TILINGS[which]) if kernels else None  # noqa: E731
    with (
        mock.patch.object(jax, "default_backend", lambda: "gpu"),
        mock.patch.object(depthwise_gpu, "tiling", tiling),
        jax.sharding.use_abstract_mesh(mesh.abstract_mesh),
    ):
        yield Devices(mesh=mesh, api="shard_map")


def lower(network: str, mode: str, number: int, devices: Devices) -> tuple[jax.stages.Lowered, Any]:
    """Lowers the training or the prediction step of a network for a batch of so many images.

    Returns:
      The program, and the shapes of its two arguments, the second of which is the batch.
    """
    batch = jax.eval_shape(lambda: draw_batch(SIZES[network], 1))
    batch = {name: jax.ShapeDtypeStruct((number, *a.shape[1:]), a.dtype) for name, a in batch.items()}
    if mode == "train":
        step, state = make_step(network, devices, remat=False, microbatches=1)
        return devices.lower_train_step(step, state, batch), (jax.eval_shape(lambda: state), batch)
    dtype, bridge = devices.compute_dtype("auto"), Bridge(mode="none")
    if network == "unet":
        model = make_unet(Segmenter(), seed=None, dtype=dtype)
        predict = steps.make_segment(model)
    else:
        model = make_classifier(Classifier(), bridge, seed=None, dtype=dtype)
        predict = steps.make_classify(model, bridge)
    there = NamedSharding(devices.mesh, P())
    arguments = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=there), ((model.params, model.batch_stats), batch)
    )
    return jax.jit(predict).lower(*arguments), arguments


def main() -> None:
    """Compiles a step and prints what it moves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=SIZES, default="efficientnet_b0")
    parser.add_argument("--mode", choices=("train", "predict"), default="train")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--kernels", action="store_true", help="depthwise convolutions by ops/depthwise_gpu.py")
    parser.add_argument("--text", type=pathlib.Path, help="file that the compiled program is written to")
    args = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    with described(H100, kernels=args.kernels) as devices:
        text = lower(args.network, args.mode, args.batch, devices)[0].compile().as_text()
    if args.text:
        args.text.write_text(text)
    counts, totals = collections.Counter(), collections.Counter()
    for _, kind, num_bytes, times in moved(text):
        counts[kind] += times
        totals[kind] += times * num_bytes
    print(f"{totals.total() / 1e9:.1f} GB a step\n")
    rows = [[kind, str(counts[kind]), f"{num_bytes / 1e9:.2f}"] for kind, num_bytes in totals.most_common(20)]
    print(table(["instruction", "how many", "GB"], rows))


if __name__ == "__main__":
    main()
