import dataclasses
import hashlib
import json
import re

import numpy as np
import pytest
import safetensors.numpy

from segfusion_jax.config import Config
from segfusion_jax.datasets import splits
from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.stages import report
from segfusion_jax.pipeline.stages.release import release
from tests import tiny
from tests.report import sample
from tests.report.html_page import HtmlPage


@pytest.fixture(scope="module")
def page(finished) -> HtmlPage:
    return HtmlPage((finished / "report/index.html").read_text())


def test_the_page_loads_nothing(finished, page):
    pictures = [value for value in page.loaded if value.startswith("data:image/png;base64,")]
    assert len(pictures) == len(list((finished / "evaluate/figures").glob("*.png")))
    assert all(value.startswith(("data:", "#")) for value in page.loaded)
    assert not {"iframe", "object", "embed"} & set(page.tags)


def test_the_page_says_what_was_measured(finished, page):
    metrics = json.loads((finished / "evaluate/metrics.json").read_text())
    audit = json.loads((finished / "prepare/audit.json").read_text())
    for section, name in (("classification", "roc_auc"), ("classification", "mcc"), ("segmentation", "jaccard")):
        assert f"{metrics[section][name]['value']:.3f}" in page.text
    for split in ("train", "validation", "test"):
        assert str(audit["splits"][split]["images"]) in page.text
    assert "drawn by a program" in page.text and '"mode": "dim"' in page.text


def test_fall_backs_are_counted(finished, page):
    masks = tiny.table(finished / "bridge/masks.csv")
    fallbacks = sum(bool(mask["fallback"]) for mask in masks)
    assert fallbacks and f"{fallbacks} of {len(masks)} images had no usable mask" in page.text


def test_failures_are_listed_missed_malignant_ones_first(finished, page):
    metrics = json.loads((finished / "evaluate/metrics.json").read_text())
    threshold = metrics["classification"]["threshold"]["value"]
    rows = tiny.table(finished / "evaluate/predictions.csv")
    missed, alarms = (
        [
            r["image_id"]
            for r in rows
            if r["label"] == label and (float(r["probability"]) >= threshold) == (label == "0")
        ]
        for label in "10"
    )
    (rows,) = re.findall(r"Misclassified<.*?</table>", page.source, re.DOTALL)
    shown = re.findall(r'<th scope="row">(SYN_\d+)</th>', rows)
    assert shown and len(shown) == min(50, len(missed + alarms))
    assert set(shown[: len(missed)]) == set(missed[:50])


def test_the_summary_says_the_same(finished, page):
    use, title, verdict, sample_line, *_ = (finished / "report/summary.md").read_text().split("\n\n")
    assert (use, title) == ("**Research use only. Not a medical device.**", "# SegFusion on synthetic lesions")
    assert " ".join([verdict, sample_line]) in page.text
    assert "drawn by a program" in (finished / "report/summary.md").read_text()


@pytest.fixture(scope="module")
def metadata(finished) -> dict:
    return json.loads((finished / "model/metadata.json").read_text())


def test_the_model_folder_is_complete(finished, metadata):
    folder = finished / "model"
    assert {path.name for path in folder.iterdir()} == {
        "manifest.json",
        "metadata.json",
        "novelty.safetensors",
        "split.csv",
        *metadata["classifiers"],
        *metadata["unets"],
    }
    assert Config.from_json(json.dumps(metadata["config"])) == tiny.BASE
    assert metadata["test_time_augmentation"] == {"segmenter": 1, "classifier": 1}
    assert metadata["threshold"] == metadata["metrics"]["classification"]["threshold"]["value"]
    assert (folder / "novelty.safetensors").read_bytes() == (finished / "evaluate/novelty.safetensors").read_bytes()


def test_released_kernels_are_float16_and_all_else_is_float32(finished, metadata):
    trained = {name: f"segment/fold_{fold}" for fold, name in enumerate(metadata["unets"])}
    for name, source in (trained | {"classifier.safetensors": "classify"}).items():
        before = safetensors.numpy.load_file(finished / source / "weights.safetensors")
        after = safetensors.numpy.load_file(finished / "model" / name)
        assert before.keys() == after.keys() and {array.dtype for array in before.values()} == {np.dtype("f4")}
        assert all((after[key].dtype == np.float16) == (array.ndim > 1) for key, array in before.items())
        for key, array in before.items():
            np.testing.assert_allclose(after[key], array, rtol=2**-11 if array.ndim > 1 else 0, atol=1e-7)


def test_what_must_be_known_of_a_model_travels_with_it(finished, metadata):
    assert metadata["data"] == [
        {"collection": "synthetic", "title": "synthetic lesions", "licence": "none needed"}
        | {"address": "drawn by segfusion_jax.datasets.collections.synthetic; nothing to download"}
    ]
    sizes = {name: tuple(stated["image_size"]) for name, stated in metadata["preprocessing"].items()}
    assert sizes == dict.fromkeys(metadata["unets"], (16, 32)) | {"classifier.safetensors": (32, 32)}
    assert metadata["preprocessing"]["classifier.safetensors"]["mean"] == [0.485, 0.456, 0.406]
    assert metadata["pretrained"] == {}
    assert metadata["versions"] == json.loads((finished / "config.json").read_text())["versions"]
    stages = {"prepare", "segment", "score", "bridge", "classify", "evaluate"}
    assert set(metadata["training"]["seconds"]) == stages
    rows = tiny.table(finished / "prepare/splits.csv")
    train = [row for row in rows if row["split"] == "train"]
    assert metadata["training"]["splits"]["train"] == {"images": len(train), "groups": len({r["group"] for r in train})}
    assert {row["image_id"]: row["split"] for row in tiny.table(finished / "model/split.csv")} == {
        row["image_id"]: row["split"] for row in rows
    }
    lines = sorted(f"{row['image_id']} {row['split']}" for row in rows)
    assert metadata["split_sha256"] == hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_a_released_split_can_be_trained_on_again(finished):
    rows = Run(tiny.BASE, finished).prepared.rows
    bare = [dataclasses.replace(row, split="", fold=-1) for row in rows]
    again = splits.deal(bare, dataclasses.replace(tiny.BASE.splits, seed=5, table=str(finished / "model/split.csv")))
    assert [(row.split, row.fold) for row in again] == [(row.split, row.fold) for row in rows]


def test_paths_of_this_machine_are_not_released_but_what_was_there_is(tmp_path, monkeypatch):
    workdir = sample.workdir(tmp_path)
    weights = tmp_path / "somewhere" / "b0.npz"
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    values = sample.config()
    data = dataclasses.replace(values.data, root="/secret/data", records="/secret/records")
    classifier = dataclasses.replace(values.classifier, pretrained=str(weights))
    values = dataclasses.replace(values, data=data, classifier=classifier)
    release(Run(values, workdir), sample.metrics())
    text = (workdir / "model/metadata.json").read_text()
    assert "secret" not in text and str(tmp_path) not in text
    metadata = json.loads(text)
    assert metadata["config"]["classifier"]["pretrained"] == "b0.npz"
    digest = "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c"
    assert metadata["pretrained"] == {"classifier": {"file": "b0.npz", "sha256": digest}}
    assert metadata["data"][0]["licence"] == "CC BY-NC 4.0"


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    """The workdir of a run with everything that a report can show."""
    workdir = sample.workdir(tmp_path_factory.mktemp("ensemble"))
    report.report(Run(sample.config(), workdir))
    return workdir


def test_a_released_ensemble_has_all_its_classifiers_and_its_calibration(ensemble):
    metadata = json.loads((ensemble / "model/metadata.json").read_text())
    assert metadata["classifiers"] == [f"classifier_{fold}.safetensors" for fold in range(3)]
    for kind, conventions in (("classifiers", "classify"), ("unets", "segment")):
        for fold, name in enumerate(metadata[kind]):
            with safetensors.safe_open(ensemble / "model" / name, "numpy") as file:
                assert json.loads(file.metadata()["segfusion_jax"])["conventions"] == conventions
                assert (file.get_tensor("kernel") == fold).all()
            assert metadata["preprocessing"][name]["mean"] == [fold] * 3
    calibration = {name: metadata[name] for name in ("temperature", "shift", "prevalence")}
    assert calibration == {"temperature": 1.73, "shift": [0.1, -0.2, 0.05], "prevalence": 0.194}
    assert metadata["test_time_augmentation"] == {"segmenter": 1, "classifier": 8}


def test_the_page_is_of_what_lies_in_the_workdir(ensemble):
    shown = HtmlPage((ensemble / "report/index.html").read_text()).text
    for text in ("SegFusion on HAM10000", "3 of 10 images had no usable mask", "jax 0.10.2", "ISIC_0024311"):
        assert text in shown
    assert "https://doi.org/10.7910/DVN/DBW86T" in shown
