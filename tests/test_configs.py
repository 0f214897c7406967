"""Every shipped config, shrunk, from official-looking files to the report."""

import ast
import json
import re

import pytest

from segfusion_jax.config import Config, fields
from segfusion_jax.pipeline import experiment
from tests import tiny
from tests.datasets import official
from tests.test_config import flat


def write_isic2018(folder, n):
    ids = [f"ISIC_{i:07d}" for i in range(n)]
    official.write_isic2018_task1(folder, {"Training": ids[: n // 2]})
    official.write_isic2018_task3(folder, {"Training": ids[n // 4 :]})


WRITERS = {
    "ham10000": official.write_ham10000,
    "isic2017": lambda folder, n: official.write_isic2017(folder, n // 2),
    "isic2018": write_isic2018,
    "isic2019": official.write_isic2019,
    "isic2020": official.write_isic2020,
    "image_folder": official.write_image_folder,
}
SHIPPED = [
    "synthetic",
    "ham10000",
    "ham10000:quick",
    "isic2017",
    "isic2018",
    "isic2019",
    "isic2020",
    "image_folder",
    "image_folder:quick",
]
PREPARED_ONLY = ["ham10000", "isic2017", "isic2018", "isic2019"]  # whose stages after that are those of the others
ALL_STAGES = [
    "isic2020",
    pytest.param("image_folder", marks=pytest.mark.slow),
]  # with masks of another collection, and with its own
SIZES = ("epochs", "batch_size", "learning_rate", "ema_decay")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with a small copy of every official collection, 80 images each."""
    folder = tmp_path_factory.mktemp("official")
    for name, write in WRITERS.items():
        write(folder / name, 80)
    return folder


@pytest.mark.parametrize("name", PREPARED_ONLY)
def test_official_files_are_prepared(name, data, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGFUSION_DATA", str(data))  # finds the collection of the masks
    config = tiny.config(name, data__root=str(data / name), splits__seed=1)
    experiment.run(config, tmp_path, ["prepare"])
    rows = tiny.table(tmp_path / "prepare/splits.csv")
    assert len([row for row in rows if row["source"] == name]) == 80
    assert {row["source"] for row in rows} == set(config.data.sources)
    assert {row["split"] for row in rows if row["has_mask"] == "1"} >= {"train", "validation", "test"}
    assert len({row["fold"] for row in rows if row["fold"] != "-1"}) == config.splits.num_folds


@pytest.mark.parametrize("name", ALL_STAGES)
def test_all_stages_run(name, data, shallow_networks, tmp_path, monkeypatch):
    mode = tiny.shipped(name).bridge.mode
    config = tiny.config(name, seed=1, data__root=str(data / name), splits__seed=1, bridge__mode=mode)
    if config.data.collections:
        monkeypatch.setenv("SEGFUSION_DATA", str(data))  # finds the collection of the masks
    experiment.run(config, tmp_path)
    rows = tiny.table(tmp_path / "prepare/splits.csv")
    own = [row for row in rows if row["source"] == name]
    assert len(own) == 80
    masks, predictions = tiny.table(tmp_path / "bridge/masks.csv"), tiny.table(tmp_path / "evaluate/predictions.csv")
    used = {row["image_id"] for row in own if row["split"] in ("train", "validation", "test")}
    assert {mask["image_id"] for mask in masks} == used
    tests = [row for row in own if row["split"] == "test"]
    assert [p["image_id"] for p in predictions] == [row["image_id"] for row in tests if row["target"] != "-1"]
    metrics = json.loads((tmp_path / "evaluate/metrics.json").read_text())
    assert 0 <= metrics["classification"]["roc_auc"]["value"] <= 1
    annotated = [row for row in rows if row["split"] == "test" and row["has_mask"] == "1"]
    assert metrics["segmentation"]["n"]["value"] == len(annotated) >= 5
    assert (tmp_path / "report/index.html").exists() and (tmp_path / "model/metadata.json").exists()


@pytest.mark.parametrize("name", SHIPPED)
def test_configs_are_valid_as_they_are(name):
    config = Config.from_config_dict(tiny.shipped(name))
    assert config.data.collection == name.partition(":")[0]
    assert config.bridge.mode == "crop" and config.classifier.augmentation.rotation == 15.0


@pytest.mark.parametrize("variant", ["", ":paper_unet"])
def test_the_released_models_config_and_its_variants(variant):
    config = Config.from_config_dict(tiny.shipped(f"released{variant}"))
    assert (config.data.collection, config.data.target, config.bridge.mode) == ("image_folder", "diagnosis", "crop")
    assert (config.segmenter.encoder == "") == (config.segmenter.pretrained == "") == (variant != "")
    with pytest.raises(ValueError, match="released.py:unet is not known; 'paper_unet' is"):
        tiny.shipped("released:unet")


@pytest.mark.parametrize("name", ["ham10000", "image_folder"])
def test_quick_differs_from_the_full_size_in_size_only(name):
    full, quick = (Config.from_config_dict(tiny.shipped(variant)) for variant in (name, f"{name}:quick"))
    assert (full.segmenter.image_size, full.classifier.image_size) == ((256, 384), (224, 224))
    assert (quick.data, quick.bridge, quick.parallel) == (full.data, full.bridge, full.parallel)
    assert quick.classifier.training.epochs < full.classifier.training.epochs
    changed = {field for field, value in flat(quick).items() if value != flat(full)[field]}
    assert changed <= {
        "splits.num_folds",
        *(f"segmenter.{field}" for field in ("image_size", "filters", "loss")),
        "classifier.image_size",
        *(f"{part}.training.{field}" for part in ("segmenter", "classifier") for field in SIZES),
    }


def test_the_papers_configuration_is_its_own_and_its_small_form_differs_in_size():
    paper, small = (Config.from_config_dict(tiny.shipped(f"ham10000:{name}")) for name in ("paper", "protocols"))
    assert (paper.segmenter.image_size, paper.segmenter.filters, paper.segmenter.encoder) == ((256, 384), 16, "")
    assert (paper.classifier.image_size, paper.classifier.backbone) == ((224, 224), "efficientnet_b0")
    trainings = paper.segmenter.training, paper.classifier.training
    assert [(one.epochs, one.batch_size, one.learning_rate) for one in trainings] == [(10, 32, 1e-3), (50, 32, 1e-3)]
    assert (paper.bridge.mode, paper.bridge.masks, paper.splits.protocol) == ("dim", "predicted", "paper")
    assert 20 * paper.splits.pool * paper.splits.test_fraction == 1000  # copies of both classes, as its curves show
    assert small.splits == paper.splits and small.data == paper.data


@pytest.mark.parametrize("name", ["ham10000", "isic2019", "isic2020"])
def test_the_published_tables_are_tried_alike(name):
    ours, first = (Config.from_config_dict(tiny.shipped(f"{one}:protocols")) for one in (name, "ham10000"))
    assert ours.splits == first.splits and ours.classifier == first.classifier and ours.bridge.mode == "dim"
    assert ours.bridge.masks == ("annotated" if name == "ham10000" else "predicted")
    with pytest.raises(ValueError, match=f"configs/{name}.py:fast is not known; .*protocols"):
        tiny.shipped(f"{name}:fast")


def test_an_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="configs/ham10000.py:fast is not known; quick, paper, protocols are"):
        tiny.shipped("ham10000:fast")


@pytest.mark.parametrize("path", sorted(tiny.CONFIGS.glob("*.py")), ids=lambda path: path.stem)
def test_docstrings_give_a_command_whose_fields_exist(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring and f"segfusion train --config {path.stem}" in docstring and "Hardware" in docstring
    described = {one.name for path, part in fields.sections(Config()) for one in fields.describe(part, path)}
    for name in re.findall(r"--set ([\w.]+)=", docstring):
        assert re.sub(r"(data\.collections)\.\w+", r"\1.NAME", name) in described


@pytest.mark.parametrize("name", ["ham10000", "isic2019", "isic2020"])
def test_missing_folders_say_where_the_data_are_published(name, data, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGFUSION_DATA", str(tmp_path))
    addresses = {"ham10000": "DBW86T", "isic2019": "challenge.isic-archive.com", "isic2020": "isic-archive.com"}
    with pytest.raises(FileNotFoundError, match=f"{addresses[name]}.*--config.data.root=FOLDER"):
        experiment.run(tiny.config(name), tmp_path / "new")
    if name != "ham10000":
        config = tiny.config(name, data__root=str(data / name))
        with pytest.raises(
            FileNotFoundError, match="HAM10000: no folder ham10000.*DBW86T.*--config.data.collections.ham10000.root"
        ):
            experiment.run(config, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_dermoscopy_names_what_is_here_and_its_variant_is_smaller():
    full, quick = (Config.from_config_dict(tiny.shipped(name)) for name in ("dermoscopy", "dermoscopy:quick"))
    assert full.data == quick.data and full.data.own == tuple(full.data.sources)
    assert set(full.data.own) == {"ham10000", "isic2017", "isic2019", "isic2020", "isic_archive"}
    assert quick.classifier.training.epochs < full.classifier.training.epochs
    with pytest.raises(ValueError, match="dermoscopy.py:small is not known; quick, released are"):
        tiny.shipped("dermoscopy:small")
