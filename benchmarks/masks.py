"""What masks cost: training on bridged images beside unmasked ones, and predicting the masks of a collection.

    python benchmarks/masks.py --config=configs/ham10000.py --root=HAM10000

The first table trains the config's classifier with the Grain pipeline: on whole images, and on images bridged by stored
masks. The second predicts, cleans and stores masks of `--images` images with one untrained U-Net of the config, beside
the U-Net's step on a batch that is in memory. Medians of rounds in turns.
"""

import argparse
import dataclasses
import pathlib
import statistics
import tempfile
import time

import jax
from loop import load_config, make_step

from segfusion_jax import load_dataset
from segfusion_jax.config import Bridge, Config
from segfusion_jax.datasets.prepared import Prepared
from segfusion_jax.input import mask_store
from segfusion_jax.input.examples import Examples, evaluation_batches
from segfusion_jax.input.loader import TrainStream
from segfusion_jax.models.from_config import make_unet
from segfusion_jax.models.pretrained import save_weights
from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.stages.bridge import predicted_masks
from segfusion_jax.runtime.devices import Devices, keep_memory, make_devices
from segfusion_jax.serving.ensembles import SegmenterEnsemble
from segfusion_jax.training.steps import make_segment


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/synthetic.py")
    parser.add_argument("--root", default="", help="of the collection, as config.data.root")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    args = parser.parse_args()
    keep_memory()
    config = load_config(args.config)
    devices = make_devices(config.parallel)
    prepared = load_dataset(config.data.collection, root=args.root)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        _print("prediction, images/s", _prediction(args, config, devices, prepared, folder))
        _print("training, images/s", _training(args, config, devices, prepared, folder))


def _print(title: str, rates: dict[str, list[float]]) -> None:
    first = statistics.median(next(iter(rates.values()))[1:])
    print(f"| {title} | | of the first |\n|---|---|---|")
    for name, values in rates.items():
        rate = statistics.median(values[1:])  # the first round compiles
        print(f"| {name} | {rate:.1f} | {100 * rate / first:.1f} % |")
    print(flush=True)


def _prediction(args, config: Config, devices: Devices, prepared: Prepared, folder: pathlib.Path) -> dict:
    """Times the U-Net's step alone, and the bridge stage's way with all that is around it."""
    weights = folder / "unet.safetensors"
    unet = make_unet(config.segmenter, seed=0, dtype=devices.compute_dtype(config.compute_dtype))
    save_weights(weights, unet)
    rows = [dataclasses.replace(row, fold=0) for row in prepared.rows[: args.images]]
    examples = Examples(prepared, rows, config.segmenter.image_size)
    size = config.segmenter.training.batch_size
    batch = jax.device_put(next(iter(evaluation_batches(examples, size, config.input))))
    segment = jax.jit(make_segment(unet))
    variables = unet.params, unet.batch_stats
    rates: dict[str, list[float]] = {"U-Net alone": [], "masks stored": []}
    run = Run(config, folder)
    run.prepared, run.segmenters = prepared, SegmenterEnsemble(config, devices, [weights])
    for _ in range(args.rounds + 1):
        start = time.perf_counter()
        for _ in range(max(1, args.images // size)):
            jax.block_until_ready(segment(variables, batch))
        rates["U-Net alone"].append(max(1, args.images // size) * size / (time.perf_counter() - start))
        start = time.perf_counter()
        mask_store.write(folder / "masks", predicted_masks(run, run.prepared, rows))
        rates["masks stored"].append(len(rows) / (time.perf_counter() - start))
    return rates


def _training(args, config: Config, devices: Devices, prepared: Prepared, folder: pathlib.Path) -> dict:
    """Times steps on whole images, and on bridged ones, each with its own stream."""
    masks = mask_store.MaskStore(folder / "masks")
    rows = prepared.rows[: args.images]
    size = config.classifier.image_size
    ways = {"whole images": ("none", None), "bridged images": (config.bridge.mode, masks)}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    steps = {}
    for name, (mode, store) in ways.items():
        changed = dataclasses.replace(config, bridge=Bridge(mode=mode))
        step, state = make_step(changed, "classifier", devices, args.steps)
        stream = TrainStream(
            Examples(prepared, rows, size, store, changed.bridge), config.classifier.augmentation, args.batch, 0
        )
        steps[name] = devices.compile_train_step(step), devices.replicate(state), stream
    for _ in range(args.rounds + 1):
        for name, (step, state, stream) in steps.items():
            batches = stream.batches(0, args.steps + 1, config.input)
            state, metrics = step(state, next(batches))
            jax.block_until_ready(metrics)
            start = time.perf_counter()
            for batch in batches:
                state, metrics = step(state, batch)
            jax.block_until_ready(metrics)
            rates[name].append(args.steps * args.batch / (time.perf_counter() - start))
            steps[name] = step, state, stream
    return rates


if __name__ == "__main__":
    main()
