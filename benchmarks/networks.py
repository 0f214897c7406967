"""EfficientNet-B0 and the paper's U-Net, training and prediction, beside PyTorch and Keras.

    python benchmarks/networks.py --torch=TORCH_PYTHON --keras=KERAS_PYTHON

TORCH_PYTHON and KERAS_PYTHON are the Pythons of environments with torch and timm, and with tensorflow and keras.
On a CPU everything is float32; on a GPU ours and PyTorch's are bfloat16, and PyTorch also runs compiled. With several
`--batch` each peer shows its best. The last columns say how much of the machine is used: operations and bytes that the
network needs (work.py) a second, over those of a large matrix product and a large copy measured in the same run.
"""

import argparse
import json
import pathlib
import sys

from side_by_side import Peer, in_turns, median, table
from work import work

SIZES = {"efficientnet_b0": (224, 224), "unet": (256, 384)}
CPU_BATCH = {"efficientnet_b0": 16, "unet": 8}
HEADER = (
    "network",
    "mode",
    "peer",
    "batch",
    "images/s",
    "ours over it",
    "of product",
    "of copy",
    "memory",
    "first step",
)


def main() -> None:
    """Prints a table as each case is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", default="", help="Python with torch and timm")
    parser.add_argument("--keras", default="", help="Python with keras and tensorflow")
    parser.add_argument("--compile", action="store_true", help="add PyTorch with torch.compile")
    parser.add_argument("--plain", action="store_true", help="add ours without our kernels")
    parser.add_argument("--network", choices=SIZES, nargs="*", default=list(SIZES))
    parser.add_argument("--mode", choices=("train", "predict"), nargs="*", default=["train", "predict"])
    parser.add_argument("--batch", type=int, nargs="*", help="images a step; the default is 16 for B0, 8 for the U-Net")
    parser.add_argument("--size", type=int, nargs=2, help="height and width; the default is the networks' own")
    parser.add_argument("--json", type=pathlib.Path, help="file for all that was measured")
    parser.add_argument("--bytes_per_value", type=int, default=4, help="2 for bfloat16")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3, help="timed together in each round")
    args = parser.parse_args()
    limits = limits_of_machine(args.torch)
    print(f"large matrix product {limits['flops'] / 1e9:.0f} GFLOP/s, large copy {limits['bytes'] / 1e9:.1f} GB/s\n")
    print(table(HEADER, []), flush=True)
    everything = []
    for network in args.network:
        size = args.size or SIZES[network]
        cases = [(mode, batch) for mode in args.mode for batch in args.batch or [CPU_BATCH[network]]]
        peers = {case: _start(args, network, *case, size) for case in cases}  # all at once, since most only compile
        for peer in (peer for started in peers.values() for peer in started.values()):
            peer.wait()
        for mode in args.mode:
            rows = [row for case in cases if case[0] == mode for row in _measure(args, case[1], peers[case])]
            print("\n".join(_lines(network, mode, rows, size, limits, args.bytes_per_value)), flush=True)
            everything.append({"network": network, "mode": mode, "size": size, "limits": limits, "rows": rows})
            if args.json:
                args.json.write_text(json.dumps(everything, indent=1))
        for peer in (peer for started in peers.values() for peer in started.values()):
            peer.close()


def limits_of_machine(torch: str) -> dict[str, float]:
    """Returns operations and bytes a second: the larger of what JAX and PyTorch, run by the Python `torch`, reach."""
    peers = {"ours": Peer(sys.executable, "our_limits.py")}
    if torch:
        peers["torch"] = Peer(torch, "torch_limits.py")
    for peer in peers.values():
        peer.wait()
    answers = in_turns(peers, "", 3)
    for peer in peers.values():
        peer.close()
    return {name: max(a[name] for each in answers.values() for a in each) for name in ("flops", "bytes")}


def _start(args: argparse.Namespace, network: str, mode: str, batch: int, size: tuple[int, int]) -> dict[str, Peer]:
    """Starts the peers of one case; those with a GPU keep on it what they need."""
    case = ["--network", network, "--mode", mode, "--batch", batch, "--size", *size]
    peers = {"ours": Peer(sys.executable, "our_networks.py", *case)}
    if args.plain:
        peers["ours, plain"] = Peer(sys.executable, "our_networks.py", *case, "--plain")
    if args.torch:
        peers["PyTorch"] = Peer(args.torch, "torch_networks.py", *case)
    if args.torch and args.compile:
        peers["PyTorch, compiled"] = Peer(args.torch, "torch_networks.py", *case, "--compile")
    if args.keras:
        peers["Keras"] = Peer(args.keras, "keras_networks.py", *case)
    return peers


def _measure(args: argparse.Namespace, batch: int, peers: dict[str, Peer]) -> list[tuple[str, int, float, dict, dict]]:
    """Returns peer, batch, images a second, last answer, and what the peer said first."""
    answers = in_turns(peers, args.steps, args.rounds)
    return [
        (name, batch, batch * args.steps / median([a["seconds"] for a in each]), each[-1], peers[name].about)
        for name, each in answers.items()
    ]


def _lines(network, mode, rows, size, limits, bytes_per_value) -> list[str]:
    """Returns the line of each peer at its best batch."""
    best = {name: max((row for row in rows if row[0] == name), key=lambda row: row[2]) for name, *_ in rows}
    needed = work(network, *size, train=mode == "train", bytes_per_value=bytes_per_value)
    lines = []
    for name, batch, rate, answer, about in best.values():
        cells = [
            network,
            mode,
            f"{name} ({about['version']})",
            str(batch),
            f"{rate:.1f}",
            f"{best['ours'][2] / rate:.2f}",
        ]
        cells += [f"{rate * needed.operations / limits['flops']:.0%}", f"{rate * needed.bytes / limits['bytes']:.0%}"]
        cells += [f"{(answer['device_bytes'] or answer['host_bytes']) / 2**30:.1f} GiB"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
