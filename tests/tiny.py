"""The shipped configs, shrunk until a run of all stages takes seconds."""

import csv
import importlib.util
import pathlib

import ml_collections

from segfusion_jax.config import Config

CONFIGS = pathlib.Path(__file__).parent.parent / "configs"


def config(name: str = "synthetic", **overrides) -> Config:
    """The shipped config `name` ("file" or "file:variant"), shrunk; then fields by their dotted names.

    The learning rate is constant, so that the number of steps is no part of the compiled step: most of them share one.
    """
    values = shipped(name)
    shrunk = {
        "data.synthetic_images": 80,
        "splits.num_folds": 3,
        "splits.test_fraction": 0.25,
        "splits.validation_fraction": 0.25,
        "segmenter.image_size": (16, 32),
        "segmenter.filters": 2,
        "segmenter.training.epochs": 1,
        "segmenter.training.batch_size": 8,
        "segmenter.training.schedule": "constant",
        "segmenter.training.learning_rate": 1e-2,
        "bridge.mode": "dim",  # shows the classifier whole images, which it learns from in fewer steps
        "classifier.image_size": (32, 32),
        "classifier.width": 0.25,
        "classifier.depth": 0.25,
        "classifier.training.epochs": 1,
        "classifier.training.learning_rate": 1e-3,
        "classifier.training.ema_decay": 0.5,
        "classifier.training.batch_size": 8,
        "classifier.training.schedule": "constant",
    }
    values.update_from_flattened_dict(shrunk | {field.replace("__", "."): value for field, value in overrides.items()})
    return Config.from_config_dict(values)


def tree(folder: pathlib.Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def table(path: pathlib.Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def shipped(name: str) -> ml_collections.ConfigDict:
    """The config `name` as its file makes it."""
    file, _, variant = name.partition(":")
    spec = importlib.util.spec_from_file_location(file, CONFIGS / f"{file}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(variant) if variant else module.get_config()


BASE = config(
    "synthetic",
    seed=1,  # with others the classifier may learn nothing, and says the same of every image
    segmenter__training__epochs=2,
    classifier__frozen_epochs=1,
    classifier__frozen_learning_rate=1e-2,
    classifier__training__epochs=10,
)
"""Of the run that the fixture `finished` makes."""
