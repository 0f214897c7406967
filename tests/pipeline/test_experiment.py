"""What a run of all stages does to its workdir, and what it refuses."""

import dataclasses
import json
import logging
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from segfusion_jax.config import Config, Parallel
from segfusion_jax.models import mobilenet_v3, preprocessing
from segfusion_jax.models.mobilenet_v3 import MobileNetV3
from segfusion_jax.models.pretrained import save_weights
from segfusion_jax.pipeline import experiment
from segfusion_jax.serving.segfusion import SegFusion
from segfusion_jax.training import metric_log
from tests import tiny
from tests.datasets import official
from tests.models import lukemelas
from tests.models.filled import filled
from tests.unwritable import unwritable

EVERY = ["prepare", "segment", "score", "bridge", "classify", "evaluate", "report"]


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished run that may be changed."""
    return shutil.copytree(finished, tmp_path / "workdir")


def forget(workdir, *folders: str):
    for folder in folders:
        (workdir / folder / "done.json").unlink()


def changed(**fields):
    """The finished run's config with other values of some fields, by their dotted names."""
    values = tiny.BASE.to_config_dict()
    values.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
    return Config.from_config_dict(values)


def stages_run(caplog) -> list[str]:
    messages = [record.getMessage() for record in caplog.records]
    return [m.removeprefix("stage ") for m in messages if m.startswith("stage ") and len(m.split()) == 2]


def ham10000(tmp_path, **overrides):
    return tiny.config("ham10000", data__root=str(tmp_path / "official"), **overrides)


def test_every_stage_leaves_its_mark(finished):
    assert list(experiment.STAGES) == EVERY
    marks = [json.loads((finished / folder / "done.json").read_text()) for folder in EVERY]
    assert len({mark["fingerprint"] for mark in marks}) == len(marks) and all(mark["seconds"] >= 0 for mark in marks)
    written = json.loads((finished / "config.json").read_text())
    assert written["config"] == json.loads(tiny.BASE.to_json())
    assert {"jax", "flax", "optax", "python", "segfusion_jax"} <= set(written["versions"])


def test_what_another_config_did_in_the_same_way_is_taken_over(finished, tmp_path, caplog):
    other = changed(**{"bridge.mode": "black", "classifier.training.epochs": 1})
    before = tiny.tree(finished)
    with caplog.at_level(logging.INFO, logger="segfusion_jax"):
        experiment.run(other, tmp_path / "other", ("prepare", "segment", "score", "bridge"), reuse=(tmp_path, finished))
    assert stages_run(caplog) == []
    for folder in ("records", *EVERY[:4]):
        same, theirs = (
            {name: facts for name, facts in tiny.tree(workdir / folder).items() if not name.endswith(".lock")}
            for workdir in (tmp_path / "other", finished)
        )
        assert same.keys() == theirs.keys() and {v[0] for v in same.values()} == {v[0] for v in theirs.values()}
    assert not (tmp_path / "other" / "classify").exists() and tiny.tree(finished) == before


def test_a_second_run_does_nothing(finished, caplog):
    before = tiny.tree(finished)
    with caplog.at_level(logging.INFO, logger="segfusion_jax"):
        experiment.run(tiny.BASE, finished)
    assert tiny.tree(finished) == before and stages_run(caplog) == []


def test_a_copy_that_cannot_be_written_is_read(finished):
    with tempfile.TemporaryDirectory() as base:
        os.chmod(base, 0o755)
        copied = shutil.copytree(finished, pathlib.Path(base) / "copied")
        with unwritable(copied):
            with pytest.raises(PermissionError):
                (copied / "new").touch()
            experiment.run(tiny.BASE, copied)
            (prediction,) = SegFusion.load(copied).predict([np.full((40, 50, 3), 128, np.uint8)])
            assert 0 <= prediction.probability <= 1


def test_what_changes_no_result_may_change(finished):
    before = tiny.tree(finished)
    remat = {"segmenter__training__remat": True, "classifier__training__remat": True}
    experiment.run(changed(input__num_threads=1, checkpoints__keep=5, parallel__api="pmap", **remat), finished)
    assert tiny.tree(finished) == before


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 5}, "seed is 1 there, 5 here"),
        ({"bridge__alpha": 0.25}, "bridge.alpha is 0.53 there, 0.25 here"),
        (
            {"parallel__sync_batch_norm": False, "splits__num_folds": 4},
            "parallel.sync_batch_norm is True there, False here; splits.num",
        ),
    ],
)
def test_another_config_is_refused_and_nothing_touched(finished, changes, named):
    before = tiny.tree(finished)
    with pytest.raises(ValueError, match=rf"{finished} belongs to another config: {named}.*Give another --workdir"):
        experiment.run(changed(**changes), finished)
    assert tiny.tree(finished) == before


def test_a_folder_of_something_else_is_refused_and_not_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match="is not empty and holds no config.json"):
        experiment.run(tiny.BASE, tmp_path)
    assert list(tiny.tree(tmp_path)) == ["thesis.tex"]


def test_a_run_that_was_killed_as_it_began_goes_on(tmp_path):
    (tmp_path / ".config.json.123.456").write_text("{")
    (tmp_path / "lock").touch()
    experiment.run(tiny.BASE, tmp_path, ["prepare"])
    assert (tmp_path / "prepare/done.json").exists()


def test_a_workdir_that_changes_before_it_is_locked_is_refused(tmp_path, monkeypatch):
    def other_run_first(*arguments, **options):
        monkeypatch.undo()
        experiment.run(changed(splits__seed=7), tmp_path, ["prepare"])
        return experiment.owned(*arguments, **options)

    monkeypatch.setattr(experiment, "owned", other_run_first)
    with pytest.raises(ValueError, match="splits.seed is 7 there, 0 here"):
        experiment.run(tiny.BASE, tmp_path, ["prepare"])


def test_the_advice_to_skip_unusable_images_can_be_followed(tmp_path):
    ids = official.write_ham10000(tmp_path / "official", 60)
    (tmp_path / f"official/HAM10000_images_part_1/{ids[0]}.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="config.data.on_error=skip"):
        experiment.run(ham10000(tmp_path), tmp_path / "run", ["prepare"])
    experiment.run(ham10000(tmp_path, data__on_error="skip"), tmp_path / "run", ["prepare"])
    assert json.loads((tmp_path / "run/config.json").read_text())["config"]["data"]["on_error"] == "skip"
    with pytest.raises(ValueError, match="belongs to another config"):
        experiment.run(ham10000(tmp_path), tmp_path / "run", ["prepare"])


def test_changed_data_are_refused(tmp_path):
    ids = official.write_ham10000(tmp_path / "official", 60)
    experiment.run(ham10000(tmp_path), tmp_path / "run", ["prepare"])
    experiment.run(ham10000(tmp_path), tmp_path / "run", ["prepare"])  # nothing has changed
    before = tiny.tree(tmp_path / "run")
    image = tmp_path / f"official/HAM10000_images_part_1/{ids[0]}.jpg"
    image.write_bytes(image.read_bytes() + b"\0")
    with pytest.raises(ValueError, match=f"other files: the images changed: 1 with another image: {ids[0]}"):
        experiment.run(ham10000(tmp_path), tmp_path / "run")
    assert tiny.tree(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (
            ["prepare", "segmnet"],
            "stage 'segmnet': must be one of prepare, segment, score, bridge, classify, evaluate, report",
        ),
        (["bridge"], "stage 'bridge' needs stage 'prepare'"),
        (["prepare", "bridge"], "stage 'bridge' needs stage 'segment'"),
        (["prepare", "segment", "score", "classify"], "stage 'classify' needs stage 'bridge'"),
    ],
)
def test_unknown_stages_and_gaps_are_refused_before_anything_is_written(tmp_path, stages, message):
    with pytest.raises(ValueError, match=message):
        experiment.run(tiny.BASE, tmp_path / "new", stages)
    assert not (tmp_path / "new").exists()


def test_some_stages(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="segfusion_jax"):
        experiment.run(tiny.BASE, tmp_path, ["prepare"])
    assert stages_run(caplog) == ["prepare"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "lock", "prepare", "records"]
    with pytest.raises(ValueError, match="stage 'report' needs stage 'segment'"):
        experiment.run(tiny.BASE, tmp_path, ["report"])


def test_a_workdir_is_refused_while_another_run_lives_and_free_when_it_is_dead(tmp_path):
    imports = "import pathlib, sys, time; from segfusion_jax.runtime.locks import owned"
    holds = "with owned(pathlib.Path(sys.argv[1]), what='x'): print(1, flush=True); time.sleep(600)"
    program = f"{imports}\n{holds}"
    other = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "lock")], stdout=subprocess.PIPE)
    assert other.stdout is not None and other.stdout.readline() == b"1\n"
    before = tiny.tree(tmp_path)
    message = f"^{tmp_path} is in use by process {other.pid} on .+; it is free when that ends$"
    with pytest.raises(ValueError, match=message):
        experiment.run(tiny.BASE, tmp_path, ["prepare"])
    assert tiny.tree(tmp_path) == before
    other.kill()
    other.wait()
    experiment.run(tiny.BASE, tmp_path, ["prepare"])
    assert (tmp_path / "prepare/done.json").exists()


def test_a_workdir_of_another_version_is_refused(copied):
    path = copied / "config.json"
    content = json.loads(path.read_text())
    del content["config"]["segmenter"]["training"]["on_device_data"]
    content["config"]["bridge"]["blur"] = 1
    path.write_text(json.dumps(content))
    named = "without or with bridge.blur, segmenter.training.on_device_data. Give another --workdir"
    with pytest.raises(ValueError, match=f"was written by another version of segfusion_jax, {named}"):
        experiment.run(tiny.BASE, copied)


def test_a_run_that_was_stopped_between_stages_goes_on(finished, copied, caplog):
    forget(copied, "evaluate", "report")
    shutil.rmtree(copied / "evaluate")
    kept = {
        name: facts for name, facts in tiny.tree(copied).items() if not name.startswith(("report", "model", "lock"))
    }
    with caplog.at_level(logging.INFO, logger="segfusion_jax"):
        experiment.run(tiny.BASE, copied)
    assert stages_run(caplog) == ["evaluate", "report"]
    assert kept.items() <= tiny.tree(copied).items()
    for name in ("metrics.json", "predictions.csv", "validation.csv"):
        assert (copied / "evaluate" / name).read_bytes() == (finished / "evaluate" / name).read_bytes()


def test_a_run_that_was_stopped_within_a_stage_goes_on(finished, copied, caplog):
    forget(copied, "segment")
    weights = [copied / f"segment/fold_{fold}/weights.safetensors" for fold in range(3)]
    weights[2].unlink()
    before = [path.stat().st_mtime_ns for path in weights[:2]]
    with caplog.at_level(logging.INFO, logger="segfusion_jax"):
        experiment.run(tiny.BASE, copied, ["segment"])
    assert stages_run(caplog) == ["segment"]
    assert [path.stat().st_mtime_ns for path in weights[:2]] == before
    assert weights[2].read_bytes() == (finished / "segment/fold_2/weights.safetensors").read_bytes()


def test_a_finished_training_goes_on_for_more_epochs(finished, copied, caplog):
    classify = copied / "classify"
    before = (finished / "classify/all/metrics.jsonl").read_bytes()
    longer = changed(**{"classifier.training.epochs": 11})
    with caplog.at_level(logging.INFO, logger="segfusion_jax"):
        experiment.run(longer, copied, ["classify"])
    assert stages_run(caplog) == ["classify"]
    assert "its learning rate stays and follows the constant schedule of 11 epochs" in caplog.text
    after = (classify / "all/metrics.jsonl").read_bytes()
    assert after.startswith(before) and len(after) > len(before)
    epochs = [
        line["epoch"] for line in metric_log.read(classify / "all/metrics.jsonl") if line["split"] == "validation"
    ]
    assert epochs == list(range(1, 12))
    assert (classify / "frozen/metrics.jsonl").read_bytes() == (finished / "classify/frozen/metrics.jsonl").read_bytes()
    assert json.loads((copied / "config.json").read_text())["longer"] == {"classify": [10]}
    assert not (copied / "evaluate/done.json").exists() and (copied / "bridge/done.json").exists()


def test_other_networks_and_their_weights_by_config(tmp_path, monkeypatch):
    """A U-Net with a pretrained MobileNetV3 encoder, and a MobileNetV3 that classifies, through all stages."""
    plan = mobilenet_v3.plan("mobilenet_v3_small", width=0.25)
    monkeypatch.setattr(mobilenet_v3, "plan", lambda *_, **__: plan._replace(blocks=plan.blocks[:5]))  # compiles faster
    network = filled(lambda: MobileNetV3("mobilenet_v3_small", conventions="timm", rngs=nnx.Rngs(0)))
    network = network._replace(preprocessing=preprocessing.CENTRED)
    save_weights(tmp_path / "small.safetensors", network)
    config = tiny.config(
        segmenter__encoder="mobilenet_v3_small",
        segmenter__conventions="timm",
        segmenter__pretrained=str(tmp_path / "small.safetensors"),
        segmenter__training__learning_rate=1e-4,
        classifier__backbone="mobilenet_v3_small",
        classifier__depth=1.0,
        classifier__layer_decay=0.5,
    )
    experiment.run(config, tmp_path / "workdir")
    trained = safetensors.numpy.load_file(tmp_path / "workdir/segment/fold_0/weights.safetensors")
    kernel = trained["encoder.blocks.4.expand.conv.kernel"]
    start = np.asarray(network.params["blocks"][4]["expand"]["conv"]["kernel"])
    assert 0 < np.abs(kernel - start).max() < 0.01 < start.std()
    model = SegFusion.load(tmp_path / "workdir")
    (prediction,) = model.predict([np.full((40, 50, 3), 128, np.uint8)])
    assert prediction.mask.shape == (40, 50) and 0 <= prediction.probability <= 1
    metadata = safetensors.safe_open(tmp_path / "workdir/model/unet_0.safetensors", "np").metadata()
    expects = json.loads(metadata["segfusion_jax"])["preprocessing"]
    assert expects == {"mean": [0.5] * 3, "std": [0.5] * 3, "image_size": [16, 32]}


@pytest.mark.parametrize("fields", [{}, {"segmenter__encoder": "mobilenet_v3_small"}])
def test_pretrained_weights_that_do_not_fit_are_noticed_at_once(tmp_path, fields):
    np.savez(tmp_path / "b0.npz", **lukemelas.arrays())
    section = "segmenter" if fields else "classifier"
    config = tiny.config(**fields, **{f"{section}__pretrained": str(tmp_path / "b0.npz"), "classifier__depth": 1.0})
    with pytest.raises(ValueError, match="b0.npz does not fit the model: "):
        experiment.run(config, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("model", ["segmenter", "classifier"])
def test_batches_that_devices_cannot_share_are_refused_at_once(tmp_path, model):
    config = tiny.config(**{f"{model}__training__batch_size": 18})
    message = f"^config.{model}.training.batch_size = 18: must be divisible by the 4 devices$"
    with pytest.raises(ValueError, match=message):
        experiment.run(config, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_shares_that_cannot_be_cut_into_microbatches_are_refused_at_once(tmp_path):
    config = tiny.config(classifier__training__batch_size=12, classifier__training__microbatches=2)
    message = "^config.classifier.training.batch_size = 12: must be divisible by the 4 devices x 2 microbatches$"
    with pytest.raises(ValueError, match=message):
        experiment.run(config, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_missing_pretrained_weights_are_noticed_at_once(tmp_path):
    with pytest.raises(FileNotFoundError, match="config.classifier.pretrained = 'nowhere.npz': no such file"):
        experiment.run(tiny.config(classifier__pretrained="nowhere.npz"), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_masks_are_the_same_by_pmap(finished, copied):
    config = dataclasses.replace(tiny.BASE, parallel=Parallel(api="pmap"))
    text = (copied / "config.json").read_text()
    (copied / "config.json").write_text(text.replace('"shard_map"', '"pmap"'))
    for path in copied.glob("*/done.json"):
        path.unlink()
    for folder in ("score", "bridge", "classify", "evaluate", "report"):
        shutil.rmtree(copied / folder)
    experiment.run(config, copied, ["prepare", "segment", "score", "bridge"])
    assert (copied / "bridge/masks.csv").read_bytes() == (finished / "bridge/masks.csv").read_bytes()


@pytest.mark.slow
def test_training_images_that_live_on_the_devices(finished, tmp_path):
    """The same order, geometry and steps: only interpolation rounds otherwise."""
    config = changed(
        segmenter__training__on_device_data=True,
        classifier__training__on_device_data=True,
        classifier__frozen_epochs=0,
        classifier__training__epochs=1,
    )
    experiment.run(config, tmp_path, ["prepare", "segment", "score", "bridge", "classify"])
    for fold in range(3):
        streamed, on_device = (
            metric_log.read(workdir / f"segment/fold_{fold}/metrics.jsonl") for workdir in (finished, tmp_path)
        )
        assert [(line["step"], line["split"]) for line in on_device] == [(a["step"], a["split"]) for a in streamed]
        assert [line["loss"] for line in on_device] == pytest.approx([line["loss"] for line in streamed], rel=0.01)
    first, *_, last = metric_log.read(tmp_path / "classify/all/metrics.jsonl")
    assert first["step"] == 1 < last["step"] and 0 < first["loss"] < 2
