"""One run with a backbone, a loss, an augmentation, a logger and a reader of somebody's own, to its prediction."""

import dataclasses
import json
import subprocess
import sys
import types

import cv2
import numpy as np
import pytest

import segfusion_jax as sf
from examples import hairs
from segfusion_jax.config import Config
from segfusion_jax.pipeline import changes, dependence, experiment
from segfusion_jax.pipeline.run import Run
from segfusion_jax.runtime import plugins
from segfusion_jax.serving import model_folder
from tests import tiny

pytestmark = pytest.mark.slow

BACKBONE = "examples.convnext:small"


class Wandb(types.ModuleType):
    """What the logger calls of the package wandb, and what it was told."""

    def __init__(self):
        super().__init__("wandb")
        self.runs: dict[str, list] = {}

    def init(self, *, project, name, dir, config):  # noqa: A002
        lines = self.runs.setdefault(name, [])
        return types.SimpleNamespace(
            log=lambda metrics, step: lines.append((step, metrics)), finish=lambda: lines.append("finished")
        )


def draw(folder, each: int = 16):
    """The made-up clinic's folder: light melanomas, dark nevi."""
    rng, lines = np.random.default_rng(0), ["p0;none.png;MM"]
    folder.mkdir()
    for number in range(2 * each):
        name, light = f"{number}.png", number % 2
        cv2.imwrite(str(folder / name), np.clip(rng.normal(70 + 110 * light, 40, (32, 32, 3)), 0, 255).astype(np.uint8))
        lines.append(f"p{number};{name};{'MM' if light else 'NZN'}")
    (folder / "cases.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The run, and what the logger was told."""
    folder = tmp_path_factory.mktemp("plugins")
    values = tiny.config(bridge__mode="none", evaluation__resamples=100).to_config_dict()
    values.data.collection, values.data.on_error = "", "skip"
    values.data.collections = {"clinic": {"reader": "examples.clinic:Clinic", "root": str(draw(folder / "clinic"))}}
    values.classifier.update(backbone=BACKBONE, width=1.0, depth=1.0, loss="examples.asymmetric_loss:asymmetric")
    values.classifier.augmentation.extra = "examples.hairs:hairs"
    values.classifier.training.epochs = 2
    values.metric_logger = "examples.wandb_logger:Run"
    wandb = Wandb()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "wandb", wandb)
        run = experiment.run(Config.from_config_dict(values), folder / "workdir")
    return run, wandb


def test_the_reader_and_its_problems(trained):
    run, _ = trained
    assert {(row.diagnosis, row.malignant, row.source) for row in run.rows} == {
        ("melanoma", 1, "clinic"),
        ("nevus", 0, "clinic"),
    }
    assert [row["image_id"] for row in tiny.table(run.folder("prepare") / "problems.csv")] == ["none.png"]


def test_the_logger_gets_what_metrics_jsonl_has(trained):
    run, wandb = trained
    (lines,) = wandb.runs.values()
    written = run.read_histories()["classifier"]
    assert lines.pop() == "finished" and len(lines) == len(written)
    for (step, told), line in zip(lines, written, strict=True):
        metrics = {name: value for name, value in line.items() if name not in ("step", "epoch", "split")}
        assert step == line["step"] and told.pop("epoch") == line["epoch"]
        assert told == {f"{line['split']}/{name}": value for name, value in metrics.items()}


def test_the_code_of_a_part_is_what_a_stage_depends_on(trained, monkeypatch):
    run, _ = trained
    files = dependence.files(run.config, "images")
    assert files["classifier.backbone"] == plugins.digest(BACKBONE) and "metric_logger" not in files
    written = run.read_settings()["files"]
    assert {name: written[name] for name in run.config.plugins if name != "metric_logger"} == {
        name: digest for name, digest in files.items() if name in run.config.plugins
    }
    found = changes.changes(run, written | {"classifier.loss": "other"})
    assert list(found.told) == ["classifier.loss"] and found.again[0] == "classify"
    without = dataclasses.replace(run.config, metric_logger="")
    assert changes.changes(Run(without, run.workdir), written).told == {}


def test_a_released_model_imports_its_makers_code_only_where_it_is_named(trained, tmp_path):
    run, _ = trained
    stated = json.loads((run.model / "metadata.json").read_text())["plugins"]
    assert stated["classifier.backbone"] == {"name": BACKBONE, "sha256": plugins.digest(BACKBONE)}
    with pytest.raises(ValueError, match=r"code of its maker, 'examples.convnext:small'.*nothing was"):
        sf.SegFusion.load(run.model)
    with pytest.raises(ValueError, match="code of its maker"):
        sf.SegFusion.load(run.model, plugins=["examples.hairs:hairs"])
    script = f"""
import sys, segfusion_jax as sf
try:
    sf.SegFusion.load({str(run.model)!r})
except ValueError:
    print([name for name in sys.modules if name.startswith("examples")])
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_a_released_model_predicts_with_code_that_is_named(trained, tmp_path, caplog):
    run, _ = trained
    model = sf.SegFusion.load(run.model, plugins=[BACKBONE])
    images = [np.full((32, 32, 3), level, np.uint8) for level in (70, 180)]
    dark, light = model.predict(images, explain=True)
    assert light.probability > dark.probability and light.evidence.shape == (32, 32)
    assert "by its SHA-256" not in caplog.text


def test_code_that_was_changed_since_is_told(trained, monkeypatch, caplog):
    run, _ = trained
    metadata = json.loads((run.model / "metadata.json").read_text())
    metadata["plugins"]["classifier.backbone"]["sha256"] = "0" * 64
    stated = model_folder.read_metadata(run.model)
    opened = dataclasses.replace(
        model_folder.open_folder(run.model), metadata=dataclasses.replace(stated, plugins={BACKBONE: "0" * 64})
    )
    monkeypatch.setattr("segfusion_jax.serving.segfusion.open_folder", lambda folder: opened)
    sf.SegFusion.load(run.model, plugins=[BACKBONE])
    assert "examples.convnext:small is not what the model was trained with, by its SHA-256" in caplog.text


def test_hairs_are_drawn_on_the_image_alone():
    image, mask = np.full((64, 96, 3), 200, np.uint8), np.zeros((64, 96), np.uint8)
    drawn, left = hairs.hairs(image, mask, np.random.default_rng(1))
    assert left is mask and 0 < (drawn < 200).any(-1).mean() < 0.3
