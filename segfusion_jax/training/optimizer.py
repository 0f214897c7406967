"""Optimisers and learning-rate schedules from a config."""

import jax
import jax.numpy as jnp
import optax

from segfusion_jax.config import Training
from segfusion_jax.models.functional import Variables


def make_schedule(config: Training, steps_per_epoch: int) -> optax.Schedule:
    """Returns the learning rate at each step: a linear rise over the warm-up, then a cosine to zero or a constant."""
    warmup = round(config.warmup_epochs * steps_per_epoch)
    rest = max(1, config.epochs * steps_per_epoch - warmup)
    if config.schedule == "cosine":
        after = optax.cosine_decay_schedule(config.learning_rate, rest)
    else:
        after = optax.constant_schedule(config.learning_rate)
    rise = optax.linear_schedule(0.0, config.learning_rate, warmup)
    return optax.join_schedules([rise, after], [warmup]) if warmup else after


def decayed_rates(params: Variables, decay: float) -> Variables:
    """Returns what the learning rate of each array of a classifier is multiplied by (Howard and Ruder, 1801.06146).

    1 at the last layer, times `decay` at each part before it: a hidden layer, the top, the blocks, the stem.
    """
    order = ["stem", *(f"blocks.{index}" for index in range(len(params["blocks"]))), "top", "hidden", "head"]
    parts = [part for part in order if part.partition(".")[0] in params]
    exponents = {part: exponent for exponent, part in enumerate(reversed(parts))}

    def rate(path, _):
        names = [str(key.key) for key in path]
        return decay ** exponents[".".join(names[:2]) if names[0] == "blocks" else names[0]]

    return jax.tree_util.tree_map_with_path(rate, params)


def make_optimizer(
    config: Training, steps_per_epoch: int, rates: Variables | None = None
) -> optax.GradientTransformation:
    """Makes the optimiser that the config names, with its schedule and gradient clipping.

    Args:
      config: config of the training.
      steps_per_epoch: what an epoch of the schedule is.
      rates: a tree of the params' structure; each array's learning rate is multiplied by its own.
    """
    schedule = make_schedule(config, steps_per_epoch)
    clip = [optax.clip_by_global_norm(config.gradient_clip)] if config.gradient_clip else []
    match config.optimizer:
        case "adam":
            rule = optax.adam(schedule)
        case "adamw":
            rule = optax.adamw(schedule, weight_decay=config.weight_decay, mask=_kernels)
        case "sgd":
            decay = optax.add_decayed_weights(config.weight_decay, _kernels)
            rule = optax.chain(decay, optax.sgd(schedule, momentum=0.9, nesterov=True))
        case _:
            raise ValueError(f"optimizer = {config.optimizer!r} is not known")
    scale = [optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, rates))] if rates else []
    return optax.chain(*clip, rule, *scale)


def _kernels(params):
    """Returns True for kernels, False for biases and norms, which weight decay leaves alone."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
