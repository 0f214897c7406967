import json

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as sk_metrics

from segfusion_jax.input import decode
from segfusion_jax.stages.evaluate import metrics_table
from segfusion_jax.stages.workdir import load_prepared
from tests import tiny

CLASSIFICATION = (
    "accuracy precision recall f1 mcc roc_auc pr_auc balanced_accuracy sensitivity specificity threshold n prevalence"
).split()
SEGMENTATION = "dice jaccard thresholded_jaccard sensitivity specificity accuracy n".split()
FIGURES = (
    "roc_curve pr_curve confusion_matrix probabilities segmentation_overlays bridge_panels augmentation "
    "training_curves_classifier training_curves_unet_0 training_curves_unet_1 training_curves_unet_2"
).split()


@pytest.fixture(scope="module")
def metrics(finished) -> dict:
    return json.loads((finished / "evaluation/metrics.json").read_text())


@pytest.fixture(scope="module")
def predictions(finished):
    """Rows of the file, labels and probabilities."""
    rows = tiny.table(finished / "evaluation/predictions.csv")
    return rows, np.array([int(r["label"]) for r in rows]), np.array([float(r["probability"]) for r in rows])


def test_metrics_have_their_names_and_intervals(metrics):
    assert set(metrics) == {"segmentation", "classification"}
    assert set(CLASSIFICATION) <= set(metrics["classification"]) and set(SEGMENTATION) <= set(metrics["segmentation"])
    for section in metrics.values():
        for name, entry in section.items():
            assert isinstance(entry["value"], float) and np.isfinite(entry["value"]), name
            if name not in ("n", "threshold"):
                assert entry["low"] <= entry["high"], name


def test_predictions_are_those_of_exactly_the_test_images(finished, predictions):
    header = (finished / "evaluation/predictions.csv").read_text().splitlines()[0]
    assert header == "image_id,group,label,probability"
    expected = [row for row in tiny.table(finished / "splits/splits.csv") if row["split"] == "test"]
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
    rows = {row.image_id: row for row in load_prepared(tiny.BASE, finished).rows}
    scores = tiny.table(finished / "evaluation/segmentation.csv")
    assert [line["image_id"] for line in scores] == [i for i, row in rows.items() if row.split == "test"]
    for name in ("dice", "jaccard", "thresholded_jaccard", "sensitivity", "specificity", "accuracy"):
        values = [float(line[name]) for line in scores]
        assert metrics["segmentation"][name]["value"] == pytest.approx(np.mean(values), abs=1e-5)
    assert metrics["segmentation"]["n"]["value"] == len(scores)
    # true pixels counted in whole: sensitivity x lesion is a whole number at 192 x 144 and hardly ever at 32 x 16
    prepared = load_prepared(tiny.BASE, finished)
    for line in scores:
        lesion = int((decode.decode_mask(prepared.read(rows[line["image_id"]].position)[1]) > 128).sum())
        hits = float(line["sensitivity"]) * lesion
        assert abs(hits - round(hits)) < 0.01 + 1e-6 * lesion


def test_figures_are_there_and_can_be_decoded(finished):
    paths = {path.stem: path for path in (finished / "evaluation/figures").iterdir()}
    assert set(paths) == set(FIGURES)
    for path in paths.values():
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L"))
        assert path.suffix == ".png" and min(pixels.shape) > 100 and pixels.std() > 5


def test_the_table_shows_the_metrics(finished, metrics):
    text = metrics_table(finished)
    for section, name in (("classification", "roc_auc"), ("segmentation", "dice")):
        assert f"{metrics[section][name]['value']:.3f}" in text
