"""Depthwise convolution, layer by layer of EfficientNet-B0: forward, input gradient, kernel gradient.

    python benchmarks/depthwise.py --torch=TORCH_PYTHON

Ours is what the steps use on this machine; `shifts` and `lax` are the ways it could be computed by XLA. Milliseconds
for a batch, the median of rounds in turns; float32 on a CPU, bfloat16 on a GPU. "of copy" is the share of the time in
which a large copy would move the least bytes: input and output once.
"""

import argparse
import sys

from networks import limits_of_machine
from side_by_side import PEERS, Peer, in_turns, median, table

sys.path.insert(0, str(PEERS))
from depthwise_passes import LAYERS, PASSES  # noqa: E402


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", default="", help="Python with torch")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--bytes_per_value", type=int, default=4, help="2 for bfloat16")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    limits = limits_of_machine(args.torch)
    peers = {
        way: Peer(sys.executable, "our_depthwise.py", "--batch", args.batch, way) for way in ("ours", "shifts", "lax")
    }
    if args.torch:
        peers["PyTorch"] = Peer(args.torch, "torch_depthwise.py", "--batch", args.batch)
    for peer in peers.values():
        peer.wait()
    rows, totals = [], {}
    for number, (side, channels, size, stride) in enumerate(LAYERS):
        for which, name in enumerate(PASSES):
            answers = in_turns(peers, f"{number} {which}", args.rounds)
            seconds = {peer: median([a["seconds"] for a in each]) for peer, each in answers.items()}
            totals = {peer: totals.get(peer, 0) + value for peer, value in seconds.items()}
            values = args.batch * channels * (side**2 + (-(-side // stride)) ** 2)
            share = values * args.bytes_per_value / limits["bytes"] / seconds["ours"]
            cells = [f"{1000 * value:.2f}" for value in seconds.values()]
            rows.append([f"{side}x{side}x{channels}, {size}x{size}/{stride}", name, *cells, f"{share:.0%}"])
    rows.append(["all", "", *(f"{1000 * value:.1f}" for value in totals.values()), ""])
    print(f"large copy {limits['bytes'] / 1e9:.1f} GB/s\n")
    print(table(["layer", "pass", *peers, "of copy"], rows))


if __name__ == "__main__":
    main()
