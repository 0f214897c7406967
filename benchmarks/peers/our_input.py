"""Our input pipeline: Grain over prepared records, decoded, resized and augmented."""

import argparse
import resource
import time

import numpy as np
from serving import serve

from segfusion_jax import load_dataset
from segfusion_jax.config import Augmentation, Input
from segfusion_jax.input.examples import Examples
from segfusion_jax.input.loader import TrainStream


def main() -> None:
    """Answers a number of batches with the seconds they took, and the most memory that the process ever had."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--side", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    prepared = load_dataset("image_folder", root=args.folder, records=f"{args.folder}/records")
    examples = Examples(prepared, prepared.rows, (args.side, args.side), scaled_decoding=True)
    stream = TrainStream(examples, Augmentation(), args.batch, seed=0)
    batches = stream.batches(0, 10**6, Input(num_threads=args.threads))
    next(batches)

    def answer(line: str) -> dict:
        for _ in range(2 + 2 * args.threads):
            next(batches)
        start = time.perf_counter()
        for _ in range(int(line)):
            batch = next(batches)
        seconds = time.perf_counter() - start
        assert batch["image"].dtype == np.uint8
        return {"seconds": seconds, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}

    serve(answer, {})


main()
