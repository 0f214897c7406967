"""Optimisers and learning-rate schedules from a config."""

import jax
import optax

from segfusion_jax.config import Training


def make_schedule(config: Training, steps_per_epoch: int) -> optax.Schedule:
    """Learning rate at a step: a linear rise over the warm-up, then a cosine to zero or a constant."""
    warmup = round(config.warmup_epochs * steps_per_epoch)
    rest = max(1, config.epochs * steps_per_epoch - warmup)
    if config.schedule == "cosine":
        after = optax.cosine_decay_schedule(config.learning_rate, rest)
    else:
        after = optax.constant_schedule(config.learning_rate)
    rise = optax.linear_schedule(0.0, config.learning_rate, warmup)
    return optax.join_schedules([rise, after], [warmup]) if warmup else after


def make_optimizer(config: Training, steps_per_epoch: int) -> optax.GradientTransformation:
    """The optimiser that the config names, with its schedule and gradient clipping."""
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
    return optax.chain(*clip, rule)


def _kernels(params):
    """True for kernels, False for biases and norms, which weight decay leaves alone."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
