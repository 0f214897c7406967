"""`segfusion evaluate` with a tiny model: on its own collection, of which only its test images may count."""

import contextlib
import dataclasses
import io
import json
from unittest import mock

import numpy as np
import pytest

from segfusion_jax.commands import evaluate
from segfusion_jax.config import Config, Data
from segfusion_jax.datasets import table
from segfusion_jax.evaluation import segmentation
from segfusion_jax.input.mask_store import MaskRow
from segfusion_jax.pipeline import external
from segfusion_jax.serving.ensembles import Classes
from tests import tiny
from tests.datasets.rows import row
from tests.report.html_page import HtmlPage


@pytest.fixture(scope="module")
def judged(finished, model, parse, tmp_path_factory):
    """The folder that the command writes, beside `records`, and what it prints."""
    folder = tmp_path_factory.mktemp("judged")
    words = ("evaluate", "--model", finished, "--collection", "synthetic", "--resamples", 200)
    loaded = mock.patch.object(evaluate.SegFusion, "load", lambda folder, **_: model)
    with loaded, contextlib.redirect_stdout(io.StringIO()) as printed:
        assert evaluate.run(parse(*words, "--records", folder / "records", "--output", folder / "out")) == 0
    return folder / "out", printed.getvalue()


def test_of_its_own_collection_only_the_test_images_count_and_say_what_the_run_said(finished, judged):
    folder, _ = judged
    for name, stage in (("predictions", "evaluate"), ("segmentation", "score")):
        ours, theirs = tiny.table(folder / f"{name}.csv"), tiny.table(finished / stage / f"{name}.csv")
        assert [r["image_id"] for r in ours] == [r["image_id"] for r in theirs]
        assert [r["group"] for r in ours] == [r["group"] for r in theirs]
        for column in ("label", "probability") if name == "predictions" else ("dice", "jaccard", "hausdorff_95"):
            pairs = np.array([[float(r[column]) for r in rows] for rows in (ours, theirs)])
            np.testing.assert_allclose(*pairs, rtol=0.01, atol=0.002)  # weights are float16 here
    metrics, run = (json.loads((path / "metrics.json").read_text()) for path in (folder, finished / "evaluate"))
    for section, name in (
        ("classification", "roc_auc"),
        ("classification", "n"),
        ("segmentation", "dice"),
        ("novelty", "flagged"),
    ):
        assert metrics[section][name]["value"] == pytest.approx(run[section][name]["value"], abs=0.02)
    assert metrics["classification"]["threshold"] == run["classification"]["threshold"]
    thresholds = [[point["threshold"] for point in one["operating_points"]] for one in (metrics, run)]
    assert thresholds[0] == thresholds[1]
    counts = [row["split"] for row in tiny.table(finished / "prepare/splits.csv")]
    assert metrics["left_out"] == {"same id": counts.count("train") + counts.count("validation")}


def test_what_is_printed_says_what_was_judged(judged):
    folder, printed = judged
    metrics = json.loads((folder / "metrics.json").read_text())
    n = int(metrics["classification"]["n"]["value"])
    assert f"synthetic lesions: {n} images" in printed
    assert f"{80 - n} more were left out: the model has seen them or relatives" in printed
    assert f"called malignant by the labels: melanoma {metrics['target']['malignant']['melanoma']}\n" in printed
    assert f"unlike the model's training images: {metrics['novelty']['flagged']['value']:.1%} (" in printed
    assert f"{metrics['classification']['roc_auc']['value']:.3f}" in printed and "Dice" in printed
    assert printed.count("Research use only") == 1


def test_a_collection_that_was_seen_in_whole_is_refused(finished, judged, model, parse, tmp_path, monkeypatch):
    parts = [part._replace(split="train") for part in table.read_parts(finished / "model/split.csv")]
    monkeypatch.setattr(table, "read_parts", lambda path: parts)
    monkeypatch.setattr(evaluate.SegFusion, "load", lambda folder, **_: model)
    words = ("--model", finished, "--collection", "synthetic", "--records", judged[0].parent / "records")
    with pytest.raises(ValueError, match="synthetic lesions: no image .* is left .*80 same id"):
        evaluate.run(parse("evaluate", *words, "--output", tmp_path / "o"))
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("wrong", [("--resamples", 0), ("--output", __file__)])
def test_wrong_options_are_refused_before_the_work(parse, tmp_path, wrong):
    words = ("evaluate", "--model", tmp_path, "--collection", "synthetic", "--output", tmp_path / "o", *wrong)
    with pytest.raises(ValueError, match=f"{wrong[0]} = {wrong[1]}: "):
        evaluate.run(parse(*words))


def test_each_collection_has_its_root_its_title_and_its_folder(parse, tmp_path):
    words = ["evaluate", "--model", tmp_path, "--output", tmp_path / "o", "--group", "patient"]
    three = ["--collection", "image_folder", "--root", "a", "--collection", "isic2017", "--root", "b"]
    found = evaluate._named(parse(*words, *three, "--collection", "image_folder", "--root", "c"))
    own = {"labels": "", "group": "patient"}
    assert found == {
        "image_folder": ("image folder", "image_folder", {"root": "a"} | own),
        "isic2017": ("ISIC 2017", "isic2017", {"root": "b", "labels": "", "group": ""}),
        "image_folder2": ("image folder 2", "image_folder", {"root": "c"} | own),
    }
    for wrong, told in (
        (["--collection", "isic2017", "--collection", "isic2020", "--root", "a"], "2 --collection and 1 --root"),
        (["--collection", "image_folder", "--collection", "image_folder"], "each must stand once"),
        (["--collection", "isic2017"], "--labels and --group say how an image_folder is read"),
    ):
        with pytest.raises(ValueError, match=told):
            evaluate._named(parse(*words, *wrong))


def test_the_page_sets_home_beside_the_collection(finished, judged):
    folder, _ = judged
    text = " ".join(HtmlPage((folder / "index.html").read_text()).text.split())
    home = json.loads((finished / "model/metadata.json").read_text())["metrics"]["classification"]["roc_auc"]["value"]
    assert f"synthetic lesions, at home 20 {home:.3f}" in text
    assert "Classification" in text and "What this page contains" in text
    figures = {path.stem for path in (folder / "figures").glob("*.png")}
    assert figures >= {"elsewhere", "roc_curve", "reliability", "overlays_worst"}


MASKS = {row(number).image_id: MaskRow(row(number).image_id, "0", 0.2, "") for number in range(10)}


def classified(sides, targets, probabilities, melanomas=()) -> external.Classified:
    rows = tuple(row(number) for number, _ in enumerate(sides))
    labels = np.array(sides), np.array(targets), np.array(melanomas or [-1] * len(rows))
    return external.Classified(rows, probabilities[:, 1:].sum(axis=1), probabilities, *labels)


def test_diagnoses_are_judged_where_they_are_among_the_models():
    model = mock.Mock(threshold=0.5, classes=("nevus", "melanoma", "bcc"), config=Config())
    model.classifiers.classes = Classes(model.classes, (False, True, True), 3)
    probabilities = np.array([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8], [0.9, 0.1, 0.0]])
    found = classified([0, 1, 1, 1, 0], [0, 1, 1, -1, -1], probabilities)
    stated = mock.Mock(operating_points=(), shares=(0.3, 0.6, 0.1))  # of them all, nevus becomes likelier
    metrics = external.measure(model, found, [], stated, MASKS, resamples=100)
    assert metrics["diagnosis"]["n"]["value"] == 3
    assert metrics["diagnosis"]["balanced_accuracy"]["value"] == pytest.approx((1 + 0.5) / 2)
    assert metrics["diagnosis_equal_shares"]["balanced_accuracy"]["value"] == pytest.approx(0.5)  # 0.5 / 0.3, 0.6 / 0.6
    assert metrics["confusion"]["melanoma"] == {"nevus": 1, "melanoma": 1, "bcc": 0}
    assert metrics["classification"]["n"]["value"] == 5
    assert metrics["classification"]["sensitivity"]["value"] == pytest.approx(2 / 3)
    assert "segmentation" not in metrics


def test_melanoma_is_ranked_by_its_own_probability():
    model = mock.Mock(threshold=0.5, classes=("nevus", "melanoma", "bcc"), config=Config())
    model.classifiers.classes = Classes(model.classes, (False, True, True), 3)
    probabilities = np.array([[0.6, 0.0, 0.4], [0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.2, 0.1, 0.7]])
    stated = mock.Mock(operating_points=(), shares=(1 / 3,) * 3)
    found = classified([0, 1, 1, 0], [-1, 1, 1, 0], probabilities, [0, 1, 1, 0])
    metrics = external.measure(model, found, [], stated, MASKS, resamples=100)
    assert metrics["classification"]["roc_auc"]["value"] == 0.25  # malignancy: 0.5 beats 0.4, nothing beats 0.8
    assert metrics["melanoma"]["roc_auc"]["value"] == 1.0
    unsaid = classified([-1, 1, 1, 0], [-1, 1, 1, 0], probabilities, [0, 1, -1, -1])
    metrics = external.measure(model, unsaid, [], stated, MASKS, resamples=100)
    assert [metrics[name]["n"]["value"] for name in ("classification", "melanoma", "diagnosis")] == [3, 2, 3]
    none = classified([0, 1, 1, 0], [-1, 1, 1, 0], probabilities)
    assert "melanoma" not in external.measure(model, none, [], stated, MASKS, resamples=100)


def test_labels_of_any_grain_judge_what_they_say():
    """By hand: what each label says of malignancy, of the model's diagnoses, and of melanoma."""
    classes = Classes(("nevus", "melanoma", "basal cell carcinoma", "benign keratosis"), (False, True, True, False), 4)
    expected = {
        ("nevus", 0): (0, 0, 0),
        ("melanoma", 1): (1, 1, 1),
        ("basal cell carcinoma", 1): (1, 2, 0),
        ("seborrheic keratosis", 0): (0, 3, 0),
        ("dermatofibroma", 0): (0, -1, 0),  # none of the classes
        ("", 0): (0, -1, 0),
        ("", 1): (1, -1, -1),
        ("no melanoma", 0): (-1, -1, 0),  # called benign by ISIC 2020, but it may be a carcinoma
        ("benign, not seborrheic keratosis", 0): (0, -1, 0),
    }
    rows = [
        row(number, diagnosis=diagnosis, malignant=malignant, target=malignant)
        for number, (diagnosis, malignant) in enumerate(expected)
    ]
    found = external._among(rows, classes, Data(collection="isic2020"))
    assert list(zip(*map(np.ndarray.tolist, found), strict=True)) == list(expected.values())
    two = Classes(("nevus", "basal cell carcinoma"), (False, True), 2)  # of which no melanoma leaves both possible
    sides, targets, melanomas = external._among(rows[-2:-1], two, Data(collection="isic2020"))
    assert (*sides, *targets, *melanomas) == (-1, -1, 0)


def test_of_one_class_only_the_masks_are_judged():
    model = mock.Mock(threshold=0.5, classes=("benign", "malignant"), config=Config())
    model.classifiers.classes = Classes(model.classes, (False, True), 1)
    found = classified([0, 0], [0, 0], np.array([[0.8, 0.2], [0.3, 0.7]]))
    score = segmentation.score(np.eye(4, dtype=bool), np.eye(4, dtype=bool))
    overlaps = [(one, score) for one in (row(0), dataclasses.replace(row(1), group="other"))]
    metrics = external.measure(model, found, overlaps, mock.Mock(operating_points=()), MASKS, resamples=100)
    assert set(metrics) == {"segmentation"} and metrics["segmentation"]["dice"]["value"] == 1
