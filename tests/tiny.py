"""The shipped configs, shrunk until a run of all stages takes seconds."""

import importlib.util
import pathlib

import ml_collections

from segfusion_jax.config import Config

CONFIGS = pathlib.Path(__file__).parent.parent / "configs"


def config(name: str = "synthetic", **overrides) -> Config:
    """The shipped config `name` ("file" or "file:variant"), shrunk; then fields by their dotted names.

    Batches are larger than the sets of images, so that an epoch has one step in all of them and the compiled steps are
    the same.
    """
    values = shipped(name)
    shrunk = {
        "data.synthetic_images": 80,
        "splits.num_folds": 3,
        "splits.test_fraction": 0.25,
        "splits.validation_fraction": 0.25,
        "segmenter.image_size": (16, 32),
        "segmenter.filters": 2,
        "segmenter.loss": "bce_dice",
        "segmenter.training.epochs": 1,
        "segmenter.training.batch_size": 48,
        "segmenter.training.learning_rate": 1e-2,
        "classifier.image_size": (32, 32),
        "classifier.width": 0.25,
        "classifier.depth": 0.25,
        "classifier.training.epochs": 1,
        "classifier.training.batch_size": 48,
    }
    values.update_from_flattened_dict(shrunk | {field.replace("__", "."): value for field, value in overrides.items()})
    return Config.from_config_dict(values)


def shipped(name: str) -> ml_collections.ConfigDict:
    """The config `name` as its file makes it."""
    file, _, variant = name.partition(":")
    spec = importlib.util.spec_from_file_location(file, CONFIGS / f"{file}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(variant) if variant else module.get_config()
