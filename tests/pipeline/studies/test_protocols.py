"""The same models under a leaking protocol and an honest one."""

import json

import numpy as np
import pytest

from segfusion_jax.pipeline import experiment
from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.studies import protocols, variants
from segfusion_jax.pipeline.studies.variants import changed, with_shared_records
from segfusion_jax.training.trainer import steps_per_epoch
from tests import tiny
from tests.pipeline.studies import fake_runs

NAMES = ["grouped_dim", "grouped_none", "by_image_dim", "paper_dim", "paper_none"]
STRENGTHS = {"grouped": 0.5, "by_image": 2, "paper": 8}


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """The workdir of a study whose models are the better, the more leaks."""
    workdir = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "run", fake_runs.run(lambda config: STRENGTHS[config.splits.protocol]))
        assert protocols.study(tiny.BASE, workdir) == workdir / "index.html"
    return workdir


@pytest.fixture(scope="module")
def found(studied):
    return json.loads((studied / "protocols.json").read_text())


def test_each_protocol_runs_with_and_without_the_bridge(studied, found):
    assert list(found) == NAMES
    assert [(run["protocol"], run["bridge"]) for run in found.values()] == [tuple(n.rsplit("_", 1)) for n in NAMES]


def test_leaks_are_counted(found):
    assert found["grouped_dim"]["leaks"] == {"same picture": 0, "any of these": 0}
    assert found["by_image_dim"]["leaks"]["any of these"] > 0
    assert found["paper_dim"]["leaks"]["same picture"] > 0.9
    assert found["paper_dim"]["prevalence"] == pytest.approx(0.5)


def test_metrics_are_those_at_one_half(studied, found):
    lines = tiny.table(studied / "paper_none/evaluate/predictions.csv")
    right = [(float(line["logit of malignant"]) >= 0) == (line["label"] == "1") for line in lines]
    assert found["paper_none"]["metrics"]["accuracy"]["value"] == pytest.approx(np.mean(right))
    assert found["paper_none"]["n"] == len(lines)


def test_all_train_for_as_many_steps(studied):
    configs = dict(protocols.configs(with_shared_records(tiny.BASE, studied), studied))
    steps = {}
    for name in ("grouped_dim", "by_image_dim", "paper_dim"):
        run = Run(configs[name], studied / name)
        train = run.split.training
        steps[name] = (
            steps_per_epoch(configs[name].classifier.training, [len(rows) for rows in train]),
            steps_per_epoch(configs[name].segmenter.training, [len(rows) for rows in run.split.unet()[0].values()]),
        )
        if name == "paper_dim":
            assert len(train[0]) > 5 * steps["grouped_dim"][0] * configs[name].classifier.training.batch_size
    assert steps["grouped_dim"] == steps["by_image_dim"] == steps["paper_dim"]
    for model in ("segmenter", "classifier"):  # as steps, not as images that happen to be as many
        lengths = {name: getattr(config, model).training.images_per_epoch for name, config in configs.items()}
        assert lengths["by_image_dim"] == lengths["paper_dim"] > 0


def test_the_pages_tell_what_flatters(studied, found):
    for text in ((studied / "summary.md").read_text(), (studied / "index.html").read_text()):
        assert f"ROC-AUC {found['paper_dim']['metrics']['roc_auc']['value']:.3f}" in text
        assert "of test images have a relative in training" in text
        assert "by image, bridge" in text
    assert (studied / "figures/protocols.svg").exists()


def test_what_the_paper_claims_stands_beside(found):
    text = protocols.verdict(found, protocols.PUBLISHED["ham10000"])
    assert text.endswith("The paper claims ROC-AUC 0.99 and accuracy 0.9821.")


@pytest.mark.parametrize("fields", [{"official_test": True}, {"table": "splits.csv"}])
def test_splits_without_a_choice_of_protocol_are_refused_before_any_run(tmp_path, fields):
    with pytest.raises(ValueError, match="left alone with protocol 'by_image'"):
        protocols.study(changed(tiny.BASE, "splits", **fields), tmp_path)
    assert not any(tmp_path.iterdir())


def test_the_workdir_of_a_run_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="belongs to something else, not to the study 'protocols'"):
        protocols.study(tiny.BASE, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_the_workdir_of_another_study_is_refused(studied):
    with pytest.raises(ValueError, match="belongs to the study 'protocols', not to the study 'bridge'"):
        variants.run("bridge", [], studied)


def test_diagnoses_are_refused(tmp_path):
    with pytest.raises(ValueError, match="config.data.target = 'diagnosis': must be 'malignant' or 'melanoma'"):
        protocols.study(changed(tiny.BASE, "data", target="diagnosis"), tmp_path)
