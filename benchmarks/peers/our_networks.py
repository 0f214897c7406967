"""A network of ours, timed: the very step that a run compiles."""

import argparse
import functools

import jax
import numpy as np
import optax
from flax import nnx
from serving import serve

from segfusion_jax import EfficientNet, UNet, functional
from segfusion_jax.config import Bridge, Classifier, Parallel, Segmenter
from segfusion_jax.parallel import make_devices
from segfusion_jax.training import steps
from segfusion_jax.training.state import create_state


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--network", choices=("efficientnet_b0", "unet"))
    parser.add_argument("--mode", choices=("train", "predict"))
    parser.add_argument("--batch", type=int)
    parser.add_argument("--size", type=int, nargs=2)
    parser.add_argument("--cache", default="")
    args = parser.parse_args()
    if args.cache:
        jax.config.update("jax_compilation_cache_dir", args.cache)
    devices = make_devices(Parallel())
    dtype = devices.compute_dtype("auto")
    bridge = Bridge(mode="none")
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (args.batch, *args.size, 3), np.uint8),
        "mask": rng.integers(0, 256, (args.batch, *args.size, 1), np.uint8),
        "label": rng.integers(0, 2, args.batch).astype(np.int32),
        "weight": np.ones(args.batch, np.float32),
    }
    if args.network == "unet":
        model = functional(UNet(dtype=dtype, rngs=nnx.Rngs(0)))
        objective, predict = steps.segmentation_objective(model, Segmenter()), functools.partial(_segment, model)
    else:
        network = EfficientNet(args.network, num_classes=1, dropout=0.1, drop_path=0.2, dtype=dtype, rngs=nnx.Rngs(0))
        model = functional(network)
        objective = steps.classification_objective(
            model, bridge, Classifier(), class_weights=(1.0, 1.0), head_only=False
        )
        predict = steps.make_classify(model, bridge)
    batch = jax.device_put(batch)
    if args.mode == "train":
        optimizer = optax.adam(1e-3)
        step = devices.compile_train_step(steps.make_train_step(objective, optimizer, seed=0, ema_decay=0))
        state = devices.replicate(create_state(model.params, model.batch_stats, optimizer, ema_decay=0))

        def run(n):
            nonlocal state
            for _ in range(n):
                state, metrics = step(state, batch)
            jax.block_until_ready(metrics)
    else:
        variables = devices.replicate((model.params, model.batch_stats))
        compiled = jax.jit(predict)

        def run(n):
            for _ in range(n):
                outputs = compiled(variables, batch)
            jax.block_until_ready(outputs)

    serve(run, {"version": f"jax {jax.__version__}"})


def _segment(model, variables, batch):
    return model.apply(*variables, model.preprocessing(batch["image"] / np.float32(255)), train=False)[0]


main()
