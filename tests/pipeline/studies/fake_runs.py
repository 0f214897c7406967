"""Runs that prepare their data and then make up what their models say."""

import pathlib
from collections.abc import Callable

import numpy as np

from segfusion_jax.config import Config
from segfusion_jax.pipeline import experiment
from segfusion_jax.pipeline.run import Run
from tests import tiny

_run = experiment.run


def run(strength: Callable[[Config], float]) -> Callable:
    """An `experiment.run` whose classifiers tell malignant from benign the better, the stronger."""

    def fake(config: Config, workdir: pathlib.Path, _, *, reuse=()) -> Run:
        this = _run(config, workdir, ("prepare",), reuse=reuse)
        rng = np.random.default_rng(config.classifier.seed)
        rows = [row for row in tiny.table(workdir / "prepare/splits.csv") if row["split"] == "test"]
        labels = np.array([int(row["target"]) for row in rows])
        logits = strength(config) * (labels - 0.5) + rng.normal(size=len(rows))
        lines = [
            (row["image_id"], row["group"], row["target"], 1 / (1 + np.exp(-logit)), logit)
            for row, logit in zip(rows, logits, strict=True)
        ]
        columns = ("image_id", "group", "label", "probability", "logit of malignant")
        this.write_predictions("predictions", columns, lines)
        this.write_scores(("image_id", "group", "dice"), ((i, g, 0.9) for i, g, *_ in lines))
        metrics = {"classification": {"threshold": {"value": 0.5}}, "segmentation": {"dice": {"value": 0.9}}}
        this.write_metrics(metrics)
        this.mark_done("evaluate", "of a test", 0)
        return this

    return fake
