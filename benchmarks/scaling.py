"""How cost grows: images a second and memory against batch and image size, and what devices say to each other.

    python benchmarks/scaling.py --plot=docs/scaling.svg

The last table compiles one train step for 1, 2, 4 and 8 simulated devices and counts its collectives.
"""

import argparse
import sys

from side_by_side import Peer, median, table

BATCHES = {"efficientnet_b0": (4, 8, 16, 32), "unet": (2, 4, 8, 16)}
SIZES = {
    "efficientnet_b0": ((96, 96), (160, 160), (224, 224), (320, 320)),
    "unet": ((128, 192), (192, 288), (256, 384), (384, 576)),
}
BATCH = {"efficientnet_b0": 16, "unet": 4}
SIZE = {"efficientnet_b0": (224, 224), "unet": (256, 384)}


def main() -> None:
    """Prints three tables and draws the first two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", default="", help="file to draw")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    by_batch = {net: [(b, _train(net, b, SIZE[net], args.rounds)) for b in BATCHES[net]] for net in BATCHES}
    by_size = {net: [(s, _train(net, BATCH[net], s, args.rounds)) for s in SIZES[net]] for net in SIZES}
    for name, results in {"batch": by_batch, "size": by_size}.items():
        rows = [
            [network, str(point), f"{rate:.1f}", f"{host / 2**30:.2f} GiB"]
            for network, points in results.items()
            for point, (rate, host) in points
        ]
        print(table(["network", name, "images/s, training", "memory"], rows), "\n", flush=True)
    _collectives()
    if args.plot:
        _draw(by_batch, by_size, args.plot)


def _train(network: str, batch: int, size: tuple[int, int], rounds: int) -> tuple[float, int]:
    """Returns images a second, and the most memory."""
    peer = Peer(
        sys.executable, "our_networks.py", "--network", network, "--mode", "train", "--batch", batch, "--size", *size
    )
    peer.wait()
    answers = [peer.ask(1) for _ in range(rounds)]
    peer.close()
    return batch / median([answer["seconds"] for answer in answers]), answers[-1]["host_bytes"]


def _collectives() -> None:
    rows = []
    for network in BATCHES:
        for devices in (1, 2, 4, 8):
            peer = Peer(sys.executable, "our_collectives.py", network, devices)
            peer.wait()
            rows += [[network, str(devices), *map(str, line)] for line in peer.about["collectives"]]
            peer.close()
    print(table(["network", "devices", "batch norm", "all-reduces a step", "bytes"], rows))


def _draw(by_batch, by_size, path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(9, 6), layout="constrained")
    for column, results in enumerate((by_batch, by_size)):
        for network, points in results.items():
            x = [point if column == 0 else point[0] * point[1] / 1000 for point, _ in points]
            axes[0, column].plot(x, [rate for _, (rate, _) in points], "o-", label=network)
            axes[1, column].plot(x, [host / 2**30 for _, (_, host) in points], "o-", label=network)
    for row, label in enumerate(("images/s, training", "memory, GiB")):
        axes[row, 0].set_ylabel(label)
        for axis in axes[row]:
            axis.set_ylim(bottom=0)
            axis.grid(alpha=0.3)
    axes[1, 0].set_xlabel("batch")
    axes[1, 1].set_xlabel("pixels of an image, thousands")
    axes[0, 0].legend()
    figure.savefig(path, metadata={"Date": None} if path.endswith(".svg") else None)


if __name__ == "__main__":
    main()
