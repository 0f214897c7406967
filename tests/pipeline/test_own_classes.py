"""Somebody's own classes, from a folder of drawn images through training, report, release and prediction."""

import json
import shutil

import cv2
import numpy as np
import pytest

import segfusion_jax as sf
from segfusion_jax.commands import evaluate, parser, predict
from segfusion_jax.pipeline import comparison, experiment
from segfusion_jax.pipeline.run import Run
from segfusion_jax.serving import model_folder
from tests import shallow, tiny

COLOURS = {"cat_a": (200, 60, 60), "cat_b": (60, 200, 60), "cat_c": (60, 60, 200)}
MEDICAL = ("malignan", "benign", "diagnos", "melanoma")
"""What nobody has said of these images."""


def draw(folder, each: int = 16, seed: int = 0):
    """Images of one colour a class, which differ by noise."""
    rng = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(each):
            pixels = np.clip(rng.normal(colour, 50, (32, 32, 3)), 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / name / f"{folder.name}_{name}_{number}.png"), pixels[..., ::-1])
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("images") / "cats")


def config(images, **overrides):
    return tiny.config(
        "image_folder",
        data__root=str(images),
        data__classes="cat_a,cat_b,cat_c",
        bridge__mode="none",
        classifier__training__epochs=3,
        evaluation__resamples=100,
        **overrides,
    )


@pytest.fixture(scope="module")
def told_apart(images, tmp_path_factory):
    """The workdir of a run none of whose classes is looked for."""
    workdir = tmp_path_factory.mktemp("told") / "workdir"
    with pytest.MonkeyPatch.context() as patch:
        shallow.patch(patch.setattr)
        experiment.run(config(images), workdir)
        yield workdir


@pytest.fixture(scope="module")
def model(told_apart) -> sf.SegFusion:
    return sf.SegFusion.load(told_apart)


@pytest.fixture(scope="module")
def sought(told_apart, tmp_path_factory) -> sf.SegFusion:
    """The same model, released with one class that is looked for."""
    folder = shutil.copytree(told_apart / "model", tmp_path_factory.mktemp("sought") / "model")
    metadata = json.loads((folder / "metadata.json").read_text())
    metadata["config"]["data"]["positive"] = "cat_b"
    metadata |= {"positive": ["cat_b"], "threshold": 0.4, "prevalence": 1 / 3}
    (folder / "metadata.json").write_text(json.dumps(metadata))
    model_folder.write_manifest(folder)
    return sf.SegFusion.load(folder)


def test_metrics_speak_of_the_classes_and_of_no_malignancy(told_apart):
    metrics = json.loads((told_apart / "evaluate/metrics.json").read_text())
    assert list(metrics["confusion"]) == list(metrics["classes"]) == list(COLOURS)
    rows = tiny.table(told_apart / "evaluate/predictions.csv")
    assert {row["label"] for row in rows} == set(COLOURS)
    right = np.mean([row["label"] == row["decision"] for row in rows])
    assert metrics["diagnosis"]["accuracy"]["value"] == pytest.approx(right)
    assert all(max(COLOURS, key=lambda name: float(row[name])) == row["decision"] for row in rows)
    losses = [-np.log(float(row[row["label"]])) for row in rows]
    assert metrics["probabilities"]["log_loss"]["value"] == pytest.approx(np.mean(losses))
    assert not {"classification", "operating_points", "subgroups", "melanoma"} & set(metrics)
    assert "prevalence" not in metrics["calibration"] and list(metrics["calibration"]["shares"]) == list(COLOURS)


def test_the_page_speaks_in_these_names(told_apart):
    page = (told_apart / "report/summary.md").read_text().replace("\\", "")
    assert "cat_a, cat_b, cat_c told apart on 12 held-out images" in page and "| cat_c | " in page
    assert not [word for word in MEDICAL if word in page.lower()]


def test_predict_names_a_class_and_no_probability_of_malignancy(told_apart, images, tmp_path):
    one = images / "cat_a" / "cats_cat_a_0.png"
    words = ["predict", "--model", told_apart, "--output", tmp_path / "said", one]
    assert predict.run(parser.parse([str(word) for word in words])) == 0
    (row,) = tiny.table(tmp_path / "said/predictions.csv")
    shares = {name: float(row[f"probability of {name}"]) for name in COLOURS}
    assert row["decision"] == max(shares, key=shares.__getitem__) and sum(shares.values()) == pytest.approx(1, abs=1e-5)
    assert "probability" not in row
    page = (tmp_path / "said/index.html").read_text()
    assert f"called {row['decision']}" in page and f"Probability of {row['decision']}." in page
    assert not [word for word in MEDICAL if word in page.lower()]
    with pytest.raises(ValueError, match=r"--prevalence: leave it out.*cat_a, cat_b, cat_c"):
        predict.run(parser.parse([*map(str, words), "--prevalence", "0.1"]))


def test_a_prediction_has_no_side(model, images):
    (said,) = model.predict([images / "cat_b" / "cats_cat_b_1.png"], explain=True)
    assert (said.probability, said.malignant) == (None, None) and model.decision(said) == said.most_probable
    assert said.evidence is not None and np.isfinite(said.evidence).all()
    with pytest.raises(ValueError, match="looked for"):
        model.predict([images / "cat_b" / "cats_cat_b_1.png"], prevalence=0.5)


def test_a_class_that_is_looked_for_gives_sides_of_these_names(model, sought, images):
    paths = [images / name / f"cats_{name}_2.png" for name in COLOURS]
    plain, sided = model.predict(paths), sought.predict(paths)
    for before, after in zip(plain, sided, strict=True):
        assert after.probability == pytest.approx(before.probabilities["cat_b"])
        assert sought.decision(after) == ("cat_b" if after.probability >= 0.4 else "not cat_b")
    (shifted,) = sought.predict(paths[:1], prevalence=0.9)
    odds = 9 / (0.5) * plain[0].probabilities["cat_b"] / (1 - plain[0].probabilities["cat_b"])
    assert shifted.probability == pytest.approx(odds / (1 + odds))


def test_a_release_whose_classes_are_not_its_configs_is_refused(told_apart, tmp_path):
    folder = shutil.copytree(told_apart / "model", tmp_path / "model")
    metadata = json.loads((folder / "metadata.json").read_text())
    (folder / "metadata.json").write_text(json.dumps(metadata | {"classes": ["cat_a", "cat_b", "dog"]}))
    with pytest.raises(ValueError, match="must be those of config.data"):
        model_folder.read_metadata(folder)


def test_evaluate_judges_a_model_by_the_same_names(told_apart, tmp_path, capsys):
    other = draw(tmp_path / "others", each=3, seed=1)
    words = ["evaluate", "--model", told_apart, "--collection", "image_folder", "--root", other]
    words += ["--output", tmp_path / "judged", "--records", tmp_path / "records", "--resamples", 100]
    assert evaluate.run(parser.parse([str(word) for word in words])) == 0
    metrics = json.loads((tmp_path / "judged/metrics.json").read_text())
    assert metrics["target"] == {name: {name: 3} for name in COLOURS} and list(metrics["classes"]) == list(COLOURS)
    rows = tiny.table(tmp_path / "judged/predictions.csv")
    right = np.mean([row["label"] == row["decision"] for row in rows])
    assert metrics["diagnosis"]["accuracy"]["value"] == pytest.approx(right)
    assert not [word for word in ("malignan", "benign", "melanoma") if word in capsys.readouterr().out]


def test_runs_without_sides_are_not_compared_by_decisions(told_apart):
    with pytest.raises(ValueError, match=r"data.positive = '': must name those of data.classes"):
        comparison.read(Run.open(told_apart))
