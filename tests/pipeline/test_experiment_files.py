"""What a config names: what a run says when the content of files changes under their names, and when only names do."""

import dataclasses
import json
import os
import re
import shutil

import pytest

from segfusion_jax.datasets import identity, images
from segfusion_jax.pipeline import dependence, experiment
from segfusion_jax.pipeline.run import Run
from tests import tiny
from tests.datasets import official


@pytest.fixture
def idle(monkeypatch):
    """Stages that do nothing but the first."""
    stages = {name: perform if name == "prepare" else lambda _: None for name, perform in experiment.STAGES.items()}
    monkeypatch.setattr(experiment, "STAGES", stages)
    monkeypatch.setattr(experiment, "_check_weights", lambda config: None)  # any bytes will do


def prepare(tmp_path, root="official", **fields):
    config = tiny.config("ham10000", data__root=str(root), **fields)
    return experiment.run(config, tmp_path / "run", ["prepare"])


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A folder `official` in the working directory, prepared; returns the ids of its images."""
    monkeypatch.chdir(tmp_path)
    ids = official.write_ham10000(tmp_path / "official", 60)
    prepare(tmp_path)
    return ids


@pytest.mark.parametrize(
    ("field", "again"),
    [
        ("splits__table", "prepare, segment, classify, evaluate, report would run again"),
        ("segmenter__pretrained", "segment, classify, evaluate, report would run again; prepare would be taken over"),
        ("classifier__pretrained", "classify, evaluate, report would run again; prepare, segment would be taken over"),
    ],
)
def test_a_file_that_changes_under_its_name_is_refused(tmp_path, monkeypatch, idle, field, again):
    encoder = {"segmenter__encoder": "mobilenet_v3_small"} if field.startswith("segmenter") else {}
    content = "image_id,split\nSYN_0000000,train\n" if field == "splits__table" else "one\n"
    config = tiny.config(**encoder, **{field: str(tmp_path / "file")})
    (tmp_path / "file").write_text(content)
    stages = ["prepare", *dependence.TRAINED, "evaluate", "report"]
    monkeypatch.setattr(experiment, "_needed", lambda config, name: [])
    experiment.run(config, tmp_path / "run", stages)
    before = tiny.tree(tmp_path / "run")
    (tmp_path / "file").write_text(content + "\n")
    message = (
        f"was made of other files: the file of {field.replace('__', '.')} changed. {again}. Give another --workdir"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        experiment.run(config, tmp_path / "run", stages)
    (tmp_path / "file").write_text(content)
    experiment.run(config, tmp_path / "run", stages)
    assert tiny.tree(tmp_path / "run") == before
    (tmp_path / "file").rename(tmp_path / "moved")
    other = tiny.config(**encoder, **{field: str(tmp_path / "moved")})
    experiment.run(other, tmp_path / "run", stages)


def test_the_same_images_under_another_spelling_are_the_same(tmp_path, data, monkeypatch):
    monkeypatch.setattr(images, "store", lambda *_: pytest.fail("prepared again"))
    before = tiny.tree(tmp_path / "run/prepare")
    (tmp_path / "link").symlink_to(tmp_path / "official")
    for root in (
        tmp_path / "official",
        f"{tmp_path}/official/",
        "./official",
        "link",
        "../" + tmp_path.name + "/link/",
    ):
        prepare(tmp_path, root)
    shutil.copytree(tmp_path / "official", tmp_path / "elsewhere")  # keeps times
    (tmp_path / "official").rename(tmp_path / "moved")
    for path in (tmp_path / "elsewhere").rglob("*.jpg"):
        os.utime(path)
    for root in ("moved", "elsewhere"):
        prepare(tmp_path, root)
    assert tiny.tree(tmp_path / "run/prepare") == before
    (tmp_path / "link").unlink()
    experiment.run(
        tiny.config("ham10000", data__root="moved"), tmp_path / "other", ["prepare"], reuse=[tmp_path / "run"]
    )


def test_each_file_is_read_once_before_it_is_prepared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    official.write_ham10000(tmp_path / "official", 60)
    read = []
    digest = identity._digest
    monkeypatch.setattr(identity, "_digest", lambda file: read.append(file.path) or digest(file))
    prepare(tmp_path)
    assert len(read) == len(set(read)) > 60


def test_unchanged_files_are_not_read_again(tmp_path, data, monkeypatch):
    read = []
    digest = identity._digest
    monkeypatch.setattr(identity, "_digest", lambda file: read.append(file.path.name) or digest(file))
    prepare(tmp_path)
    assert read == []
    touched = tmp_path / f"official/HAM10000_images_part_1/{data[3]}.jpg"
    os.utime(touched)
    prepare(tmp_path)
    assert read == [touched.name]


def test_what_changed_in_the_images_is_named(tmp_path, data):
    before = tiny.tree(tmp_path / "run")
    folder = tmp_path / "official/HAM10000_images_part_1"
    (folder / f"{data[0]}.jpg").write_bytes((folder / f"{data[1]}.jpg").read_bytes())
    (folder / f"{data[2]}.jpg").unlink()
    table = tmp_path / "official/HAM10000_metadata"
    lines = table.read_text().splitlines()
    kept = [line for line in lines if data[2] not in line]
    kept = [re.sub(r"\t(mel|nv)\t", "\tdf\t", line) if data[5] in line or data[6] in line else line for line in kept]
    table.write_text("\n".join(kept) + "\n")
    (tmp_path / f"official/HAM10000_segmentations_lesion_tschandl/{data[7]}_segmentation.png").unlink()
    with pytest.raises(ValueError) as error:
        prepare(tmp_path)
    assert f"1 went: {data[2]}; 1 with another image: {data[0]}; 1 with another mask: {data[7]}" in str(error.value)
    assert f"2 with another diagnosis: {data[5]}, {data[6]}" in str(error.value)
    assert tiny.tree(tmp_path / "run") == before


def test_a_record_store_is_found_from_anywhere(tmp_path, data, monkeypatch):
    prepared = experiment.run(
        tiny.config("ham10000", data__root="official", data__records="store"), tmp_path / "run2", ["prepare"]
    )
    assert (tmp_path / "store").is_dir()
    written = json.loads((tmp_path / "run2/config.json").read_text())["config"]["data"]["records"]
    assert written == str(tmp_path / "store")
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    config = tiny.config("ham10000", data__root="../official", data__records="store")
    again = experiment.run(config, tmp_path / "run2", ["prepare"])
    assert again.prepared.read(3) == prepared.prepared.read(3)
    (tmp_path / "store").rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match="is not in .*inner/store nor in .*/store: name the folder"):
        _ = experiment.Run(config, tmp_path / "run2").prepared
    moved = dataclasses.replace(config, data=dataclasses.replace(config.data, records="../moved"))
    assert experiment.run(moved, tmp_path / "run2", ["prepare"]).prepared.read(3) == again.prepared.read(3)


def test_images_without_masks_can_be_prepared_and_are_refused_where_something_needs_masks(tmp_path):
    official.write_ham10000(tmp_path / "images", 40, kaggle=True)
    config = tiny.config("ham10000", data__root=str(tmp_path / "images"))
    for stages in (("prepare", "segment"), tuple(experiment.STAGES)):
        with pytest.raises(ValueError, match="none of the 40 images has an annotated mask.*bridge.mode=none"):
            experiment.run(config, tmp_path / "refused", stages)
    assert not Run(config, tmp_path / "refused").is_prepared  # so that the remedy works in the same workdir
    assert experiment.run(config, tmp_path / "prepared", ("prepare",)).is_prepared
    with pytest.raises(ValueError, match="none of the 40 images has an annotated mask"):
        experiment.run(config, tmp_path / "prepared")
    assert not (tmp_path / "prepared/classify").exists()
