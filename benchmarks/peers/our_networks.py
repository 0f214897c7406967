"""Our EfficientNet-B0 or U-Net: the very steps that a run compiles, from uint8 images to loss or probability."""

import contextlib

import jax
import numpy as np
import optax
from flax import nnx
from steps import arguments, serve_steps

from segfusion_jax import EfficientNet, UNet, functional
from segfusion_jax.config import Bridge, Classifier, Parallel, Segmenter
from segfusion_jax.ops import native
from segfusion_jax.runtime.devices import keep_memory, make_devices
from segfusion_jax.training import steps as training_steps
from segfusion_jax.training.state import create_state


def main() -> None:
    """Builds the network and serves its steps."""
    args = arguments()
    with native.disabled() if args.plain else contextlib.nullcontext():
        _serve(args)


def _serve(args):
    keep_memory()
    devices = make_devices(Parallel())
    dtype, bridge = devices.compute_dtype("auto"), Bridge(mode="none")
    if args.network == "unet":
        model = functional(UNet(dtype=dtype, rngs=nnx.Rngs(0)))
        objective = training_steps.segmentation_objective(model, Segmenter())
        predict = training_steps.make_segment(model)
    else:
        options = dict(num_classes=1, dropout=0.1, drop_path=0.2, conventions="timm", dtype=dtype)
        model = functional(EfficientNet(args.network, **options, rngs=nnx.Rngs(0)))
        objective = training_steps.classification_objective(
            model, bridge, Classifier(), class_weights=(1.0, 1.0), head_only=False
        )
        predict = training_steps.make_classify(model, bridge)
    variables = model.params, model.batch_stats
    rng = np.random.default_rng(0)
    batch = jax.device_put(
        {
            "image": rng.integers(0, 256, (args.batch, *args.size, 3), np.uint8),
            "mask": rng.integers(0, 256, (args.batch, *args.size, 1), np.uint8),
            "label": rng.integers(0, 2, args.batch).astype(np.int32),
            "weight": np.ones(args.batch, np.float32),
        }
    )
    optimizer = optax.adam(1e-3)
    train = devices.compile_train_step(training_steps.make_train_step(objective, optimizer, seed=0, ema_decay=0))
    state = devices.replicate(create_state(model.params, model.batch_stats, optimizer, ema_decay=0))
    compiled = jax.jit(predict)

    def run(steps):
        nonlocal state
        for _ in range(steps):
            if args.mode == "train":
                state, outputs = train(state, batch)
            else:
                outputs = compiled(variables, batch)
        jax.block_until_ready(outputs)

    def device_bytes():
        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")

    serve_steps(run, {"version": f"jax {jax.__version__}"}, device_bytes)


main()
