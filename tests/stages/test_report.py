import json
import re

import pytest

from segfusion_jax.config import Config
from segfusion_jax.stages import report
from tests import tiny
from tests.evaluation.report import sample
from tests.evaluation.report.html_page import HtmlPage


@pytest.fixture(scope="module")
def page(finished) -> HtmlPage:
    return HtmlPage((finished / "report/index.html").read_text())


def test_the_page_loads_nothing(finished, page):
    pictures = [value for value in page.loaded if value.startswith("data:image/png;base64,")]
    assert len(pictures) == len(list((finished / "evaluation/figures").glob("*.png")))
    assert all(value.startswith(("data:", "#")) for value in page.loaded)
    assert not {"iframe", "object", "embed"} & set(page.tags)


def test_the_page_says_what_was_measured(finished, page):
    metrics = json.loads((finished / "evaluation/metrics.json").read_text())
    audit = json.loads((finished / "splits/audit.json").read_text())
    for section, name in (("classification", "roc_auc"), ("classification", "mcc"), ("segmentation", "jaccard")):
        assert f"{metrics[section][name]['value']:.3f}" in page.text
    for split in ("train", "validation", "test"):
        assert str(audit["splits"][split]["images"]) in page.text
    assert "drawn by a program" in page.text and '"mode": "dim"' in page.text


def test_fall_backs_are_counted(finished, page):
    masks = tiny.table(finished / "masks/masks.csv")
    fallbacks = sum(bool(mask["fallback"]) for mask in masks)
    assert fallbacks and f"{fallbacks} of {len(masks)} images had no usable mask" in page.text


def test_failures_are_listed_missed_malignant_ones_first(finished, page):
    metrics = json.loads((finished / "evaluation/metrics.json").read_text())
    threshold = metrics["classification"]["threshold"]["value"]
    rows = tiny.table(finished / "evaluation/predictions.csv")
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
    title, verdict, sample_line, *_ = (finished / "report/summary.md").read_text().split("\n\n")
    assert title == "# SegFusion on synthetic lesions"
    assert " ".join([verdict, sample_line]) in page.text
    assert "drawn by a program" in (finished / "report/summary.md").read_text()


def test_the_model_folder_is_complete(finished):
    folder = finished / "model"
    metadata = json.loads((folder / "metadata.json").read_text())
    assert {path.name for path in folder.iterdir()} == {
        "metadata.json",
        "novelty.safetensors",
        *metadata["classifiers"],
        *metadata["unets"],
    }
    assert Config.from_json(json.dumps(metadata["config"])) == tiny.BASE
    assert metadata["views"] == {"segmenter": 1, "classifier": 1}
    assert metadata["threshold"] == metadata["metrics"]["classification"]["threshold"]["value"]
    for fold, name in enumerate(metadata["unets"]):
        trained = (finished / f"segmentation/fold_{fold}/weights.safetensors").read_bytes()
        assert (folder / name).read_bytes() == trained
    assert (folder / "novelty.safetensors").read_bytes() == (finished / "evaluation/novelty.safetensors").read_bytes()
    trained = (finished / "classification/weights.safetensors").read_bytes()
    (classifier,) = metadata["classifiers"]
    assert (folder / classifier).read_bytes() == trained


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    """The workdir of a run with everything that a report can show."""
    workdir = sample.workdir(tmp_path_factory.mktemp("ensemble"))
    report.report(sample.config(), workdir)
    return workdir


def test_a_released_ensemble_has_all_its_classifiers_and_its_calibration(ensemble):
    metadata = json.loads((ensemble / "model/metadata.json").read_text())
    assert metadata["classifiers"] == [f"classifier_{fold}.safetensors" for fold in range(3)]
    assert [(ensemble / "model" / name).read_text() for name in metadata["classifiers"]] == [
        "classification 0",
        "classification 1",
        "classification 2",
    ]
    assert [(ensemble / "model" / name).read_text()[:12] for name in metadata["unets"]] == ["segmentation"] * 3
    calibration = {name: metadata[name] for name in ("temperature", "shift", "prevalence")}
    assert calibration == {"temperature": 1.73, "shift": [0.1, -0.2, 0.05], "prevalence": 0.194}
    assert metadata["views"] == {"segmenter": 1, "classifier": 8}


def test_the_page_is_of_what_lies_in_the_workdir(ensemble):
    shown = HtmlPage((ensemble / "report/index.html").read_text()).text
    for text in ("SegFusion on HAM10000", "3 of 10 images had no usable mask", "jax 0.10.2", "ISIC_0024311"):
        assert text in shown
    assert "https://doi.org/10.7910/DVN/DBW86T" in shown
