"""Our input pipeline: Grain over prepared records, decoded, resized and augmented."""

import argparse
import time

import numpy as np
from serving import serve

from segfusion_jax import load_dataset
from segfusion_jax.config import Augmentation, Input
from segfusion_jax.input.loader import Examples, TrainStream


def main() -> None:
    """Answers a number of batches with the seconds they took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--side", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    prepared = load_dataset("synthetic", records=args.records)
    examples = Examples(prepared, prepared.rows, (args.side, args.side))
    stream = TrainStream(examples, Augmentation(), args.batch, seed=0)
    batches = stream.batches(0, 10**6, Input(num_threads=args.threads))
    for _ in range(4):
        next(batches)

    def answer(line: str) -> dict:
        start = time.perf_counter()
        for _ in range(int(line)):
            batch = next(batches)
        assert batch["image"].dtype == np.uint8
        return {"seconds": time.perf_counter() - start}

    serve(answer, {})


main()
