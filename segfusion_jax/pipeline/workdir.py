"""Where the stages keep what they write, and which images each of them uses."""

import json
import pathlib
from collections.abc import Sequence

import numpy as np

from segfusion_jax.config import Config
from segfusion_jax.datasets import taxonomy
from segfusion_jax.datasets.prepared import Prepared, load
from segfusion_jax.datasets.table import Row
from segfusion_jax.serving.ensembles import Classes


def load_prepared(config: Config, workdir: pathlib.Path) -> Prepared:
    """What the stage `prepare` wrote."""
    return load(records_folder(config, workdir), workdir / "splits")


def load_classes(config: Config, workdir: pathlib.Path) -> Classes:
    """What the stage `prepare` found that is to be told apart."""
    names = tuple(json.loads((workdir / "splits" / "audit.json").read_text())["classes"])
    num_logits = len(names) if config.data.target == "diagnosis" else 1
    return Classes(names, taxonomy.positive(names, config.data), num_logits)


def records_folder(config: Config, workdir: pathlib.Path) -> pathlib.Path:
    """Of the prepared records."""
    return pathlib.Path(config.data.records).expanduser() if config.data.records else workdir / "records"


def fold_folder(workdir: pathlib.Path, fold: int) -> pathlib.Path:
    """Of the U-Net that never saw `fold`."""
    return workdir / "segmentation" / f"fold_{fold}"


def unet_weights(config: Config, workdir: pathlib.Path) -> list[pathlib.Path]:
    """Weight files of the U-Nets, by the fold that each never saw."""
    return [fold_folder(workdir, fold) / "weights.safetensors" for fold in range(config.splits.num_folds)]


def classifier_folders(config: Config, workdir: pathlib.Path) -> list[pathlib.Path]:
    """Of the classifier; of an ensemble, by the fold that each is not trained on."""
    folder = workdir / "classification"
    if not config.classifier.fold_ensemble:
        return [folder]
    return [folder / f"fold_{fold}" for fold in range(config.splits.num_folds)]


def classifier_weights(config: Config, workdir: pathlib.Path) -> list[pathlib.Path]:
    """Weight files of the classifiers, in the order of their folders."""
    return [folder / "weights.safetensors" for folder in classifier_folders(config, workdir)]


def stage_seconds(workdir: pathlib.Path) -> dict[str, float]:
    """What the stages that are done took, by their folders."""
    markers = sorted(workdir.glob("*/done.json"))
    return {marker.parent.name: json.loads(marker.read_text())["seconds"] for marker in markers}


def evenly_spaced(rows: Sequence[Row], most: int) -> tuple[Row, ...]:
    """At most `most` of `rows`, evenly spaced; 0 = all."""
    if not most or len(rows) <= most:
        return tuple(rows)
    return tuple(rows[place] for place in np.linspace(0, len(rows) - 1, most).astype(int))


def classifier_rows(prepared: Prepared, config: Config, *splits: str) -> tuple[Row, ...]:
    """The labelled images of the config's own collection in the named ones of 'train', 'validation' and 'test'."""
    own = (row for row in prepared.rows if row.source == config.data.collection)
    return tuple(row for row in own if row.split in splits and row.target >= 0)
