"""Which images train each network, choose its weights, and test it; and the examples that are made of them."""

from collections.abc import Sequence

import numpy as np

from segfusion_jax.datasets.table import Row
from segfusion_jax.input.loader import Examples
from segfusion_jax.pipeline.run import Run


def unet_rows(run: Run) -> tuple[dict[int, tuple[Row, ...]], dict[int, tuple[Row, ...]]]:
    """Returns the images that train each U-Net and those that choose its weights, by the fold that it never meets.

    They are the annotated ones of the splits 'train' and 'validation', without the fold.

    Raises:
      ValueError: a U-Net has none of the one or the other.
    """
    folds = range(run.config.splits.num_folds)
    annotated = {
        split: [row for row in run.prepared.rows if row.has_mask and row.split == split]
        for split in ("train", "validation")
    }
    train, choose = (
        {fold: tuple(row for row in rows if row.fold != fold) for fold in folds} for rows in annotated.values()
    )
    for fold in folds:
        if not train[fold] or not choose[fold]:
            raise ValueError(
                f"outside fold {fold} there are {len(train[fold])} training and {len(choose[fold])} validation images "
                "with an annotated mask, of each at least 1 is needed; config.data.mask_collection names a collection "
                "that brings masks"
            )
    return train, choose


def training_rows(run: Run) -> list[tuple[Row, ...]]:
    """Returns the images that train each classifier."""
    if not run.config.classifier.fold_ensemble:
        return [classified_rows(run, "train")]
    rows = classified_rows(run, "train", "validation")
    return [tuple(row for row in rows if row.fold != fold) for fold in range(run.config.splits.num_folds)]


def validation_rows(run: Run) -> list[tuple[int, tuple[Row, ...]]]:
    """Returns the number of each classifier, and the images that choose its weights: it never saw their groups.

    Temperature and thresholds are fitted on them too. Those of an ensemble are together all that are not in 'test'.
    """
    if not run.config.classifier.fold_ensemble:
        return [(0, classified_rows(run, "validation"))]
    rows = classified_rows(run, "train", "validation")
    return [(fold, tuple(row for row in rows if row.fold == fold)) for fold in range(run.config.splits.num_folds)]


def classified_rows(run: Run, *splits: str) -> tuple[Row, ...]:
    """Returns the labelled images of the run's own collection in some of 'train', 'validation' and 'test'."""
    own = (row for row in run.prepared.rows if row.source == run.config.data.collection)
    return tuple(row for row in own if row.split in splits and row.target >= 0)


def evenly_spaced(rows: Sequence[Row], most: int) -> tuple[Row, ...]:
    """Returns at most `most` of `rows`, evenly spaced; 0 means all."""
    if not most or len(rows) <= most:
        return tuple(rows)
    return tuple(rows[place] for place in np.linspace(0, len(rows) - 1, most).astype(int))


def bridged_examples(run: Run, rows: Sequence[Row], *, scaled_decoding: bool = False) -> Examples:
    """Returns the bridged images of `rows`; `scaled_decoding` as in `Examples`."""
    config = run.config
    size = config.classifier.image_size
    return Examples(run.prepared, rows, size, run.masks, config.bridge, scaled_decoding=scaled_decoding)
