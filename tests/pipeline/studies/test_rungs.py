"""What a trained run is tested on, and what is said of it."""

import numpy as np
import pytest
from scipy import special

from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.studies import rungs
from tests import tiny


@pytest.fixture(scope="module")
def run(finished):
    return Run(tiny.BASE, finished)


@pytest.fixture(scope="module")
def tests(run, tmp_path_factory):
    return rungs.tests(run, tmp_path_factory.mktemp("masks"))


def test_a_model_says_what_the_run_said(run, tests):
    lines = run.read_predictions()
    expected = special.expit([float(line["logit of malignant"]) for line in lines])
    np.testing.assert_allclose(rungs.modelled(run, tests["grouped"]), expected, atol=1e-6)
    masked = rungs.modelled(run, tests["natural"])  # the same images: the run has no pool
    assert len(masked) == len(expected)
    np.testing.assert_allclose(masked, expected, atol=1e-6)


def test_memory_knows_training_images_again(run):
    train = rungs.Test(run.prepared, run.split.classified("train"), run.masks)
    for memory in rungs.MEMORIES:
        probabilities, nearest = rungs.remembered(run, train, memory)
        assert probabilities.tolist() == pytest.approx([row.target for row in train.rows], abs=1e-3)
        assert set(nearest) == {"same picture"}


def test_images_of_another_origin_are_no_relatives(run, monkeypatch):
    monkeypatch.setitem(rungs.ELSEWHERE, "synthetic", "synthetic")
    monkeypatch.setattr(rungs, "load_dataset", lambda *_, **__: run.prepared)
    other = rungs._elsewhere(run)
    assert other is not None
    seen = {row.image_id for row in run.rows if row.split in ("train", "validation")}
    assert {row.image_id for row in other[1]}.isdisjoint(seen) and len(other[1]) > 0


def test_without_another_collection_its_rung_is_left_out(run, monkeypatch, caplog):
    monkeypatch.setitem(rungs.ELSEWHERE, "synthetic", "isic2017")
    monkeypatch.setenv("SEGFUSION_DATA", "")
    assert rungs._elsewhere(run) is None


def test_what_is_said_is_read_as_it_was_written(run, tmp_path):
    rows, said = run.rows[:2], [0.25, 1 / 3]
    rungs.write(tmp_path / "said.csv", rows, said, ["", "same group"])
    read = rungs.Said.read(tmp_path / "said.csv")
    assert read.probabilities.tolist() == said and read.nearest == ["", "same group"]
    assert read.groups == [row.group for row in rows] and read.labels.tolist() == [bool(row.target) for row in rows]
