"""What may change in a workdir, and what runs again then: with stages that write a file each, and nothing else."""

import dataclasses
import json
import os
import pathlib
import re

import pytest

from segfusion_jax.config import Config, flatten
from segfusion_jax.pipeline import experiment
from segfusion_jax.pipeline.dependence import DEPENDS, FREE, PLACES, TRAINED, stage_of
from tests import tiny

STAGES = list(DEPENDS)


@pytest.fixture
def ran(monkeypatch) -> list[str]:
    """The stages that ran; each leaves a file."""
    names: list[str] = []

    def stage(name):
        def perform(run):
            names.append(name)
            run.folder(name).mkdir(parents=True, exist_ok=True)
            file = run.folder(name) / ("weights.safetensors" if name in TRAINED else "file")
            file.write_text(name)
            if name in TRAINED:
                with (run.folder(name) / "metrics.jsonl").open("a") as log:
                    log.write("epochs\n")

        return perform

    monkeypatch.setattr(experiment, "STAGES", {name: stage(name) for name in STAGES})
    return names


def config(**fields) -> Config:
    return tiny.config(**fields)


def run(workdir: pathlib.Path, *stages: str, reuse=(), **fields):
    return experiment.run(config(**fields), workdir, stages or STAGES, reuse=reuse)


def test_each_field_is_one_that_a_stage_depends_on_or_free():
    names = flatten(dataclasses.asdict(tiny.BASE))
    assert {stage_of(name) for name in names} == {*STAGES, None}
    assert set(PLACES) <= names.keys() and set(TRAINED.values()) <= names.keys()
    free = {name for name in names if stage_of(name) is None}
    assert {"input.num_workers", "checkpoints.keep", "parallel.api", "classifier.training.remat"} < free
    assert not {name for name in free if name.startswith(("data", "splits", "seed", "bridge", "evaluation"))}


@pytest.mark.parametrize(
    ("fields", "again"),
    [
        ({}, []),
        ({"input__num_threads": 1, "segmenter__training__remat": True}, []),
        ({"evaluation__resamples": 150}, ["evaluate", "report"]),
        ({"classifier__test_time_augmentation": 8}, ["evaluate", "report"]),
        ({"release__perceptual_hashes": True}, ["report"]),
    ],
)
def test_what_no_training_depends_on_may_change(tmp_path, ran, fields, again):
    run(tmp_path)
    ran.clear()
    run(tmp_path, **fields)
    assert ran == again
    run(tmp_path, **fields)
    assert ran == again
    run(tmp_path)  # and back
    assert ran == again * 2


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"splits__seed": 3}, []),
        ({"data__size": (64, 64)}, []),
        ({"seed": 3}, ["prepare"]),
        ({"segmenter__training__epochs": 9}, ["prepare"]),
        ({"segmenter__test_time_augmentation": 8}, ["prepare", "segment"]),
        ({"bridge__threshold": 0.4}, ["prepare", "segment"]),
        ({"bridge__min_area": 0.1}, ["prepare", "segment", "score"]),
        ({"bridge__alpha": 0.3, "evaluation__resamples": 150}, ["prepare", "segment", "score", "bridge"]),
    ],
)
def test_what_a_training_depends_on_is_refused_with_what_would_run_again(tmp_path, ran, fields, kept):
    run(tmp_path / "old")
    before = tiny.tree(tmp_path / "old")
    again = [name for name in STAGES if name not in kept]
    with pytest.raises(ValueError) as error:
        run(tmp_path / "old", **fields)
    message = str(error.value)
    name, value = next(iter(fields.items()))
    goes_on = "segment would go on from its last epoch and " if name == "segmenter__training__epochs" else ""
    anew = [stage for stage in again if not (goes_on and stage == "segment")]
    here = list(value) if isinstance(value, tuple) else value
    assert f"{name.replace('__', '.')} is " in message and f", {here!r} here" in message
    assert f"{goes_on}{', '.join(anew)} would run again" in message
    assert (f"; {', '.join(kept)} would be taken over." in message) == bool(kept)
    assert message.endswith(f"with --reuse {tmp_path / 'old'}, which does so and leaves this one as it is")
    assert tiny.tree(tmp_path / "old") == before
    ran.clear()
    run(tmp_path / "new", reuse=[tmp_path / "old"], **fields)
    assert ran == again and tiny.tree(tmp_path / "old") == before
    inodes = {name: (tmp_path / "old" / name / "done.json").stat().st_ino for name in kept}
    assert inodes == {name: (tmp_path / "new" / name / "done.json").stat().st_ino for name in kept}


def test_stages_that_train_nothing_run_again_where_no_training_follows(tmp_path, ran):
    run(tmp_path, *STAGES[:4])
    ran.clear()
    run(tmp_path, *STAGES[:4], bridge__min_area=0.1)
    assert ran == ["bridge"]
    run(tmp_path, bridge__min_area=0.1, bridge__alpha=0.2, classifier__dropout=0.3)
    assert ran == ["bridge", "classify", "evaluate", "report"]


def test_a_training_that_was_begun_is_not_gone_on_with_under_another_config(tmp_path, ran):
    run(tmp_path, *STAGES[:4])
    (tmp_path / "classify").mkdir()
    (tmp_path / "classify/metrics.jsonl").touch()
    with pytest.raises(ValueError, match="classifier.dropout is 0.1 there, 0.3 here. classify would run again"):
        run(tmp_path, classifier__dropout=0.3)
    run(tmp_path, classifier__training__epochs=4)
    assert json.loads((tmp_path / "config.json").read_text())["longer"] == {"classify": [1]}


def test_a_stage_that_would_run_again_counts_as_missing(tmp_path, ran):
    run(tmp_path)
    before = tiny.tree(tmp_path)
    with pytest.raises(ValueError, match="stage 'report' needs stage 'evaluate', which is not done"):
        run(tmp_path, "report", evaluation__resamples=150)
    run(tmp_path, "classify", evaluation__resamples=150)  # which is done
    assert tiny.tree(tmp_path) == before


def test_more_epochs_go_on_from_the_last_state(tmp_path, ran):
    run(tmp_path)
    ran.clear()
    run(tmp_path, classifier__training__epochs=4)
    assert ran == ["classify", "evaluate", "report"]
    assert (tmp_path / "classify/metrics.jsonl").read_text() == "epochs\n" * 2
    run(tmp_path, classifier__training__epochs=4)
    assert len(ran) == 3
    with pytest.raises(ValueError, match="classifier.training.epochs is 4 there, 1 here. classify, .* would run again"):
        run(tmp_path)
    run(tmp_path, classifier__training__epochs=6)
    assert json.loads((tmp_path / "config.json").read_text())["longer"] == {"classify": [1, 4]}
    run(tmp_path / "fresh", classifier__training__epochs=6)
    marks = [json.loads((path / "classify/done.json").read_text()) for path in (tmp_path, tmp_path / "fresh")]
    assert marks[0]["fingerprint"] != marks[1]["fingerprint"]


def test_more_epochs_and_something_else_are_another_training(tmp_path, ran):
    run(tmp_path)
    for fields in ({"classifier__dropout": 0.3}, {"bridge__min_area": 0.1}):
        with pytest.raises(ValueError, match="classify, evaluate, report would run again"):
            run(tmp_path, classifier__training__epochs=4, **fields)


def test_a_training_goes_on_in_another_workdir(tmp_path, ran, caplog):
    old = tmp_path / "old"
    run(old)
    before = tiny.tree(old)
    ran.clear()
    with caplog.at_level("INFO", logger="segfusion_jax"):
        run(tmp_path / "new", reuse=[old], segmenter__training__epochs=2, segmenter__training__schedule="constant")
    assert ran == STAGES[1:] and tiny.tree(old) == before
    assert (tmp_path / "new/segment/metrics.jsonl").read_text() == "epochs\n" * 2
    assert (
        f"stage prepare is taken over from {old}" in caplog.text
        and f"stage segment begins with what {old} has" in caplog.text
    )
    ran.clear()
    run(tmp_path / "third", reuse=[tmp_path / "new"], segmenter__training__epochs=2, bridge__alpha=0.2)
    assert ran == ["classify", "evaluate", "report"]
    assert json.loads((tmp_path / "third/config.json").read_text())["longer"] == {"segment": [1]}


def test_files_that_others_link_to_are_not_written_into(tmp_path, ran):
    old, new = tmp_path / "old", tmp_path / "new"
    run(old)
    run(new, reuse=[old], evaluation__resamples=150)
    assert os.stat(old / "classify/metrics.jsonl").st_nlink == 2
    run(new, classifier__training__epochs=4, evaluation__resamples=150)
    assert (old / "classify/metrics.jsonl").read_text() == "epochs\n"
    assert (new / "classify/metrics.jsonl").read_text() == "epochs\n" * 2
    assert (old / "classify/weights.safetensors").exists()


def test_what_the_schedule_does_is_said(tmp_path, ran, caplog):
    run(tmp_path, classifier__training__schedule="cosine", classifier__training__epochs=10)
    with caplog.at_level("INFO", logger="segfusion_jax"):
        run(tmp_path, classifier__training__schedule="cosine", classifier__training__epochs=20)
    message = (
        "stage classify goes on from its last state, after 10 epochs, to 20: its learning rate goes from 0 to 0.0005 "
        "and follows the cosine schedule of 20 epochs from there on"
    )
    assert message in caplog.text


def test_the_documented_table_is_true():
    text = (pathlib.Path(__file__).parents[2] / "docs/training.md").read_text()
    rows = re.findall(r"^\| (?:`([a-z]+)`[^|]*|none) \| ([^|]+) \| ([^|]+) \|", text, re.MULTILINE)
    documented = {stage: set(re.findall(r"`([^`]+)`", fields)) for stage, fields, _ in rows}
    free = documented.pop("")
    assert {name for name in FREE if "training" not in name} | {"remat", "nonfinite"} == free
    assert documented == {stage: set(fields) for stage, fields in DEPENDS.items() if fields}
    allowed = {stage: told for stage, _, told in rows}
    assert [stage for stage in STAGES[:-1] if allowed[stage].startswith("refused")] == ["prepare", *TRAINED]
