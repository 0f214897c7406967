"""A model folder that somebody sends: what was changed, left out or is out of bounds is refused before it is used."""

import json
import pathlib
import shutil
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy

import segfusion_jax as sf
from segfusion_jax.serving import model_folder

RELEASED = pathlib.Path(__file__).parents[2] / "released" / "ham10000"
FILES = (model_folder.MANIFEST, *model_folder.read_metadata(RELEASED).files)


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    """A copy of the released model."""
    for name in FILES:
        shutil.copy(RELEASED / name, tmp_path / name)
    return tmp_path


def change(folder: pathlib.Path, field: str, value: Any) -> None:
    """Gives a field of the metadata, by its dotted name, another value, and the manifest what belongs to it."""
    metadata = json.loads((folder / "metadata.json").read_text())
    *path, last = field.split(".")
    section = metadata
    for name in path:
        section = section[name]
    section[last] = value
    (folder / "metadata.json").write_text(json.dumps(metadata))


def test_the_released_model_is_as_its_manifest_says():
    opened = model_folder.open_folder(RELEASED)
    assert set(opened.files) == set(FILES) - {model_folder.MANIFEST}
    assert opened.digest == model_folder.digests(RELEASED)[model_folder.MANIFEST]


@pytest.mark.parametrize("name", FILES[1:])
def test_one_changed_byte_of_any_file_is_refused(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[-2] ^= 1 if name != "metadata.json" else 0
    content += b" " if name == "metadata.json" else b""
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} was changed since manifest.json was written: take the model anew"):
        model_folder.open_folder(folder)


def test_a_folder_without_its_manifest_or_with_another_files_is_refused(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["files"]["unet_1.safetensors"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="does not name unet_1.safetensors"):
        model_folder.open_folder(folder)
    (folder / "manifest.json").write_text('{"files": {"../unet_0.safetensors": "0"}}')
    with pytest.raises(ValueError, match="'../unet_0.safetensors' is no plain file name"):
        model_folder.open_folder(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError, match="has no manifest.json.*write_manifest"):
        model_folder.open_folder(folder)
    model_folder.write_manifest(folder)
    assert model_folder.open_folder(folder).files == model_folder.open_folder(RELEASED).files


BAD = {
    "threshold": [float("nan"), float("inf"), -0.1, 1.1, "0.5", None, True],
    "temperature": [0, -1, 1e9, float("nan"), [1.0]],
    "prevalence": [0, 1, float("nan"), "0.1"],
    "shift": [[0.0], [0.0] * 8, [float("nan")] * 7, [1e9] * 7, "0000000", {}],
    "classes": [[], ["a"], ["a"] * 7, [1] * 7, "abcdefg", [""] * 7, ["a" * 2000, *"bcdefg"], [["a"]] * 7],
    "positive": [[], ["nobody"], "melanoma", ["melanoma"] * 2, [["melanoma"]], [0]],
    "num_logits": [0, 1, 6, 8, 7.0, "7", True, 10**30],
    "unets": [
        ["../unet_0.safetensors"],
        ["/etc/passwd"],
        [".hidden"],
        ["a/b"],
        ["x" * 200],
        [f"u{i}" for i in range(99)],
    ],
    "classifiers": [[], ["classifier.safetensors\n"], ["-x"], [7], "classifier.safetensors"],
    "config.segmenter.image_size": [[10**6, 10**6], [0, 16], [16], [16.5, 16], "16x16"],
    "config.classifier.image_size": [[16, 10**9], [-16, -16]],
    "config.classifier.width": [1e9, float("nan"), "1"],
    "config.classifier.depth": [1e6],
    "config.segmenter.filters": [10**9, 0],
    "config.data.size": [[10**6, 10**6]],
    "config.data.synthetic_images": [10**9],
    "config": [[], None, 7],
    "metrics": [None, []],
    "metrics.operating_points": [[{"aim": "sensitivity", "level": 0.9}], {}, [7]],
    "metrics.classification": [7, []],
    "metrics.classification.sensitivity": [{"value": 7}, {"value": 0.5, "low": "x"}],
    "metrics.calibration.shares": [{}, [0.1] * 7],
    "data": [[{"licence": ["a"]}], "x"],
}


@pytest.mark.parametrize("field", BAD)
def test_a_field_out_of_its_bounds_is_refused_by_name(folder, field):
    for value in BAD[field]:
        change(folder, field, value)
        with pytest.raises(ValueError, match="metadata.json") as refused:
            model_folder.read_metadata(folder)
        assert len(str(refused.value)) < 2000
        with pytest.raises(ValueError, match="metadata.json"):
            sf.SegFusion.load(folder)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{" * 100_000, b'{"a":' * 100_000, b'{"config": 1e999}', b'{"a": 1, "a": 2}', b"\xff\xfe", b"NaN"],
)
def test_metadata_that_are_no_json_of_named_fields_are_refused(folder, content):
    (folder / "metadata.json").write_bytes(content)
    with pytest.raises(ValueError, match="metadata.json is not JSON"):
        model_folder.open_folder(folder)


def rewritten(path: pathlib.Path, **changed) -> None:
    """Writes a safetensors file again with other arrays; the manifest of its folder too."""
    arrays = safetensors.numpy.load_file(path)
    with safetensors.safe_open(path, "numpy") as file:
        metadata = file.metadata()
    safetensors.numpy.save_file(arrays | changed, path, metadata)
    model_folder.write_manifest(path.parent)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_weights_that_are_not_finite_are_refused(folder, value):
    rewritten(folder / "classifier.safetensors", **{"head.bias": np.full(7, value)})
    with pytest.raises(ValueError, match="classifier.safetensors .*head.bias has values that are not finite"):
        sf.SegFusion.load(folder)


@pytest.mark.parametrize(
    "changed",
    [
        {"limit": np.array(np.nan)},
        {"limit": np.array(0.0)},
        {"mean": np.zeros((2, 2), np.float32)},
        {"mean": np.zeros(3, np.float32)},
        {"whitening": np.full((112, 112), np.inf, np.float32)},
        {"mean": np.zeros(112, np.int64)},
    ],
)
def test_a_novelty_file_out_of_its_bounds_is_refused(folder, changed):
    rewritten(folder / "novelty.safetensors", **changed)
    with pytest.raises(ValueError, match="novelty.safetensors"):
        sf.SegFusion.load(folder)


@pytest.mark.parametrize(
    "row",
    [
        "a,train,0",
        "a,nowhere,0,00",
        "a,train,x,00",
        "a,train,-7,00",
        "a,train,0,zz",
        "a,train,0,00,7",
        f"{'a' * 9999},test,-1,",
    ],
)
def test_a_split_out_of_its_bounds_is_refused(folder, row):
    (folder / "split.csv").write_text(f"image_id,split,fold,perceptual_hash\n{row}\n")
    model_folder.write_manifest(folder)
    with pytest.raises(ValueError, match="split.csv"):
        model_folder.open_folder(folder).read_parts()


@pytest.mark.parametrize("value", [float("nan"), 1.5])
def test_what_is_out_of_bounds_is_not_stated_and_harms_no_model(folder, value):
    before = {name: (folder / name).read_bytes() for name in FILES}
    with pytest.raises(ValueError, match="roc_auc|no finite number"):
        model_folder.state_elsewhere(folder, {"ISIC 2017": {"classification": {"roc_auc": {"value": value}}}})
    assert before == {name: (folder / name).read_bytes() for name in FILES}


def test_what_a_model_reached_at_home_and_elsewhere_is_stated(folder):
    stated = json.loads((folder / "metadata.json").read_text())["metrics"]
    before = model_folder.open_folder(folder)
    assert before.metadata.elsewhere == ()
    assert before.metadata.home["roc_auc"]["value"] == stated["classification"]["roc_auc"]["value"]
    assert before.metadata.home["dice"]["low"] == stated["segmentation"]["dice"]["low"]
    assert before.metadata.home_collections == {}
    assert before.metadata.home_images == stated["classification"]["n"]["value"]
    entry = {"value": 0.7, "low": 0.6, "high": 0.8}
    found = {"classification": {"sensitivity": entry, "mcc": entry, "n": {"value": 99.0}}, "model": "abc"}
    model_folder.state_elsewhere(folder, {"ISIC 2017": found, "Masks": {"segmentation": {"dice": entry}}})
    model_folder.state_elsewhere(
        folder, {"Masks": {"segmentation": {"dice": {"value": 0.5}}}}
    )  # in place of the former
    after = model_folder.open_folder(folder)
    assert after.metadata.elsewhere == (
        {"title": "ISIC 2017", "n": 99, "found": {"sensitivity": entry}},
        {"title": "Masks", "n": 0, "found": {"dice": {"value": 0.5}}},
    )
    assert after.digest != before.digest and after.metadata.home == before.metadata.home


def test_nothing_is_added_to_a_model_that_was_changed(folder):
    change(folder, "threshold", 0.99)
    with pytest.raises(ValueError, match="metadata.json was changed since"):
        model_folder.state_elsewhere(folder, {"ISIC 2017": {}})


@pytest.mark.parametrize(
    "value", [7, [{"title": "x", "metrics": {"segmentation": {"dice": {"value": 2}}}}], [{"title": ""}]]
)
def test_what_is_stated_of_elsewhere_is_bounded(folder, value):
    change(folder, "elsewhere", value)
    with pytest.raises(ValueError, match="metadata.json.* elsewhere"):
        model_folder.read_metadata(folder)


def test_code_that_a_model_names_is_not_imported_unless_the_user_names_it(folder, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil_of_a_model.py").write_text("raise SystemExit('it was run')\n")
    fields = {"classifier.backbone": "backbone", "classifier.loss": "loss", "metric_logger": "logger"}
    for field, part in fields.items():
        change(folder, f"config.{field}", f"evil_of_a_model:{part}")
    change(
        folder, "plugins", {field: {"name": f"evil_of_a_model:{part}", "sha256": ""} for field, part in fields.items()}
    )
    with pytest.raises(ValueError, match="sha256 = '': must be a text of 1 to 64"):
        model_folder.read_metadata(folder)
    change(folder, "plugins", {})
    model_folder.write_manifest(folder)
    for allowed in ([], ["evil_of_a_model:loss"]):
        with pytest.raises(ValueError, match="code of its maker, 'evil_of_a_model:backbone'.*nothing was.*--plugin"):
            sf.SegFusion.load(folder, plugins=allowed)
    with pytest.raises(ValueError, match="cannot be imported .SystemExit: it was run"):
        sf.SegFusion.load(folder, plugins=["evil_of_a_model:backbone"])
