import dataclasses
import json
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as sk_metrics

from segfusion_jax.evaluation.calibration import Calibration
from segfusion_jax.input import decode
from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.stages import figures
from segfusion_jax.pipeline.stages.metrics import main_table
from segfusion_jax.pipeline.stages.predicted import Predicted
from segfusion_jax.report import plots
from tests import tiny

SECTIONS = {
    "classification": (
        "accuracy precision recall f1 mcc roc_auc pr_auc partial_auc balanced_accuracy sensitivity specificity brier "
        "log_loss ece prevalence threshold n groups"
    ),
    "uncalibrated": "brier log_loss ece",
    "segmentation": (
        "dice jaccard thresholded_jaccard sensitivity specificity accuracy boundary_iou hausdorff_95 "
        "hausdorff_95_diagonal surface_distance surface_distance_diagonal failure_rate zero_rate n groups"
    ),
    "explanation": "inside_share area_share excess n places",
    "validation": "roc_auc n",
    "novelty": "flagged kept n",
}
DRAWINGS = (
    "roc_curve pr_curve decision_curve reliability confusion_matrix probabilities training_curves_classifier "
    "training_curves_unet_0 training_curves_unet_1 training_curves_unet_2"
).split()
GALLERIES = "overlays_worst overlays_best overlays_random bridge_panels false_negatives grad_cam augmentation".split()


@pytest.fixture(scope="module")
def metrics(finished) -> dict:
    return json.loads((finished / "evaluate/metrics.json").read_text())


@pytest.fixture(scope="module")
def predictions(finished):
    """Rows of the file, labels and probabilities."""
    rows = tiny.table(finished / "evaluate/predictions.csv")
    return rows, np.array([int(r["label"]) for r in rows]), np.array([float(r["probability"]) for r in rows])


def test_metrics_have_their_names_and_intervals(metrics):
    assert set(metrics) == {*SECTIONS, "calibration", "operating_points", "subgroups", "collections"}
    for section, names in SECTIONS.items():
        assert set(metrics[section]) == set(names.split())
        for name, entry in metrics[section].items():
            assert np.isfinite(entry["value"]), name
            if "low" in entry:
                assert entry["low"] < entry["high"], name
    assert all("low" in metrics["classification"][name] for name in ("roc_auc", "pr_auc", "brier", "accuracy"))


def test_operating_points_are_chosen_on_validation_and_achieved_on_test(finished, metrics, predictions):
    validation = tiny.table(finished / "evaluate/validation.csv")
    truth = np.array([line["label"] == "1" for line in validation])
    scores = np.array([float(line["probability"]) for line in validation])
    _, labels, probabilities = predictions
    points = metrics["operating_points"]
    levels = [(aim, level) for aim in ("sensitivity", "specificity") for level in (0.8, 0.9, 0.95)]
    assert [(point["aim"], point["level"]) for point in points] == levels
    for point in points:
        called = scores >= point["threshold"]
        reached = {"sensitivity": called[truth].mean(), "specificity": (~called[~truth]).mean()}
        assert reached[point["aim"]] >= point["level"]
        called = probabilities >= point["threshold"]
        assert point["sensitivity"]["value"] == pytest.approx(called[labels == 1].mean())
        assert point["specificity"]["value"] == pytest.approx((~called[labels == 0]).mean())
        if called.any():
            assert point["ppv"]["value"] == pytest.approx(labels[called].mean())


def test_probabilities_are_calibrated_on_validation_images(finished, metrics, predictions):
    fitted = metrics["calibration"]
    assert fitted["shift"] == [0.0]
    for name, rows in (("validation", tiny.table(finished / "evaluate/validation.csv")), ("test", predictions[0])):
        splits = tiny.table(finished / "prepare/splits.csv")
        assert [row["image_id"] for row in rows] == [row["image_id"] for row in splits if row["split"] == name]
        logits = np.array([float(row["logit of malignant"]) for row in rows])
        expected = 1 / (1 + np.exp(-logits / fitted["temperature"]))
        np.testing.assert_allclose([float(row["probability"]) for row in rows], expected)
        if name == "validation":
            labels = np.array([int(row["label"]) for row in rows])
            losses = [
                sk_metrics.log_loss(labels, 1 / (1 + np.exp(-logits * c / fitted["temperature"])))
                for c in (0.9, 1, 1.1)
            ]
            assert losses[1] <= min(losses) and fitted["fitted_on"] == len(rows)
            trained = [row["target"] == "1" for row in splits if row["split"] == "train"]
            assert fitted["prevalence"] == pytest.approx(np.mean(trained))


def test_subgroups_add_up_to_all_images(metrics, predictions):
    facts = {subgroup["fact"] for subgroup in metrics["subgroups"]}
    assert {"age", "sex", "site"} <= facts
    for fact in facts:
        members = [subgroup for subgroup in metrics["subgroups"] if subgroup["fact"] == fact]
        assert sum(subgroup["n"] for subgroup in members) == len(predictions[0])
        assert sum(subgroup["positives"] for subgroup in members) == predictions[1].sum()
        assert all(subgroup["withheld"] == (subgroup["n"] < 50) for subgroup in members)


def test_predictions_are_those_of_exactly_the_test_images(finished, predictions):
    header = (finished / "evaluate/predictions.csv").read_text().splitlines()[0]
    assert header == "image_id,group,label,probability,fallback,logit of malignant"
    expected = [row for row in tiny.table(finished / "prepare/splits.csv") if row["split"] == "test"]
    rows, _, probabilities = predictions
    assert [(r["image_id"], r["group"], r["label"]) for r in rows] == [
        (row["image_id"], row["group"], row["target"]) for row in expected
    ]
    assert ((probabilities >= 0) & (probabilities <= 1)).all() and len(np.unique(probabilities)) > 5


def test_metrics_are_those_of_the_predictions(metrics, predictions):
    _, labels, probabilities = predictions
    values = {name: entry["value"] for name, entry in metrics["classification"].items()}
    decisions = probabilities >= values["threshold"]
    assert values["roc_auc"] == pytest.approx(sk_metrics.roc_auc_score(labels, probabilities), abs=0.01)
    assert values["pr_auc"] == pytest.approx(sk_metrics.average_precision_score(labels, probabilities), abs=0.01)
    assert values["mcc"] == pytest.approx(sk_metrics.matthews_corrcoef(labels, decisions), abs=1e-6)
    assert values["accuracy"] == pytest.approx((decisions == labels).mean())
    assert values["recall"] == values["sensitivity"] == pytest.approx(decisions[labels == 1].mean())
    assert values["specificity"] == pytest.approx((~decisions[labels == 0]).mean())
    assert values["n"] == len(labels) and values["prevalence"] == pytest.approx(labels.mean())


def test_masks_are_scored_one_by_one_at_the_annotations_resolution(finished, metrics):
    rows = {row.image_id: row for row in Run(tiny.BASE, finished).prepared.rows}
    scores = tiny.table(finished / "score/segmentation.csv")
    assert [line["image_id"] for line in scores] == [i for i, row in rows.items() if row.split == "test"]
    for name in ("dice", "jaccard", "thresholded_jaccard", "sensitivity", "specificity", "accuracy"):
        values = [float(line[name]) for line in scores]
        assert metrics["segmentation"][name]["value"] == pytest.approx(np.mean(values), abs=1e-5)
    assert metrics["segmentation"]["n"]["value"] == len(scores)
    # true pixels counted in whole: sensitivity x lesion is a whole number at 192 x 144 and hardly ever at 32 x 16
    prepared = Run(tiny.BASE, finished).prepared
    for line in scores:
        lesion = int((decode.decode_mask(prepared.read(rows[line["image_id"]].position)[1]) > 128).sum())
        hits = float(line["sensitivity"]) * lesion
        assert abs(hits - round(hits)) < 0.01 + 1e-6 * lesion


def test_the_lesion_that_evidence_is_held_against_is_the_mask_at_its_threshold(finished, metrics):
    run = Run(tiny.BASE, finished)
    source = run.bridged(run.split.classified("test"))
    areas = [(source[place]["mask"] >= 255 * tiny.BASE.bridge.threshold).mean() for place in range(len(source))]
    assert metrics["explanation"]["area_share"]["value"] == pytest.approx(np.mean(areas))


def test_figures_are_there_and_can_be_decoded(finished):
    paths = sorted((finished / "evaluate/figures").iterdir())
    assert {path.name for path in paths} - {"false_negatives.png"} == {
        *(f"{name}.{kind}" for name in DRAWINGS for kind in ("png", "svg")),
        *(f"{name}.png" for name in GALLERIES if name != "false_negatives"),
    }
    for path in paths:
        if path.suffix == ".svg":
            assert ElementTree.parse(path).getroot().tag.endswith("svg")
            continue
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L"))
        assert min(pixels.shape) > 100 and pixels.std() > 5


def test_test_images_of_one_group_are_drawn_without_bands(finished, tmp_path):
    run = Run(tiny.BASE, finished)
    rows = tuple(dataclasses.replace(row, group="one") for row in run.split.classified("test"))
    logits = np.linspace(-1, 1, len(rows))[:, None]
    test = Predicted(rows, logits, Calibration(), run.classes, (0.8, 0.2))
    judged = plots.Judged(test.labels, test.malignancy, 0.5, test.groups, 100)
    figures.draw_scores(tmp_path, judged, ("benign", "malignant"), [], uncalibrated=test.uncalibrated)
    assert {path.stem for path in tmp_path.glob("*.png")} == {"confusion_matrix", "probabilities", "reliability"}


def test_the_table_shows_the_metrics(metrics):
    text = main_table(metrics)
    for section, name in (("classification", "roc_auc"), ("segmentation", "dice")):
        assert f"{metrics[section][name]['value']:.3f}" in text
