"""Runs that prepare their data and then make up what their models say."""

import csv
import json
import pathlib
from collections.abc import Callable

import numpy as np

from segfusion_jax.config import Config
from segfusion_jax.pipeline import experiment
from tests import tiny

_run = experiment.run


def run(strength: Callable[[Config], float]) -> Callable:
    """An `experiment.run` whose classifiers tell malignant from benign the better, the stronger."""

    def fake(config: Config, workdir: pathlib.Path, *, reuse=()) -> None:
        _run(config, workdir, ("prepare",), reuse=reuse)
        rng = np.random.default_rng(config.classifier.seed)
        rows = [row for row in tiny.table(workdir / "splits/splits.csv") if row["split"] == "test"]
        labels = np.array([int(row["target"]) for row in rows])
        logits = strength(config) * (labels - 0.5) + rng.normal(size=len(rows))
        evaluation = workdir / "evaluation"
        evaluation.mkdir(exist_ok=True)
        lines = [
            (row["image_id"], row["group"], row["target"], 1 / (1 + np.exp(-logit)), logit)
            for row, logit in zip(rows, logits, strict=True)
        ]
        with (evaluation / "predictions.csv").open("w", newline="") as file:
            columns = ("image_id", "group", "label", "probability", "logit of malignant")
            csv.writer(file).writerows([columns, *lines])
        with (evaluation / "segmentation.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("image_id", "group", "dice"), *((i, g, 0.9) for i, g, *_ in lines)])
        metrics = {"classification": {"threshold": {"value": 0.5}}, "segmentation": {"dice": {"value": 0.9}}}
        (evaluation / "done.json").write_text("{}")
        (evaluation / "metrics.json").write_text(json.dumps(metrics))

    return fake
