"""A collection of plain grey pictures, brighter where malignant, and a model with three numbers that learns it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from segfusion_jax.runtime.devices import AXIS, Devices

AXIS = AXIS


@dataclasses.dataclass(frozen=True)
class Row:
    """One picture."""

    position: int
    image_id: str
    target: int


@dataclasses.dataclass(frozen=True)
class Examples:
    """Pictures of 8 x 8 pixels; the i-th is the same in every instance."""

    rows: tuple[Row, ...]
    image_size: tuple[int, int] = (8, 8)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict:
        row = self.rows[index]
        rng = np.random.default_rng(row.position)
        return {
            "image": rng.integers(60 + 60 * row.target, 180 + 60 * row.target, (8, 8, 3), dtype=np.uint8),
            "mask": np.full((8, 8, 1), 255 * row.target, np.uint8),
            "label": np.int32(row.target),
            "weight": np.float32(1),
        }


def examples(n: int, prefix: str = "TOY") -> Examples:
    """The first `n`; every third is malignant."""
    return Examples(tuple(Row(i, f"{prefix}_{i:03d}", int(i % 3 == 0)) for i in range(n)))


def devices(count: int, api: str = "shard_map") -> Devices:
    """The first `count` of the test's four devices."""
    return Devices(jax.sharding.Mesh(np.array(jax.devices()[:count]), (AXIS,)), api)


def batch(source: Examples) -> dict:
    """All examples as one batch."""
    return {name: np.stack([source[i][name] for i in range(len(source))]) for name in source[0]}


def variables() -> tuple[dict, dict]:
    """Initial parameters and statistics of the toy model."""
    return {"weight": jnp.zeros((1, 3)), "bias": jnp.zeros(())}, {"mean": jnp.zeros((3,))}


def objective(params, batch_stats, batch, key):
    """Logistic regression on the mean colour, with a running mean like batch norm's and noise like dropout's."""
    colour = batch["image"].astype(jnp.float32).mean((1, 2)) / 255
    mean = 0.9 * batch_stats["mean"] + 0.1 * jax.lax.pmean(colour.mean(0), AXIS)
    noise = 0.01 * jax.random.normal(key, (len(colour),))
    logits = (colour - 0.5) @ params["weight"][0] + params["bias"] + noise
    return optax.sigmoid_binary_cross_entropy(logits, batch["label"].astype(jnp.float32)), {"mean": mean}
