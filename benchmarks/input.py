"""The input pipeline alone: decode, resize, augment, batch; beside PyTorch's DataLoader doing the same.

    python benchmarks/input.py --torch=TORCH_PYTHON
    taskset -c 0 python benchmarks/input.py --torch=TORCH_PYTHON --cores=1

Both read the same drawn images with masks in PNG, in two cases: JPEGs of 192x144, which are enlarged, and JPEGs of
1024x768 with noise like a camera's, which are reduced. PyTorch's users decode with Pillow or with torchvision and
transform PIL images or tensors, and some use albumentations: each way is timed. A round begins with batches that are
not timed, so that nobody gains from what was read ahead while others were timed.
"""

import argparse
import csv
import pathlib
import sys
import tempfile

import cv2
import numpy as np
from side_by_side import Peer, in_turns, median, table

from segfusion_jax import load_dataset
from segfusion_jax.input.decode import encode_mask

NUM_LARGE = 120  # images of 1024x768; of 192x144 there are 600


def main() -> None:
    """Prints a table for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", default="", help="Python with torch, torchvision and what else --ways needs")
    parser.add_argument(
        "--ways", nargs="*", default=["pil", "tensor"], help="of torch_input.py; also io, albumentations"
    )
    parser.add_argument("--cores", type=int, default=2, help="threads of ours, workers of PyTorch's")
    parser.add_argument("--workers", type=int, nargs="*", help="numbers of workers of PyTorch's; default: --cores")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=20, help="timed together in each round")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for what, write in (("192x144, enlarged", _write_small), ("1024x768, reduced", _write_large)):
            folder = pathlib.Path(name) / what
            write(folder)
            print(f"\n{what}\n\n{_measured(args, folder)}", flush=True)


def _measured(args: argparse.Namespace, folder: pathlib.Path) -> str:
    common = ["--folder", folder, "--batch", args.batch, "--side", args.side]
    peers = {"ours": Peer(sys.executable, "our_input.py", "--threads", args.cores, *common)}
    for way in args.ways if args.torch else ():
        for workers in args.workers or [args.cores]:
            name = f"PyTorch DataLoader, {way}, {workers} workers"
            peers[name] = Peer(args.torch, "torch_input.py", "--workers", workers, "--way", way, *common)
    for peer in peers.values():
        peer.wait()
    answers = in_turns(peers, args.batches, args.rounds)
    for peer in peers.values():
        peer.close()
    rates = {name: args.batches * args.batch / median([a["seconds"] for a in each]) for name, each in answers.items()}
    rows = [
        [name, f"{rate:.0f}", f"{rates['ours'] / rate:.2f}", _memory(answers[name])] for name, rate in rates.items()
    ]
    return table(["", "images/s", "ours over it", "MiB after the first and the last round"], rows)


def _memory(answers: list[dict]) -> str:
    return f"{answers[0]['mib']:.0f}, {answers[-1]['mib']:.0f}" if "mib" in answers[0] else ""


def _write_small(folder: pathlib.Path) -> None:
    prepared = load_dataset("synthetic", records=str(folder / "drawn"))
    _write(folder, ((row.malignant, *prepared.read(row.position)) for row in prepared.rows))


def _write_large(folder: pathlib.Path) -> None:
    prepared = load_dataset("synthetic", records=str(folder / "drawn"))
    _write(folder, ((row.malignant, *_enlarged(*prepared.read(row.position))) for row in prepared.rows[:NUM_LARGE]))


def _enlarged(image: bytes, mask: bytes) -> tuple[bytes, bytes]:
    pixels, lesion = (cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED) for encoded in (image, mask))
    pixels = cv2.resize(pixels, (1024, 768), interpolation=cv2.INTER_CUBIC)
    noisy = pixels + np.random.default_rng(len(image)).normal(0, 4, pixels.shape)
    lesion = np.where(cv2.resize(lesion, (1024, 768)) > 127, 255, 0)
    jpeg = cv2.imencode(".jpg", noisy.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
    return jpeg.tobytes(), encode_mask(lesion.astype(np.uint8))


def _write(folder: pathlib.Path, examples) -> None:
    """Writes an image folder that both sides read: ours prepares it first."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        labels = csv.writer(file)
        labels.writerow(["image", "label"])
        for number, (malignant, image, mask) in enumerate(examples):
            labels.writerow([f"{number:07d}", malignant])
            (folder / f"images/{number:07d}.jpg").write_bytes(image)
            (folder / f"masks/{number:07d}.png").write_bytes(mask)
    load_dataset("image_folder", root=str(folder), records=str(folder / "records"))


if __name__ == "__main__":
    main()
