"""The examples in docstrings of what users call, but EfficientNet's, which compiles for seconds."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "name",
    [
        "datasets.prepared",
        "evaluation.bootstrap",
        "evaluation.classification",
        "models.functional",
        "models.unet",
    ],
)
def test_examples_run_as_they_say(name, tmp_path):
    module = importlib.import_module(f"segfusion_jax.{name}")
    result = doctest.testmod(module, extraglobs={"folder": str(tmp_path)})
    assert result.attempted > 1 and not result.failed
