"""A run that tells diagnoses apart, from the tables to the released model."""

import json
import shutil

import numpy as np
import pytest
import safetensors.numpy
from sklearn import metrics as sk_metrics

from segfusion_jax.config import Config
from segfusion_jax.input import decode
from segfusion_jax.pipeline import experiment
from segfusion_jax.pipeline.run import Run
from segfusion_jax.serving.ensembles import class_probabilities
from segfusion_jax.serving.segfusion import SegFusion
from tests import tiny

CLASSES = ["melanoma", "nevus"]


def changed(**fields) -> Config:
    values = tiny.BASE.to_config_dict()
    values.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
    return Config.from_config_dict(values)


CONFIG = changed(
    data__target="diagnosis",
    classifier__loss="focal",
    classifier__class_weights="balanced",
    classifier__frozen_epochs=0,
    classifier__training__epochs=3,
    classifier__training__learning_rate=1e-2,
)


@pytest.fixture(scope="module")
def diagnosing(finished, tmp_path_factory):
    """The workdir of a run with CONFIG, which takes over the U-Nets of `finished`."""
    workdir = shutil.copytree(finished, tmp_path_factory.mktemp("diagnosing") / "workdir")
    for folder in ("bridge", "classify", "evaluate", "report", "model"):
        shutil.rmtree(workdir / folder)
    for marker in workdir.glob("*/done.json"):
        marker.unlink()
    settings = json.loads((workdir / "config.json").read_text())  # as if it had been stopped after its U-Nets
    settings["config"] = json.loads(CONFIG.to_json())
    (workdir / "config.json").write_text(json.dumps(settings))
    experiment.run(CONFIG, workdir)
    return workdir


@pytest.fixture(scope="module")
def predictions(diagnosing) -> list[dict[str, str]]:
    return tiny.table(diagnosing / "evaluate/predictions.csv")


def test_the_network_has_one_logit_a_class(diagnosing, finished):
    heads = [
        safetensors.numpy.load_file(workdir / "classify/weights.safetensors")["head.bias"]
        for workdir in (diagnosing, finished)
    ]
    assert [head.shape for head in heads] == [(2,), (1,)]
    assert heads[0][0] != heads[0][1]


def test_predictions_have_the_diagnosis_and_every_class(diagnosing, predictions):
    rows = {row["image_id"]: row for row in tiny.table(diagnosing / "prepare/splits.csv") if row["split"] == "test"}
    assert [line["image_id"] for line in predictions] == list(rows)
    columns = ["image_id", "group", "label", "probability", "fallback", *(f"logit of {name}" for name in CLASSES)]
    assert list(predictions[0]) == [*columns, "diagnosis", *CLASSES]
    for line in predictions:
        row = rows[line["image_id"]]
        assert line["diagnosis"] == row["diagnosis"] == CLASSES[int(row["target"])]
        assert line["label"] == row["malignant"]
        assert float(line["melanoma"]) == pytest.approx(float(line["probability"]), abs=1e-6)
        assert float(line["melanoma"]) + float(line["nevus"]) == pytest.approx(1.0)
    assert {line["label"] for line in predictions} == {"0", "1"}
    assert (
        np.ptp([float(line["logit of melanoma"]) for line in predictions]) > 1e-3
    )  # else any order of classes would pass


def test_metrics_are_those_of_the_predictions(diagnosing, predictions):
    metrics = json.loads((diagnosing / "evaluate/metrics.json").read_text())
    named = [max(CLASSES, key=lambda name: float(line[name])) for line in predictions]
    true = [line["diagnosis"] for line in predictions]
    expected = sk_metrics.balanced_accuracy_score(true, named)
    assert metrics["diagnosis"]["balanced_accuracy"]["value"] == pytest.approx(expected)
    assert metrics["diagnosis"]["n"]["value"] == len(predictions)
    rows = tiny.table(diagnosing / "prepare/splits.csv")
    trained = [row["diagnosis"] for row in rows if row["split"] == "train"]
    shares = {name: trained.count(name) / len(trained) for name in CLASSES}
    rarest_first = [max(CLASSES, key=lambda name: float(line[name]) / shares[name]) for line in predictions]
    expected = sk_metrics.balanced_accuracy_score(true, rarest_first)
    assert metrics["diagnosis_equal_shares"]["balanced_accuracy"]["value"] == pytest.approx(expected)
    assert metrics["calibration"]["shares"] == pytest.approx(shares)
    pairs = list(zip(true, named, strict=True))
    assert metrics["confusion"] == {a: {b: pairs.count((a, b)) for b in CLASSES} for a in CLASSES}
    labels, probabilities = zip(*((int(p["label"]), float(p["probability"])) for p in predictions), strict=True)
    auc = metrics["classification"]["roc_auc"]["value"]
    assert auc == pytest.approx(sk_metrics.roc_auc_score(labels, probabilities))


def test_the_report_and_the_released_model_name_the_classes(diagnosing):
    assert "Balanced accuracy over 2 diagnoses" in (diagnosing / "report/index.html").read_text()
    metadata = json.loads((diagnosing / "model/metadata.json").read_text())
    assert (metadata["classes"], metadata["positive"], metadata["num_logits"]) == (CLASSES, ["melanoma"], 2)


def test_the_released_model_gives_every_class_a_probability(diagnosing, predictions, tmp_path):
    model = SegFusion.load(shutil.copytree(diagnosing / "model", tmp_path / "released"))
    assert model.classes == tuple(CLASSES)
    prepared = Run(CONFIG, diagnosing).prepared
    tests = [row for row in prepared.rows if row.split == "test"]
    found = model.predict([decode.decode_image(prepared.read(row.position)[0]) for row in tests])
    for prediction, line in zip(found, predictions, strict=True):
        assert list(prediction.probabilities) == CLASSES
        for name, probability in prediction.probabilities.items():
            assert probability == pytest.approx(float(line[name]), abs=2e-3)
        assert prediction.probability == pytest.approx(prediction.probabilities["melanoma"], abs=1e-6)
        assert prediction.malignant == (prediction.probability >= model.threshold)


def test_a_model_of_two_sides_gives_both_a_probability(finished):
    model = SegFusion.load(finished)
    (prediction,) = model.predict([np.full((40, 50, 3), 128, np.uint8)])
    assert model.classes == ("benign", "malignant")
    expected = {"benign": 1 - prediction.probability, "malignant": prediction.probability}
    assert prediction.probabilities == pytest.approx(expected, abs=1e-12)


def test_class_probabilities_are_a_sigmoid_or_a_softmax():
    np.testing.assert_allclose(class_probabilities(np.array([np.log(3)])), [0.25, 0.75])
    np.testing.assert_allclose(
        class_probabilities(np.log([[1.0, 2, 5], [3, 3, 2]])), [[0.125, 0.25, 0.625], [0.375, 0.375, 0.25]]
    )


def test_sides_are_named_after_the_target(tmp_path):
    def classes(target: str, names: list[str], **fields):
        (tmp_path / "prepare").mkdir(exist_ok=True)
        (tmp_path / "prepare/audit.json").write_text(json.dumps({"classes": names}))
        return Run(tiny.config(data__target=target, **fields), tmp_path).classes

    assert classes("malignant", ["benign", "malignant"]).binary_names == ("benign", "malignant")
    melanoma = classes("melanoma", ["other", "melanoma"])
    assert (melanoma.binary_names, melanoma.num_logits) == (("other", "melanoma"), 1)
    names = ["melanoma", "actinic keratosis", "nevus"]
    diagnoses = classes("diagnosis", names, data__actinic_keratosis="benign")
    assert (diagnoses.binary_names, diagnoses.num_logits) == (("benign", "malignant"), 3)
    assert diagnoses.positive == (True, False, False)
