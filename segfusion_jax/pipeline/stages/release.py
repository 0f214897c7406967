"""A run's models in a folder that `SegFusion.load` reads, and all that must be known to use them."""

import hashlib
import json
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

from segfusion_jax.config import Config, unplaced
from segfusion_jax.datasets import table
from segfusion_jax.datasets.collections import find_reader
from segfusion_jax.datasets.joining import reader
from segfusion_jax.models.pretrained import release_weights, stored_preprocessing
from segfusion_jax.pipeline import released
from segfusion_jax.pipeline.run import Run
from segfusion_jax.runtime import plugins
from segfusion_jax.runtime.atomic import write_text
from segfusion_jax.serving.model_folder import METADATA, NOVELTY, SPLIT, write_manifest


def release(run: Run, metrics: Mapping[str, Any]) -> None:
    """Writes the folder `model`: weights with kernels in float16, what tells unfamiliar images, metadata, split, and
    the SHA-256 of all of them.

    Args:
      run: a run whose stages up to `evaluate` are done.
      metrics: metrics of the run, as `Run.read_metrics` returns them.
    """
    config, classes, folder = run.config, run.classes, run.model
    folder.mkdir(exist_ok=True)
    folds = range(config.splits.num_folds)
    unets = [f"unet_{number}.safetensors" for number in range(len(run.unet_weights))]
    ensemble = [f"classifier_{fold}.safetensors" for fold in folds]
    classifiers = ensemble if config.classifier.fold_ensemble else ["classifier.safetensors"]
    networks = [*unets, *classifiers]
    for weights, name in zip([*run.unet_weights, *run.classifier_weights], networks, strict=True):
        release_weights(weights, folder / name)
    shutil.copyfile(run.novelty, folder / NOVELTY)
    parts = released.together(config, run.rows)
    table.write_parts(folder / SPLIT, parts)
    calibration = metrics.get("calibration", {})
    decided = {"threshold": metrics["classification"]["threshold"]["value"]} if classes.has_sides else {}
    sections = (("segmenter", config.segmenter), ("classifier", config.classifier))
    metadata = {
        "config": json.loads(unplaced(config).to_json()),
        "unets": unets,
        "classifiers": classifiers,
        "preprocessing": {name: stored_preprocessing(folder / name)._asdict() for name in networks},
        "test_time_augmentation": {name: section.test_time_augmentation for name, section in sections},
        "classes": classes.names,
        "positive": [name for name, positive in zip(classes.names, classes.positive, strict=True) if positive],
        "num_logits": classes.num_logits,
        **decided,
        **{name: calibration[name] for name in ("temperature", "shift", "prevalence") if name in calibration},
        "metrics": metrics,
        "data": _data(config) + [data for data in released.learned_from(config) if data not in _data(config)],
        "split_sha256": table.split_digest(parts),
        "plugins": {
            field: {"name": name, "sha256": plugins.digest(name)}
            for field, name in config.plugins.items()
            if field != "metric_logger"
        },
        "pretrained": _origins(run),
        "training": {"splits": _sizes(run.audit), "seconds": run.seconds},
        "versions": run.versions,
        "use": "Research use only. Not a medical device.",
    }
    write_text(folder / METADATA, json.dumps(metadata, indent=2) + "\n")
    write_manifest(folder)


def _origins(run: Run) -> dict[str, dict[str, str]]:
    """Returns name and SHA-256 of the files that the networks started from.

    Under "masks" are the metadata of the model whose U-Nets make the masks.
    """
    masks = {"masks": released.maker_of_masks(run.config) / METADATA} if run.config.bridge.released else {}
    return {name: _content(path) for name, path in (run.pretrained | masks).items()}


def _data(config: Config) -> list[dict[str, str]]:
    """Returns which collections the models learned from, and under which licence."""
    sources = {name: find_reader(reader(name, config.data.sources)) for name in config.data.sources}
    return [
        {"collection": name, "title": source.TITLE, "address": source.ADDRESS, "licence": source.LICENCE}
        for name, source in sources.items()
    ]


def _content(path: pathlib.Path) -> dict[str, str]:
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _sizes(audit: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Returns the number of images and groups of each split."""
    return {name: {what: split[what] for what in ("images", "groups")} for name, split in audit["splits"].items()}
