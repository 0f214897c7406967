"""Preparing large photographs: reading, checking, reducing to 1024 pixels, hashing and encoding.

    python benchmarks/preparation.py

Beside it Pillow, which decodes the same files in full and resizes them with the same filter, and does not check, hash
or encode. In turns: both on one core, then both on all of them, in threads.
"""

import argparse
import concurrent.futures
import io
import os
import pathlib
import tempfile
import time
from collections.abc import Callable

import numpy as np
from PIL import Image
from side_by_side import median, table

from segfusion_jax import config
from segfusion_jax.datasets import images, shards
from segfusion_jax.datasets.collections import rendering
from segfusion_jax.datasets.files import DiskFile
from segfusion_jax.datasets.images import Stored
from segfusion_jax.datasets.record import Record

FILTERS = {
    "area": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--width", type=int, default=6000)
    parser.add_argument("--height", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        paths = [_write(pathlib.Path(name, f"{i}.jpg"), i, args.width, args.height) for i in range(args.images)]
        megabytes = sum(path.stat().st_size for path in paths) / 1e6
        print(f"{args.images} JPEGs of {args.width}x{args.height}, {megabytes / args.images:.1f} MB each")
        rows = [_compared(paths, resampling, args.rounds) for resampling in FILTERS]
    cores = f"{os.cpu_count()} cores"
    print(table(["filter", "ours/s", "Pillow/s", "ratio", f"ours/s, {cores}", f"Pillow/s, {cores}", "ratio"], rows))


def _write(path: pathlib.Path, seed: int, width: int, height: int) -> pathlib.Path:
    """Writes a drawn lesion, enlarged, with the noise of a camera."""
    rng = np.random.default_rng(seed)
    drawing, _ = rendering.view(rng, rendering.lesion(rng, severity=1.0))
    large = np.asarray(Image.fromarray(drawing).resize((width, height), Image.Resampling.BICUBIC), np.float32)
    noisy = large + rng.normal(0, 6, (height, width, 1)).astype(np.float32)
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(path, quality=90)
    return path


def _compared(paths: list[pathlib.Path], resampling: str, rounds: int) -> list[str]:
    data = config.Data(resampling=resampling)
    records = [Record(image_id=p.name, image=DiskFile(p, p.stat().st_size), source="benchmark") for p in paths]

    def ours(record: Record) -> None:
        assert isinstance(images.store(record, data), Stored)

    def pillow(record: Record) -> None:
        with Image.open(io.BytesIO(record.image.read())) as image:
            scale = min(1024 / image.width, 1024 / image.height)
            image.convert("RGB").resize((round(image.width * scale), round(image.height * scale)), FILTERS[resampling])

    runs: dict[str, Callable[[], object]] = {
        "ours": lambda: list(map(ours, records)),
        "pillow": lambda: list(map(pillow, records)),
        "ours in threads": lambda: list(shards.in_threads(ours, records)),
        "pillow in threads": lambda: list(concurrent.futures.ThreadPoolExecutor(os.cpu_count()).map(pillow, records)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    rates = [len(paths) / median(each) for each in seconds.values()]
    one, other, one_threads, other_threads = rates
    return [
        resampling,
        *(f"{one:.1f}", f"{other:.1f}", f"{one / other:.2f}"),
        *(f"{one_threads:.1f}", f"{other_threads:.1f}", f"{one_threads / other_threads:.2f}"),
    ]


if __name__ == "__main__":
    main()
