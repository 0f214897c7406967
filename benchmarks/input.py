"""The input pipeline alone: decode, resize, augment, batch; beside PyTorch's DataLoader doing the same.

    python benchmarks/input.py --torch=TORCH_PYTHON

Both read the same drawn images, JPEG of 192x144 with masks in PNG, and enlarge them. While one is timed, the other
reads ahead as far as it does by default: four batches of those that a round takes.
"""

import argparse
import pathlib
import sys
import tempfile

from side_by_side import Peer, in_turns, median, table

from segfusion_jax import load_dataset


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", default="", help="Python with torch and torchvision")
    parser.add_argument("--cores", type=int, default=2, help="threads of ours, workers of PyTorch's")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=20, help="timed together in each round")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        _write_files(folder)
        common = ["--batch", args.batch, "--side", args.side]
        peers = {
            "ours": Peer(
                sys.executable, "our_input.py", "--records", folder / "records", "--threads", args.cores, *common
            )
        }
        if args.torch:
            options = ["--folder", folder, "--workers", args.cores, *common]
            peers["PyTorch DataLoader, torchvision"] = Peer(args.torch, "torch_input.py", *options)
        for peer in peers.values():
            peer.wait()
        answers = in_turns(peers, args.batches, args.rounds)
        for peer in peers.values():
            peer.close()
    images = args.batches * args.batch
    rates = {name: images / median([a["seconds"] for a in each]) for name, each in answers.items()}
    rows = [[name, f"{rate:.0f}", f"{rates['ours'] / rate:.2f}"] for name, rate in rates.items()]
    print(table(["", "images/s", "ours over it"], rows))


def _write_files(folder: pathlib.Path) -> None:
    """The prepared records of drawn images, and the same encoded images and masks as files."""
    prepared = load_dataset("synthetic", records=str(folder / "records"))
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    for row in prepared.rows:
        image, mask = prepared.read(row.position)
        (folder / "images" / f"{row.image_id}.jpg").write_bytes(image)
        (folder / "masks" / f"{row.image_id}.png").write_bytes(mask)


if __name__ == "__main__":
    main()
