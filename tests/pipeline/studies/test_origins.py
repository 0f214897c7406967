"""Each origin left out of training in turn: the tables, what lies between the runs, and the page."""

import collections
import json

import numpy as np
import pytest
from sklearn import metrics

from segfusion_jax.pipeline import experiment
from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.studies import origins, origins_measured, origins_page
from segfusion_jax.pipeline.studies.origins_measured import Said
from segfusion_jax.pipeline.studies.variants import changed
from tests import tiny
from tests.datasets.rows import row
from tests.pipeline.studies import fake_runs, tinted

SIZES = {"red": 50, "white": 60, "blue": 50}
CONFIG = changed(tiny.BASE, "evaluation", resamples=200)


def strength(config) -> float:
    if not config.splits.table:
        return 6.0
    if "_one" in config.splits.table:
        return 0.5
    return 1.0 + (config.classifier.augmentation.hue == 10) + 0.5 * (config.data.illumination == "even")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return tinted.config(CONFIG, tmp_path_factory.mktemp("collections"), SIZES)


@pytest.fixture(scope="module")
def studied(tmp_path_factory, config):
    """The workdir of a study whose models are the better, the more they know of an origin."""
    workdir = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "run", fake_runs.run(strength))
        assert origins.study(config, workdir) == workdir / "index.html"
    return workdir


@pytest.fixture(scope="module")
def found(studied):
    return json.loads((studied / "origins.json").read_text())


def test_every_origin_has_every_rung(found):
    assert list(found["origins"]) == ["blue", "red", "white"] and found["not_left_out"] == {}
    for of in found["origins"].values():
        assert list(of["rungs"]) == list(origins_measured.RUNGS)
        assert list(of["gains"]) == list(origins_measured.GAINS) == list(found["gains"])
        assert set(of["rungs"]["others"]) == set(origins_measured.METRICS)
        assert "low" not in of["rungs"]["others"]["ece"]
    assert found["gains"]["gap"]["roc_auc"]["value"] > 0 < found["gains"]["collections"]["roc_auc"]["value"]


def test_a_run_never_trains_on_what_it_leaves_out_and_others_stay_where_they_are(studied):
    inside = {one.image_id: one for one in Run(CONFIG, studied / "inside").rows}
    for name in SIZES:
        for rung in ("one", "others", "augmentation", "colours"):
            rows = Run(CONFIG, studied / f"without_{name}/{rung}").rows
            assert {one.image_id for one in rows} == inside.keys()
            assert {one.split for one in rows if one.source == name} == {"test"}
            trained = {one.source for one in rows if one.split in ("train", "validation")}
            count = collections.Counter(one.source for one in inside.values() if one.split == "train")
            others = SIZES.keys() - {name}
            if rung == "one":
                (alone,) = trained
                assert alone in others and count[alone] == max(count[other] for other in others)
            else:
                assert trained == others
            for one in rows:
                if one.source in trained:
                    before = inside[one.image_id]
                    assert (one.split, one.fold) == (before.split, before.fold)


def test_values_are_of_the_images_that_the_run_that_knows_the_origin_is_tested_on(studied, found):
    tested = {
        one.image_id for one in Run(CONFIG, studied / "inside").rows if one.source == "red" and one.split == "test"
    }
    values = {}
    for rung, folder in (("inside", "inside"), ("others", "without_red/others")):
        lines = [line for line in Run(CONFIG, studied / folder).read_predictions() if line["image_id"] in tested]
        assert len(lines) == found["origins"]["red"]["n"] == len(tested)
        truth, said = [int(line["label"]) for line in lines], [float(line["probability"]) for line in lines]
        values[rung] = metrics.roc_auc_score(truth, said)
        entry = found["origins"]["red"]["rungs"][rung]["roc_auc"]
        assert entry["value"] == pytest.approx(values[rung])
    gap = found["origins"]["red"]["gains"]["gap"]["roc_auc"]
    assert gap["value"] == pytest.approx(values["inside"] - values["others"])
    assert found["origins"]["red"]["outside"]["n"] == SIZES["red"]
    mean = np.mean([of["gains"]["gap"]["roc_auc"]["value"] for of in found["origins"].values()])
    assert found["gains"]["gap"]["roc_auc"]["value"] == pytest.approx(mean)


def test_the_page_tells_the_gap_and_what_closes_it(studied, found):
    gap = found["gains"]["gap"]["roc_auc"]
    for page in ((studied / "summary.md").read_text(), (studied / "index.html").read_text()):
        assert f"lower by {gap['value']:.3f} ({gap['low']:.3f} to {gap['high']:.3f})" in page
        assert "Fewer than 100 held-out images of one kind: blue, red, white." in page
        assert "Trained on the largest other origin alone" in page
    for figure in ("origins", "gains"):
        assert (studied / f"figures/{figure}.svg").exists()


def test_origins_may_be_centres(studied, config):
    run = Run(config, studied / "inside")
    names = [f"{name}: {centre}" for name in sorted(SIZES) for centre in "AB"]
    left, reasons = origins.able(run, "centre")
    assert sorted([*left, *reasons]) == names and len(left) >= 4
    assert set(reasons.values()) <= {"its held-out images are not of both kinds"}
    parts = {one.split for one in origins.without(run.rows, left[0], "centre") if one.image_id in _of(run, left[0])}
    assert parts == {"test"}


def _of(run, centre) -> set[str]:
    return {one.image_id for one in run.rows if f"{one.source}: {one.origin}" == centre}


def test_relatives_of_what_is_left_out_take_no_part():
    facts = {"split": "train", "fold": 1}
    rows = [
        row(0, source="a", group="G", **facts),
        row(1, source="b", group="G", **facts),
        row(2, source="b", **facts),
        row(3, source="c", split="test"),
        row(4, source="a", split="unused"),
        row(5, source="a", split="official_test"),
        row(6, source="c", split="validation", fold=2),
    ]
    splits = [place.split for place in origins.without(rows, "a", "collection")]
    assert splits == ["test", "unused", "train", "test", "unused", "official_test", "validation"]
    alone = origins.without(rows, "a", "collection", "b")
    assert [place.split for place in alone] == ["test", "unused", "train", "test", "unused", "official_test", "unused"]
    assert alone[2].fold == 1


def test_too_few_origins_are_refused(tmp_path, config):
    few = changed(config, "data", collections={"red": config.data.collections["red"]})
    experiment.run(few, tmp_path / "inside", ("prepare",))
    with pytest.raises(ValueError, match="1 can be left out, at least 2 are needed|0 can be left out"):
        list(origins.configs(few, tmp_path, "collection"))


def test_an_augmentation_that_is_strong_already_is_no_rung():
    strong = changed(CONFIG, "classifier.augmentation", **origins.STRONGER)
    assert origins._augmented(strong) == strong
    once = origins._augmented(CONFIG)
    assert once != CONFIG and origins._augmented(once) == once
    assert once.classifier.augmentation.shift_height == CONFIG.classifier.augmentation.shift_height


def test_differences_are_paired():
    ids = [f"I{number}" for number in range(40)]
    labels = {one: number % 2 == 0 for number, one in enumerate(ids)}
    rng = np.random.default_rng(0)
    noise = rng.normal(size=40)

    def said(shift: float) -> Said:
        logits = noise + shift * np.array(list(labels.values()))
        probabilities = dict(zip(ids, 1 / (1 + np.exp(-logits)), strict=True))
        return Said({one: one for one in ids}, labels, probabilities, dict.fromkeys(ids[:20], 0.8), 0.5)

    better, worse = said(3.0), said(1.0)
    entry = origins_measured.measured({"x": {"others": worse, "inside": better}}, dict.fromkeys(ids, "x"), 200)
    gap, rungs = entry["origins"]["x"]["gains"]["gap"], entry["origins"]["x"]["rungs"]
    width = gap["roc_auc"]["high"] - gap["roc_auc"]["low"]
    apart = [rungs[name]["roc_auc"]["high"] - rungs[name]["roc_auc"]["low"] for name in rungs]
    assert gap["roc_auc"]["low"] > 0 and width < np.hypot(*apart)
    assert gap["dice"] == {"value": 0.0} and rungs["inside"]["dice"]["value"] == pytest.approx(0.8)
    assert entry["origins"]["x"]["home"] == {"n": 0, "metrics": {}}


def test_the_verdict_of_two_origins_has_no_rung_of_one():
    entries = {"roc_auc": {"value": 0.05, "low": 0.01, "high": 0.09}}
    found = {"gains": {"augmentation": {"roc_auc": {"value": 0.02}}, "gap": entries}, "origins": {"a": {}, "b": {}}}
    assert origins_page.verdict(found) == (
        "On images of an origin that it never saw a model's ROC-AUC is lower by 0.050 (0.010 to 0.090) than that of "
        "one trained on it, too, as the mean over 2 origins. On the way there: Stronger augmentation +0.020 (no "
        "interval)."
    )


@pytest.mark.slow
def test_a_study_of_drawn_collections_from_end_to_end(tmp_path, shallow_networks):
    small = changed(changed(CONFIG, "classifier.training", epochs=1), "segmenter.training", epochs=1)
    config = tinted.config(small, tmp_path / "collections", {"red": 40, "blue": 40})
    page = origins.study(config, tmp_path / "study")
    found = json.loads((tmp_path / "study/origins.json").read_text())
    assert list(found["origins"]) == ["blue", "red"] and page.exists()
    for of in found["origins"].values():
        assert list(of["rungs"]) == ["others", "augmentation", "colours", "inside"]
        assert all(0 < entries["dice"]["value"] <= 1 for entries in of["rungs"].values())
    unets = [
        tmp_path / f"study/without_red/{rung}/segment/fold_0/weights.safetensors" for rung in ("others", "augmentation")
    ]
    assert unets[0].samefile(unets[1])  # shared, not trained anew
    before = tiny.tree(tmp_path / "study/without_red")
    origins.study(config, tmp_path / "study")
    assert tiny.tree(tmp_path / "study/without_red") == before
