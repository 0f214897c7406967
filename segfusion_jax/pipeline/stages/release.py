"""A run's models in a folder that `SegFusion.load` reads, and all that must be known to use them."""

import dataclasses
import hashlib
import json
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

from segfusion_jax.config import Classifier, Config, Segmenter
from segfusion_jax.datasets import table
from segfusion_jax.datasets.collections import READERS
from segfusion_jax.models.from_config import find_pretrained
from segfusion_jax.models.pretrained import release_weights, stored_preprocessing
from segfusion_jax.pipeline.workdir import classifier_weights, stage_seconds, unet_weights
from segfusion_jax.runtime.atomic import write_text
from segfusion_jax.serving.ensembles import Classes
from segfusion_jax.serving.segfusion import METADATA, NOVELTY, SPLIT


def release(config: Config, workdir: pathlib.Path, metrics: Mapping[str, Any], classes: Classes) -> None:
    """Writes the folder `model`: weights with kernels in float16, what tells unfamiliar images, metadata and split.

    Args:
      config: of the run.
      workdir: whose stages up to `evaluate` are done.
      metrics: of `evaluation/metrics.json`.
      classes: that are told apart.
    """
    folder = workdir / "model"
    folder.mkdir(exist_ok=True)
    folds = range(config.splits.num_folds)
    unets = [f"unet_{fold}.safetensors" for fold in folds]
    ensemble = [f"classifier_{fold}.safetensors" for fold in folds]
    classifiers = ensemble if config.classifier.fold_ensemble else ["classifier.safetensors"]
    networks = [*unets, *classifiers]
    for weights, name in zip(
        [*unet_weights(config, workdir), *classifier_weights(config, workdir)], networks, strict=True
    ):
        release_weights(weights, folder / name)
    shutil.copyfile(workdir / "evaluation" / NOVELTY, folder / NOVELTY)
    rows = table.read_rows(workdir / "splits" / "splits.csv")
    table.write_parts(folder / SPLIT, rows)
    calibration = metrics.get("calibration", {})
    metadata = {
        "config": json.loads(_portable(config).to_json()),
        "unets": unets,
        "classifiers": classifiers,
        "preprocessing": {name: stored_preprocessing(folder / name)._asdict() for name in networks},
        "views": {
            "segmenter": config.segmenter.test_time_augmentation,
            "classifier": config.classifier.test_time_augmentation,
        },
        "classes": classes.names,
        "positive": [name for name, positive in zip(classes.names, classes.positive, strict=True) if positive],
        "num_logits": classes.num_logits,
        "threshold": metrics["classification"]["threshold"]["value"],
        **{name: calibration[name] for name in ("temperature", "shift", "prevalence") if name in calibration},
        "metrics": metrics,
        "data": _data(config),
        "split_sha256": table.split_digest(rows),
        "pretrained": {
            name: _pretrained(section)
            for name, section in (("segmenter", config.segmenter), ("classifier", config.classifier))
            if section.pretrained
        },
        "training": _training(workdir),
        "versions": json.loads((workdir / "config.json").read_text())["versions"],
        "use": "Research use only. Not a medical device.",
    }
    write_text(folder / METADATA, json.dumps(metadata, indent=2) + "\n")


def _portable(config: Config) -> Config:
    """Without this machine's paths, which concern nobody."""
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, root="", mask_root="", records=""),
        splits=dataclasses.replace(config.splits, table=_name(config.splits.table)),
        segmenter=dataclasses.replace(config.segmenter, pretrained=_name(config.segmenter.pretrained)),
        classifier=dataclasses.replace(config.classifier, pretrained=_name(config.classifier.pretrained)),
    )


def _name(path: str) -> str:
    return pathlib.PurePath(path).name


def _data(config: Config) -> list[dict[str, str]]:
    """Which collections the models learned from, and under which licence."""
    names = dict.fromkeys((config.data.collection, config.data.mask_collection or config.data.collection))
    return [
        {"collection": name, "title": source.TITLE, "address": source.ADDRESS, "licence": source.LICENCE}
        for name, source in ((name, READERS[name]) for name in names)
    ]


def _pretrained(section: Segmenter | Classifier) -> dict[str, str]:
    path = find_pretrained(section)
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _training(workdir: pathlib.Path) -> dict[str, Any]:
    """Images and groups of each split, and seconds of each stage by its folder."""
    splits = json.loads((workdir / "splits" / "audit.json").read_text())["splits"]
    sizes = {name: {what: split[what] for what in ("images", "groups")} for name, split in splits.items()}
    return {"splits": sizes, "seconds": stage_seconds(workdir)}
