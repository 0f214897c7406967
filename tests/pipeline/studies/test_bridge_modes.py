"""One classifier for each mode of the bridge."""

import json

import pytest

from segfusion_jax.config import BRIDGE_MODES
from segfusion_jax.pipeline import experiment
from segfusion_jax.pipeline.studies import bridge_modes
from segfusion_jax.pipeline.studies.variants import with_shared_records
from tests import tiny
from tests.pipeline.studies import fake_runs

SEVENTH = tiny.config(classifier__seed=7)


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """The workdir of a study with two classifiers a mode, of which 'crop' is best and 'mask_only' worst."""
    workdir = tmp_path_factory.mktemp("study")
    strengths = {"crop": 6.0, "mask_only": -6.0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "run", fake_runs.run(lambda config: strengths.get(config.bridge.mode, 0.0)))
        assert bridge_modes.study(tiny.BASE, workdir, repeats=2) == workdir / "index.html"
    return workdir


def test_every_mode_is_compared_with_none(studied):
    written = json.loads((studied / "comparison.json").read_text())
    annotated = [f"{mode}, annotated masks" for mode in ("dim", "black", "crop")]
    assert written["reference"] == "none"
    assert set(written["runs"]) == {*BRIDGE_MODES, *annotated} and next(iter(written["runs"])) == "none"
    for name, run in written["runs"].items():
        assert run["repeats"] == 2 and ("differences" in run) == (name != "none")
    assert written["runs"]["crop"]["differences"]["roc_auc"]["low"] > 0
    assert written["runs"]["mask_only"]["differences"]["roc_auc"]["high"] < 0
    assert "better than 'none': crop (+" in (studied / "summary.md").read_text()


def test_runs_differ_in_mode_masks_and_seed_only(studied):
    for name, config in bridge_modes.configs(with_shared_records(tiny.BASE, studied), studied, repeats=2):
        mode = name.partition("/")[0].partition(",")[0]
        masks = "annotated" if "annotated" in name else "predicted"
        assert (config.bridge.mode, config.bridge.masks) == (mode, masks)
        assert config.classifier.seed == int(name[-1])
        assert json.loads((studied / name / "config.json").read_text())["config"] == json.loads(config.to_json())


def test_seeds_go_on_from_the_configs_own(studied):
    seeds = {config.classifier.seed for _, config in bridge_modes.configs(SEVENTH, studied, repeats=2)}
    assert seeds == {7, 8}


def test_annotated_masks_are_tried_where_all_images_have_them(tmp_path):
    splits = {name: {"images": 4, "with_mask": 4 - (name == "test")} for name in ("train", "validation", "test")}
    (tmp_path / "none/0/prepare").mkdir(parents=True)
    (tmp_path / "none/0/prepare/audit.json").write_text(json.dumps({"splits": splits}))
    names = [name for name, _ in bridge_modes.configs(tiny.BASE, tmp_path, repeats=1)]
    assert len(names) == len(BRIDGE_MODES) and not any("annotated" in name for name in names)
