"""A model that has learned little is called so, whatever its headline."""

import dataclasses
import math

import numpy as np
import pytest

from segfusion_jax.report.cautions import cautions
from tests.report import sample


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = sample.run(tmp_path_factory.mktemp("sample"))
    spread = [{"probability": f"{p:.4f}"} for p in np.linspace(0.01, 0.9, 200)]
    return dataclasses.replace(made, predictions=spread)


def told(run, words: str, **metrics) -> list[str]:
    changed = {name: run.metrics.get(name, {}) | value for name, value in metrics.items()}
    found = cautions(dataclasses.replace(run, metrics=run.metrics | changed))
    return [sentence for sentence in found if words in sentence]


def test_a_sound_model_is_not_doubted(run):
    for words in (
        "chance on",
        "not shown to be better",
        "nearly the same of every",
        "is called so",
        "is named",
        "unlike those",
    ):
        assert not told(run, words), words


@pytest.mark.parametrize(("value", "low", "said"), [(0.361, 0.25, 1), (0.62, 0.48, 1), (0.9, 0.86, 0)])
def test_validation_near_chance_is_told_however_good_the_test_is(run, value, low, said):
    validation = {"roc_auc": {"value": value, "low": low, "high": value + 0.1}}
    assert (
        len(
            told(
                run,
                f"ROC-AUC is {value:.3f} ({low:.3f} to {value + 0.1:.3f}), not shown to be better",
                validation=validation,
            )
        )
        == said
    )


@pytest.mark.parametrize(("width", "said"), [(0.001, 1), (0.049, 1), (0.2, 0)])
def test_constant_probabilities_are_told(run, width, said):
    rows = [{"probability": f"{p:.6f}"} for p in np.linspace(0.333, 0.333 + width, 1001)]
    found = told(dataclasses.replace(run, predictions=rows), "nearly the same of every image")
    assert len(found) == said
    if said:
        assert f"between 0.333 and {0.333 + width:.3f}" in found[0]


def test_a_model_of_few_positive_images_is_not_called_constant(run):
    rows = [{"probability": "0.004"}] * 980 + [{"probability": "0.7"}] * 20
    assert not told(dataclasses.replace(run, predictions=rows), "nearly the same of every image")


def test_what_is_never_called_or_named_is_told(run):
    sensitivity = {"sensitivity": {"value": 0.0, "low": 0.0, "high": 0.0}}
    assert (
        "that is malignant is called so: they are all called benign"
        in told(run, "is called so", classification=sensitivity)[0]
    )
    specificity = {"specificity": {"value": 0.0, "low": 0.0, "high": 0.0}}
    assert "that is benign is called so" in told(run, "is called so", classification=specificity)[0]
    classes = list(run.metrics["confusion"])
    confusion = {true: row | {classes[1]: 0} for true, row in run.metrics["confusion"].items()}
    assert told(run, f"No test image is named {classes[1]}, though some are", confusion=confusion)


@pytest.mark.parametrize(("half", "needed"), [(0.1, 4), (0.2, 16), (0.04, 0)])
def test_how_many_positive_images_would_do_follows_the_square_of_the_interval(run, half, needed):
    found = told(run, "would be needed", classification={"sensitivity": sample.entry(0.7, half)})
    assert len(found) == bool(needed)
    if needed:
        assert f"some {math.ceil(run.num_positive * needed):,} would be needed" in found[0]


def test_unfamiliar_images_and_groups_without_the_threshold_are_told(run):
    assert told(run, "12.0 % of the test images are unlike", novelty={"flagged": {"value": 0.12}})
    groups = [dict(group) for group in run.metrics["subgroups"]]
    measured = groups[0]["classification"] | {"sensitivity": {"value": 0.5, "low": 0.4, "high": 0.6}}
    groups[0] = groups[0] | {"classification": measured}
    changed = dataclasses.replace(run, metrics=run.metrics | {"subgroups": groups})
    assert [
        one for one in cautions(changed) if "does not hold where sex is female (702 images): sensitivity 0.500" in one
    ]


def test_what_says_that_nothing_was_learned_comes_before_what_is_rough(run):
    rows = [{"probability": "0.3334"}] * 50
    found = cautions(dataclasses.replace(run, predictions=rows))
    assert "nearly the same of every image" in found[0]
