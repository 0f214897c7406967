"""The same models under the paper's protocol and, rung by rung, under an honest one."""

import collections
import json

import numpy as np
import pytest
from sklearn import metrics

from segfusion_jax.pipeline import experiment
from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.studies import protocols, protocols_page, rungs, variants
from segfusion_jax.pipeline.studies.published import PUBLISHED
from segfusion_jax.pipeline.studies.variants import changed, with_shared_records
from segfusion_jax.training.trainer import steps_per_epoch
from tests import tiny

STRENGTHS = {"grouped": 0.5, "by_image": 2, "paper": 8}
CONFIG = changed(changed(tiny.BASE, "bridge", masks="annotated", mode="crop"), "splits", pool=20)
CONFIG = changed(CONFIG, "evaluation", resamples=200)
_run = experiment.run


def without_training(config, workdir, stages, *, reuse):
    assert stages == ("prepare", "bridge", "classify")
    return _run(config, workdir, ("prepare", "bridge"), reuse=reuse)


def made_up(run, test):
    """Probabilities that are the better, the more leaks."""
    rng = np.random.default_rng(len(run.config.bridge.mode))
    labels = np.array([row.target for row in test.rows])
    logits = STRENGTHS[run.config.splits.protocol] * (labels - 0.5) + rng.normal(size=len(labels))
    return 1 / (1 + np.exp(-logits))


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """The workdir of a study of two draws whose models are the better, the more leaks."""
    workdir = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "run", without_training)
        patch.setattr(rungs, "modelled", made_up)
        patch.setitem(PUBLISHED, "synthetic", PUBLISHED["ham10000"])
        assert protocols.study(CONFIG, workdir, 2) == workdir / "index.html"
    return workdir


@pytest.fixture(scope="module")
def found(studied):
    return json.loads((studied / "protocols.json").read_text())


def test_every_rung_has_every_bridge_and_memory(found):
    assert list(found["rungs"]) == ["paper", "by_image", "grouped", "natural"]
    for rung in found["rungs"].values():
        assert list(rung["said"]) == ["dim", "none", "crop", "thumbnails"]  # the weights are random: no features
        assert list(rung["gains"]) == ["dim", "crop"] and list(rung["nearest"]) == ["thumbnails"]
    assert found["draws"] == 2 and found["pool"] == 20


def test_each_rung_is_one_change_from_the_one_before(found):
    paper, by_image, grouped, natural = found["rungs"].values()
    assert paper["leaks"]["same picture"] > 0.9
    assert by_image["leaks"]["same picture"] == 0 < by_image["leaks"]["any of these"]
    assert grouped["leaks"] == {"same picture": 0, "any of these": 0} and natural["leaks"] == {}
    assert grouped["prevalence"] == pytest.approx(0.5, abs=0.15)
    assert natural["n"] > grouped["n"] and natural["prevalence"] < 0.4
    assert paper["nearest"]["thumbnails"]["same picture"] > 0 == grouped["nearest"]["thumbnails"]["same group"]


def test_the_pool_is_the_same_on_all_rungs_and_balanced(studied):
    for draw in (0, 1):
        pools = []
        for protocol in protocols.PROTOCOLS:
            rows = Run(CONFIG, studied / f"draw_{draw}/{protocol}_dim").rows
            used = [row for row in rows if row.split != "unused"]
            pools.append({row.position for row in used})
            assert len(set(collections.Counter(row.target for row in used).values())) == 1
        assert pools[0] == pools[1] == pools[2]


def test_the_natural_rung_has_no_relative_of_training_images(studied):
    rows = {row.image_id: row for row in Run(CONFIG, studied / "draw_0/grouped_dim").rows}
    seen = {row.group for row in rows.values() if row.split in ("train", "validation")}
    tested = [rows[line["image_id"]] for line in tiny.table(studied / "draw_0/said/natural_dim.csv")]
    assert len({row.picture for row in tested}) == len(tested)
    assert {row.group for row in tested}.isdisjoint(seen)
    assert {row.image_id for row in rows.values() if row.split == "test"} <= {row.image_id for row in tested}


def test_values_are_means_over_the_draws(studied, found):
    draws = [tiny.table(studied / f"draw_{draw}/said/grouped_none.csv") for draw in (0, 1)]
    truth = [[line["label"] == "1" for line in lines] for lines in draws]
    said = [[float(line["probability"]) for line in lines] for lines in draws]
    areas = [metrics.roc_auc_score(*pair) for pair in zip(truth, said, strict=True)]
    entry = found["rungs"]["grouped"]["said"]["none"]["roc_auc"]
    assert entry["value"] == pytest.approx(np.mean(areas)) and entry["low"] < entry["value"] < entry["high"]
    right = [np.mean((np.array(p) >= 0.5) == t) for t, p in zip(truth, said, strict=True)]
    assert found["rungs"]["grouped"]["said"]["none"]["accuracy"]["value"] == pytest.approx(np.mean(right))


def test_gains_are_paired(found):
    for rung in found["rungs"].values():
        for mode, gain in rung["gains"].items():
            more, less = rung["said"][mode]["accuracy"]["value"], rung["said"]["none"]["accuracy"]["value"]
            assert gain["accuracy"]["value"] == pytest.approx(more - less)
    same = [rungs.Said(["a", "b", "c"], np.array([True, False, True]), np.array([0.9, 0.2, 0.3]), [""] * 3)]
    assert {entry["value"] for entry in protocols.gains(same, same, 100).values()} == {0}


def test_all_train_for_as_many_steps(studied):
    configs = dict(protocols.configs(with_shared_records(CONFIG, studied), studied, 2))
    assert len(configs) == 2 * 3 * 3
    steps = set()
    for name, config in configs.items():
        train = Run(config, studied / name).split.training
        steps.add((name.partition("/")[0], steps_per_epoch(config.classifier.training, [len(rows) for rows in train])))
    assert len(steps) == 2  # one number in each draw
    assert len({config.classifier.seed for config in configs.values()}) == 2


def test_u_nets_train_for_as_many_steps_where_their_masks_are_used(tmp_path):
    config = with_shared_records(changed(CONFIG, "bridge", masks="predicted"), tmp_path)
    steps = set()
    for name, variant in protocols.configs(config, tmp_path, 1):
        run = _run(variant, tmp_path / name, ("prepare",))
        steps.add(steps_per_epoch(variant.segmenter.training, [len(rows) for rows in run.split.unet()[0].values()]))
    assert len(steps) == 1


def test_the_page_tells_what_flatters(studied, found):
    paper = found["rungs"]["paper"]["said"]["dim"]["accuracy"]["value"]
    for text in ((studied / "summary.md").read_text(), (studied / "index.html").read_text()):
        assert f"accuracy is {paper:.3f}" in text and "have a copy or another relative in training" in text
        assert "Published are 0.9821 with the bridge and 0.7973 without." in text
        assert "at most 0.9384" in text  # accuracy on the printed ROC curve
        assert "No images of another origin were at hand" in text
    for figure in ("ladder", "curves"):
        assert (studied / f"figures/{figure}.svg").exists()


def test_a_pool_that_is_smaller_than_asked_for_is_told(found):
    text = " ".join(protocols_page._warnings(changed(CONFIG, "splits", pool=250), found | {"draws": 1}))
    assert "A pool of 250 images of each class is asked for; the collection here has 20" in text
    assert "drawn once" in text


def test_without_a_pool_all_of_the_rarer_class_take_part(tmp_path):
    config = with_shared_records(changed(CONFIG, "splits", pool=0), tmp_path)
    name, first = next(protocols.configs(config, tmp_path, 1))
    rows = _run(first, tmp_path / name, ("prepare",)).rows
    used = collections.Counter(row.target for row in rows if row.split != "unused")
    assert used[0] == used[1] and not any(row.split == "unused" and row.target == 1 for row in rows)


@pytest.mark.parametrize("fields", [{"official_test": True}, {"table": "splits.csv"}])
def test_splits_without_a_choice_of_protocol_are_refused_before_any_run(tmp_path, fields):
    with pytest.raises(ValueError, match="left alone with protocol 'paper'"):
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
