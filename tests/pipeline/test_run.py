"""A run's workdir: what is read back, and whose it is."""

import json
import shutil

import pytest

from segfusion_jax.config import Config
from segfusion_jax.pipeline import experiment
from segfusion_jax.pipeline.run import Run
from tests import tiny


def test_a_run_is_opened_with_the_config_that_it_wrote(finished):
    run = Run.open(finished)
    assert run.config == tiny.BASE and run.versions["python"].startswith("3.")
    assert all(run.done(stage) and run.folder(stage) == finished / stage for stage in experiment.STAGES)
    assert run.page.exists() and run.summary.exists() and (run.model / "metadata.json").exists()
    assert run.read_metrics()["segmentation"]["n"]["value"] == len(run.read_scores()) > 0
    assert [len(run.read_predictions(name)) for name in ("validation", "predictions")] == [
        sum(row.split == split for row in run.rows) for split in ("validation", "test")
    ]


@pytest.mark.parametrize(
    ("versions", "writer"),
    [
        ({"segfusion_jax": "0.1.0"}, "version 0.1.0"),
        ({"segfusion_jax": "not installed"}, "another version"),
        ({}, "another"),
    ],
)
def test_a_workdir_of_an_earlier_layout_is_refused_and_left_alone(finished, tmp_path, versions, writer):
    copied = shutil.copytree(finished, tmp_path / "copied")
    written = {"config": json.loads(tiny.BASE.to_json()), "versions": versions}
    (copied / "config.json").write_text(json.dumps(written))
    before = tiny.tree(copied)
    message = f"{copied} was written by {writer}.* of segfusion_jax, which gives its folders other names. Give another"
    for use in (lambda: experiment.run(tiny.BASE, copied), lambda: Run.open(copied)):
        with pytest.raises(ValueError, match=message):
            use()
    assert tiny.tree(copied) == before


def test_a_folder_without_a_run_cannot_be_opened(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"config.json is not there: {tmp_path} is not the workdir of a run"):
        Run.open(tmp_path)


def test_what_is_written_is_read_back(tmp_path):
    run = Run(Config(seed=3), tmp_path)
    assert run.is_empty and run.read_settings() is None and run.done("prepare") is None
    run.write_settings({}, {})
    run.write_metrics({"classification": {"n": {"value": 2.0}}})
    run.write_scores(("image_id", "dice"), [("a", 0.5)])
    run.write_predictions("predictions", ("image_id", "probability"), [("a", "0.25"), ("b", "0.75")])
    run.mark_done("prepare", "f1", 1.26)
    run.mark_done("score", "f2", 20)
    again = Run.open(tmp_path)
    assert again.config == run.config and not again.is_empty
    assert again.read_metrics() == {"classification": {"n": {"value": 2.0}}}
    assert again.read_scores() == [{"image_id": "a", "dice": "0.5"}]
    assert [line["probability"] for line in again.read_predictions()] == ["0.25", "0.75"]
    assert (again.done("prepare"), again.done("score"), again.seconds) == ("f1", "f2", {"prepare": 1.3, "score": 20})
