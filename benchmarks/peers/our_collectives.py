"""The collectives of a compiled train step on simulated devices: how many, and how many bytes."""

import math
import os
import re
import sys

network_name, num_devices = sys.argv[1], int(sys.argv[2])
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={num_devices}"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from jax.sharding import NamedSharding  # noqa: E402
from jax.sharding import PartitionSpec as P  # noqa: E402
from serving import serve  # noqa: E402

from segfusion_jax.config import Bridge, Classifier, Parallel, Segmenter  # noqa: E402
from segfusion_jax.models.from_config import make_classifier, make_unet  # noqa: E402
from segfusion_jax.runtime.devices import AXIS, make_devices  # noqa: E402
from segfusion_jax.training import steps  # noqa: E402
from segfusion_jax.training.state import create_state  # noqa: E402


def main() -> None:
    """Compiles the step with and without synchronised batch norm, and serves what stands in them."""
    counts = [(name, *_count(_compiled(axis))) for name, axis in (("synchronised", AXIS), ("each device's own", None))]
    serve(lambda line: {}, {"collectives": counts})


def _compiled(axis_name: str | None) -> str:
    devices, bridge = make_devices(Parallel()), Bridge(mode="none")
    common = dict(seed=0, dtype=np.float32, axis_name=axis_name)
    if network_name == "unet":
        model = make_unet(Segmenter(), **common)
        objective = steps.segmentation_objective(model, Segmenter())
    else:
        model = make_classifier(Classifier(), bridge, **common)
        objective = steps.classification_objective(
            model, bridge, Classifier(), class_weights=(1.0, 1.0), head_only=False
        )
    optimizer = optax.adam(1e-3)
    step = steps.make_train_step(objective, optimizer, seed=0, ema_decay=0)
    mapped = jax.shard_map(step, mesh=devices.mesh, in_specs=(P(), P(AXIS)), out_specs=(P(), P()), check_vma=False)
    state = create_state(model.params, model.batch_stats, optimizer, ema_decay=0)
    sharding = NamedSharding(devices.mesh, P(AXIS))
    shapes = {"image": (64, 64, 3), "mask": (64, 64, 1), "label": (), "weight": ()}
    dtypes = {"image": np.uint8, "mask": np.uint8, "label": np.int32, "weight": np.float32}
    batch = {
        name: jax.ShapeDtypeStruct((num_devices, *shape), dtypes[name], sharding=sharding)
        for name, shape in shapes.items()
    }
    return jax.jit(mapped).lower(state, batch).compile().as_text()


def _count(text: str) -> tuple[int, int]:
    """Returns the number of all-reduces in the HLO, and the bytes that each device puts into them."""
    results = re.findall(r"= (.*?) all-reduce(?:-start)?\(", text)
    shapes = [shape for result in results for shape in re.findall(r"f32\[([\d,]*)\]", result)]
    return len(results), sum(4 * math.prod(int(n) for n in shape.split(",") if n) for shape in shapes)


main()
