"""Stage 2: U-Nets on annotated masks, one a fold, each blind to its fold."""

import functools
import logging
from collections.abc import Iterable, Mapping, Sequence

import jax
import numpy as np

from segfusion_jax.config import Config
from segfusion_jax.datasets.table import Row
from segfusion_jax.evaluation.small_samples import mean_interval
from segfusion_jax.input.examples import Examples
from segfusion_jax.models.functional import Functional
from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.split import evenly_spaced
from segfusion_jax.training import steps
from segfusion_jax.training.optimizer import make_optimizer
from segfusion_jax.training.seeds import derive_seed
from segfusion_jax.training.trainer import Member, Phase, Recipe, steps_per_epoch

_log = logging.getLogger(__name__)


def segment(run: Run) -> None:
    """Trains U-Net k on the split 'train' and chooses its weights on 'validation', of both without fold k.

    Writes the weights and the metrics of each. The test groups are in no fold.

    Raises:
      ValueError: a U-Net has no annotated masks to be trained or chosen on.
    """
    config = run.config
    train, choose = run.split.unet()
    if not train:
        why = "no image has an annotated mask and the classifier sees whole ones"
        _log.info("%s: no U-Net is trained", f"masks are by {config.bridge.masks}" if config.bridge.released else why)
        return
    size, most = config.segmenter.image_size, config.segmenter.training.images_per_epoch
    members = [
        Member(
            name=f"U-Net {fold}",
            weights=weights,
            make=functools.partial(run.networks.unet, fold),
            train=Examples(run.prepared, train[fold], size, scaled_decoding=True),
            validation=Examples(run.prepared, evenly_spaced(choose[fold], most), size),
            seeds={"": derive_seed(config.seed, "segment", "input", fold)},
        )
        for fold, weights in zip(train, run.unet_weights, strict=True)
    ]
    run.trainer.train(make_recipe(run, train), members)


def make_recipe(run: Run, train: Mapping[int, Sequence[Row]]) -> Recipe:
    """Returns how U-Nets are trained on these images, one entry a U-Net."""
    config, numbers = run.config, [len(rows) for rows in train.values()]
    num_steps = steps_per_epoch(config.segmenter.training, numbers)
    unet = run.networks.unet(fold=0)
    return Recipe(
        phases={"": make_phase(config, unet, steps_per_epoch=num_steps)},
        augmentation=config.segmenter.augmentation,
        predict=steps.make_segmentation_scores(unet),
        score=score,
        best_metric=best_metric(config),
        steps_per_epoch=num_steps,
        most_images=max(numbers),
    )


def make_phase(config: Config, unet: Functional, *, steps_per_epoch: int) -> Phase:
    """Returns the only phase: what is made smaller, and by which optimiser."""
    training = config.segmenter.training
    optimizer = make_optimizer(training, steps_per_epoch)
    objective = steps.segmentation_objective(unet, config.segmenter)
    return Phase.make(training, objective, optimizer, seed=derive_seed(config.seed, "segment"))


def score(predicted: Iterable[tuple[Row, dict[str, np.ndarray]]]) -> dict[str, float]:
    """Returns the means over images of `dice`, with its 95 % interval, and `loss`."""
    outputs = [scores for _, scores in predicted]
    low, high = mean_interval([float(scores["dice"]) for scores in outputs])
    means = jax.tree.map(lambda *values: float(np.mean(values)), *outputs)
    return means | {"dice_low": low, "dice_high": high}


def best_metric(config: Config) -> str:
    """Returns the key of `score` that chooses the weights."""
    return {"score": "dice"}.get(name := config.segmenter.training.best_metric, name)
