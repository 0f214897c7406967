"""Preparing and opening: what is written, what stops it, and what is never lost."""

import collections
import concurrent.futures
import csv
import dataclasses
import json
import math
import os
import pathlib
import pickle
import subprocess
import sys

import pytest
from tensorflow_datasets.core import writer

from segfusion_jax import config
from segfusion_jax.datasets import identity, images, prepared, table
from segfusion_jax.datasets.collections import synthetic
from segfusion_jax.datasets.files import Folder
from segfusion_jax.datasets.record import Problem
from tests.datasets import official

SPLITS = config.Splits(test_fraction=0.3, validation_fraction=0.3, num_folds=3)


def ham10000(tmp_path: pathlib.Path, **fields) -> config.Data:
    return config.Data(collection="ham10000", root=str(tmp_path / "official"), **fields)


def prepare(data: config.Data, tmp_path: pathlib.Path) -> prepared.Prepared:
    prepared.prepare(data, SPLITS, tmp_path / "records", tmp_path / "splits")
    return prepared.load(tmp_path / "records", tmp_path / "splits")


def tree(folder: pathlib.Path) -> dict[str, bytes]:
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "digests.csv")
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def fingerprint(data: config.Data) -> str:
    return prepared.contents(data, identity.Digests(pathlib.Path("nowhere"))).fingerprint


def contents(record) -> tuple[bytes, bytes]:
    return record.image.read(), record.mask.read() if record.mask else b""


@pytest.fixture
def broken(tmp_path):
    """HAM10000 with one image of every kind of damage; by id."""
    root = tmp_path / "official"
    ids = official.write_ham10000(root, 60)
    first = root / "HAM10000_images_part_1"
    (first / f"{ids[0]}.jpg").write_bytes(b"")
    (first / f"{ids[1]}.jpg").write_bytes((first / f"{ids[1]}.jpg").read_bytes()[:2000])
    (first / f"{ids[2]}.jpg").unlink()
    mask = root / f"HAM10000_segmentations_lesion_tschandl/{ids[3]}_segmentation.png"
    mask.write_bytes(mask.read_bytes()[:60])
    (first / "ISIC_0099999.jpg").write_bytes(b"x")
    return {
        ids[0]: "empty image file",
        ids[1]: "unreadable image",
        ids[2]: "metadata row without an image",
        ids[3]: "unreadable mask",
        "ISIC_0099999": "image without a metadata row",
    }


def test_rows_and_bytes_are_those_of_the_files(tmp_path):
    ids = official.write_ham10000(tmp_path / "official", 60)
    opened = prepare(ham10000(tmp_path), tmp_path)
    assert [row.image_id for row in opened.rows] == ids
    assert [row.position for row in opened.rows] == list(range(60))
    for row, drawn in zip(opened.rows, official.drawn(60), strict=True):
        assert opened.read(row.position) == contents(drawn)
        assert row.malignant == row.target == drawn.malignant and row.has_mask and row.source == "ham10000"
    assert math.isnan(opened.rows[1].age) and opened.rows[0].age == official.drawn(1)[0].age
    with (tmp_path / "splits/splits.csv").open() as file:
        assert next(csv.reader(file)) == [field.name for field in dataclasses.fields(table.Row)]
    facts = json.loads((tmp_path / "splits/audit.json").read_text())
    assert facts["images"] == 60 and facts["leaking"] is False
    assert (tmp_path / "records" / facts["records"] / "images.csv").exists()
    with pytest.raises(dataclasses.FrozenInstanceError):
        opened.rows[0].malignant = 1  # pyright: ignore[reportAttributeAccessIssue]


def test_what_models_saw_takes_no_part_nor_do_relatives(tmp_path, caplog):
    ids = official.write_ham10000(tmp_path / "official", 60)
    lesions = {image_id: record.lesion_id for image_id, record in zip(ids, official.drawn(60), strict=True)}
    part = table.Part("", "train", 0, "f" * 64)
    saw = {
        "one": [part._replace(image_id=ids[0]), part._replace(image_id=ids[9], split="test")],
        "two": [part._replace(image_id=ids[3], split="validation")],
        "nobody": [],
    }
    folders = ham10000(tmp_path), SPLITS, tmp_path / "records", tmp_path / "splits"
    prepared.prepare(*folders, saw=saw)
    rows = prepared.load(*folders[2:]).rows
    out = {image_id for image_id in ids if lesions[image_id] in (lesions[ids[0]], lesions[ids[3]])}
    assert {row.image_id for row in rows if row.split == "unused"} == out and ids[9] not in out
    assert len(rows) == 60 and {row.target for row in rows if row.image_id in out} == {-1}
    first, second, third = prepared.read_audit(folders[3])["seen"]
    assert first.startswith(f"{sum(lesions[i] == lesions[ids[0]] for i in ids)} of 60 images take no part, since the ")
    assert "of two was trained" in second and third.startswith("nobody knows what the model of nobody was trained on")
    assert {first, second, third} <= {record.getMessage() for record in caplog.records}
    with pytest.raises(ValueError, match=r"no image is left: 60 of 60 .* the model of one .* \(60 same id\)"):
        prepared.prepare(*folders, saw={"one": [part._replace(image_id=image_id) for image_id in ids]})
    most = [part._replace(image_id=image_id) for image_id in ids[:-3]]
    with pytest.raises(ValueError, match="are of .* group(.|\n)*images take no part, since the model of one"):
        prepared.prepare(*folders, saw={"one": most})


def test_groups_lie_in_one_split_and_fold(tmp_path):
    official.write_isic2020(tmp_path / "official", 80)
    data = config.Data(collection="isic2020", root=str(tmp_path / "official"))
    splits = dataclasses.replace(SPLITS, seed=1)
    prepared.prepare(data, splits, tmp_path / "records", tmp_path / "splits")
    rows = prepared.load(tmp_path / "records", tmp_path / "splits").rows
    for key in ("group", "patient_id", "lesion_id"):
        places = collections.defaultdict(set)
        for row in rows:
            places[getattr(row, key)] |= {(row.split, row.fold)} - {("unused", -1)}
        assert all(len(place) == 1 for place in places.values())
    assert rows[-1].group == rows[-2].group  # published as duplicates
    assert {row.split for row in rows} == {"train", "validation", "test", "unused"}
    assert [row.split for row in rows].count("unused") == 1


def test_equal_pictures_share_a_group(tmp_path):
    ids = official.write_ham10000(tmp_path / "official", 60)
    folder = tmp_path / "official/HAM10000_images_part_2"
    (folder / f"{ids[50]}.jpg").write_bytes((folder / f"{ids[40]}.jpg").read_bytes())
    rows = prepare(ham10000(tmp_path), tmp_path).rows
    assert rows[50].group == rows[40].group and rows[50].lesion_id != rows[40].lesion_id
    assert "unused" in {rows[50].split, rows[40].split}


def test_published_pairs_of_one_lesion_share_a_group(tmp_path):
    ids = official.write_ham10000(tmp_path / "official", 60)
    lines = [
        "similarity,from_img,to_img",
        f"0.98,{ids[50]}.jpg,{ids[40]}.jpg",
        "0.97,ISIC_9999999.jpg,ISIC_9999998.jpg",
    ]
    (tmp_path / "official/newly_discovered_duplicates.csv").write_text("\n".join(lines))
    rows = prepare(ham10000(tmp_path), tmp_path).rows
    assert rows[50].group == rows[40].group and rows[50].picture != rows[40].picture
    assert "unused" not in {row.split for row in rows}


def test_unusable_images_stop_it_by_default(tmp_path, broken):
    with pytest.raises(ValueError) as error:
        prepare(ham10000(tmp_path), tmp_path)
    for image_id, kind in broken.items():
        assert f"{image_id}: {kind}" in str(error.value) and f"1 x {kind}" in str(error.value)
    assert "5 images cannot be used" in str(error.value) and "on_error=skip" in str(error.value)
    assert "problems.csv" in str(error.value)
    listed = (tmp_path / "splits/problems.csv").read_text()
    assert all(image_id in listed for image_id in broken)
    assert not list((tmp_path / "records").rglob("images.csv")) and not (tmp_path / "splits/splits.csv").exists()


def test_unusable_images_can_be_skipped(tmp_path, broken):
    opened = prepare(ham10000(tmp_path, on_error="skip"), tmp_path)
    assert len(opened.rows) == 60 - 4 and not {row.image_id for row in opened.rows} & set(broken)
    drawn = {f"ISIC_{24306 + i:07d}": record for i, record in enumerate(official.drawn(60))}
    for row in opened.rows:
        assert opened.read(row.position)[0] == drawn[row.image_id].image.read()
    facts = json.loads((tmp_path / "splits/audit.json").read_text())
    assert facts["left_out"] == dict.fromkeys(broken.values(), 1)
    with pytest.raises(ValueError, match="5 images cannot be used"):  # though the records are there
        prepare(ham10000(tmp_path), tmp_path)


def test_a_long_list_of_problems_is_cut(tmp_path):
    ids = official.write_ham10000(tmp_path / "official", 60)
    for path in (tmp_path / "official/HAM10000_images_part_1").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="30 x empty image file") as error:
        prepare(ham10000(tmp_path), tmp_path)
    assert ids[19] in str(error.value) and ids[20] not in str(error.value)
    assert ids[29] in (tmp_path / "splits/problems.csv").read_text()


def test_a_missing_folder_is_explained(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGFUSION_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="10.7910/DVN/DBW86T.*--config.data.root="):
        prepare(config.Data(collection="ham10000"), tmp_path)
    with pytest.raises(FileNotFoundError, match="folder nowhere"):
        prepare(config.Data(collection="isic2020", root="nowhere"), tmp_path)


def test_what_was_written_before_outlives_a_failure(tmp_path, monkeypatch):
    ids = official.write_ham10000(tmp_path / "official", 60)
    prepare(ham10000(tmp_path), tmp_path)
    before = {name: tree(tmp_path / name) for name in ("records", "splits")}
    image = tmp_path / f"official/HAM10000_images_part_1/{ids[0]}.jpg"
    content = image.read_bytes()
    image.write_bytes(content[:1000])
    with pytest.raises(ValueError, match="unreadable image"):
        prepare(ham10000(tmp_path), tmp_path)
    assert before["records"].items() <= tree(tmp_path / "records").items()
    assert {**tree(tmp_path / "splits"), "problems.csv": b""} == {**before["splits"], "problems.csv": b""}
    image.write_bytes(content + b"\0")
    monkeypatch.setattr(prepared.table, "write_rows", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        prepare(ham10000(tmp_path), tmp_path)
    monkeypatch.undo()
    assert before["records"].items() <= tree(tmp_path / "records").items()
    assert prepared.load(tmp_path / "records", tmp_path / "splits").read(0)[0] == content
    assert prepare(ham10000(tmp_path), tmp_path).read(0)[0] == content + b"\0"


def test_a_file_replaced_by_one_of_the_same_size_is_noticed(tmp_path):
    ids = official.write_ham10000(tmp_path / "official", 60)
    prepare(ham10000(tmp_path), tmp_path)
    path = tmp_path / f"official/HAM10000_images_part_1/{ids[0]}.jpg"
    content = path.read_bytes()
    path.write_bytes(bytes(len(content)))
    with pytest.raises(ValueError, match=f"{ids[0]}: unreadable image"):
        prepare(ham10000(tmp_path), tmp_path)


def test_records_are_reused_for_the_same_input_only(tmp_path, monkeypatch):
    official.write_ham10000(tmp_path / "official", 60)
    prepare(ham10000(tmp_path), tmp_path)
    monkeypatch.setattr(images, "store", lambda *_: pytest.fail("built again"))
    other = dataclasses.replace(SPLITS, seed=5)
    prepared.prepare(ham10000(tmp_path), other, tmp_path / "records", tmp_path / "other")
    assert (tmp_path / "other/splits.csv").read_bytes() != (tmp_path / "splits/splits.csv").read_bytes()
    with pytest.raises(pytest.fail.Exception, match="built again"):
        prepare(ham10000(tmp_path, size=(64, 64)), tmp_path)


def test_the_fingerprint_sees_every_input(tmp_path):
    ids = official.write_ham10000(tmp_path / "official", 20)
    seen = {fingerprint(ham10000(tmp_path))}
    assert fingerprint(ham10000(tmp_path, on_error="skip", target="melanoma")) in seen
    seen |= {
        fingerprint(ham10000(tmp_path, **{name: value}))
        for name, value in (("aspect", "crop"), ("resampling", "lanczos"))
    }
    seen.add(fingerprint(ham10000(tmp_path, size=(64, 64))))
    (tmp_path / f"official/HAM10000_images_part_1/{ids[0]}.jpg").write_bytes(b"longer or shorter")
    seen.add(fingerprint(ham10000(tmp_path)))
    table = tmp_path / "official/HAM10000_metadata"
    table.write_bytes(table.read_bytes().replace(b"\tnv\t", b"\tdf\t", 1))
    seen.add(fingerprint(ham10000(tmp_path)))
    for mask in (tmp_path / "official/HAM10000_segmentations_lesion_tschandl").iterdir():
        mask.unlink()
    seen.add(fingerprint(ham10000(tmp_path)))
    seen |= {fingerprint(config.Data(synthetic_seed=seed)) for seed in (0, 1)}
    seen.add(fingerprint(config.Data(synthetic_images=30)))
    assert len(seen) == 10


def test_masks_of_another_collection(tmp_path):
    official.write_ham10000(tmp_path / "ham", 80)
    ids = official.write_isic2019(tmp_path / "isic", 60)
    isic, ham = str(tmp_path / "isic"), str(tmp_path / "ham")
    data = config.Data(collection="isic2019", root=isic, collections={"ham10000": config.Source(root=ham, use="masks")})
    opened = prepare(data, tmp_path)
    by_id = {row.image_id: row for row in opened.rows}
    drawn = official.drawn(80)
    for i, image_id in enumerate(ids):
        row = by_id[image_id]
        assert (row.source, row.malignant) == ("isic2019", drawn[i].malignant)
        assert row.has_mask == ("_downsampled" not in image_id)
        if row.has_mask:  # where ISIC 2019 names no lesion, HAM10000 does
            assert row.lesion_id == f"HAM_{drawn[i].lesion_id[-7:]}"
        assert opened.read(row.position)[1] == (contents(drawn[i])[1] if row.has_mask else b"")
    masks_only = [row for row in opened.rows if row.source == "ham10000"]
    assert len(masks_only) == 80 - sum("_downsampled" not in image_id for image_id in ids)
    assert all(row.malignant == row.target == -1 and row.has_mask for row in masks_only)
    assert by_id["ISIC_0024308"].group == by_id["ISIC_0024308_downsampled"].group


def test_a_split_without_a_class_is_refused(tmp_path):
    official.write_ham10000(tmp_path / "official", 60)
    table = tmp_path / "official/HAM10000_metadata"
    table.write_bytes(table.read_bytes().replace(b"\tmel\t", b"\tnv\t"))
    with pytest.raises(ValueError, match="no image is malignant, 60 benign: both kinds are needed"):
        prepare(ham10000(tmp_path), tmp_path)


def test_opening_what_was_not_prepared(tmp_path):
    with pytest.raises(FileNotFoundError, match="prepare"):
        prepared.load(tmp_path / "records", tmp_path / "splits")


def test_load_dataset_in_threads_and_other_processes(tmp_path):
    opened = prepared.load_dataset("synthetic", records=str(tmp_path), synthetic_images=120)
    drawn, _ = synthetic.read(Folder(tmp_path), config.Data(synthetic_images=120))
    expected = [contents(record) for record in drawn]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(opened.read, list(range(120)) * 5)) == expected * 5
    copy = pickle.loads(pickle.dumps(opened))
    assert copy.read(77) == expected[77] and copy.rows[77].image_id == "SYN_0000077"
    assert [row.age for row in opened.rows] == [record.age for record in drawn]


def test_two_processes_prepare_once(tmp_path):
    code = (
        "import pathlib, sys; from segfusion_jax import config; from segfusion_jax.datasets import prepared; "
        "folder = pathlib.Path(sys.argv[1]); data = config.Data(synthetic_images=300); "
        "prepared.prepare(data, config.Splits(), folder / 'records', folder / sys.argv[2]); "
        "print(len(prepared.load(folder / 'records', folder / sys.argv[2]).rows))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name], env=environment, stdout=subprocess.PIPE)
        for name in ("one", "other")
    ]
    assert [process.communicate(timeout=100)[0].strip() for process in started] == [b"300", b"300"]
    assert len(list((tmp_path / "records").rglob("images.csv"))) == 1
    assert (tmp_path / "one/splits.csv").read_bytes() == (tmp_path / "other/splits.csv").read_bytes()


def test_targets_follow_the_config(tmp_path):
    official.write_ham10000(tmp_path / "official", 60)
    opened = prepare(ham10000(tmp_path, target="diagnosis"), tmp_path)
    facts = json.loads((tmp_path / "splits/audit.json").read_text())
    assert facts["classes"] == ["melanoma", "nevus"]
    assert all(facts["classes"][row.target] == row.diagnosis for row in opened.rows)


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_an_image_that_can_be_read_later_is_not_lost(tmp_path, monkeypatch, on_error):
    ids = official.write_ham10000(tmp_path / "official", 60)
    store, failed = images.store, []

    def once(record, data):
        if record.image_id == ids[5] and not failed:
            failed.append(record.image_id)
            return Problem(record.image_id, "unreadable image: [Errno 5] Input/output error")
        return store(record, data)

    monkeypatch.setattr(images, "store", once)
    with pytest.raises(OSError, match="changed while they were prepared; start again"):
        prepare(ham10000(tmp_path, on_error=on_error), tmp_path)
    assert len(prepare(ham10000(tmp_path, on_error=on_error), tmp_path).rows) == 60


def test_shards_are_kept_until_the_tables_are_written(tmp_path, monkeypatch):
    official.write_ham10000(tmp_path / "official", 60)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(prepared, "joined", interrupt)
        prepare(ham10000(tmp_path), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(images, "store", interrupt)
        assert len(prepare(ham10000(tmp_path), tmp_path).rows) == 60
    assert not (tmp_path / "records/finished_shards").exists()


def interrupt(*_):
    raise KeyboardInterrupt


def test_records_that_are_complete_are_not_written_to(tmp_path):
    official.write_ham10000(tmp_path / "official", 60)
    prepare(ham10000(tmp_path), tmp_path)
    (lock,) = (tmp_path / "records").glob("*.lock")
    lock.unlink()
    before = tree(tmp_path / "records")
    prepare(ham10000(tmp_path), tmp_path)
    assert tree(tmp_path / "records") == before


def test_a_full_disk_is_an_error_of_the_system(tmp_path, monkeypatch):
    official.write_ham10000(tmp_path / "official", 60)

    def full(*_):
        raise RuntimeError("write() failed: No space left on device")

    monkeypatch.setattr(writer.ExampleWriter, "write", full)
    with pytest.raises(OSError, match="array_record.* cannot be written: write.* No space left"):
        prepare(ham10000(tmp_path), tmp_path)


def test_load_dataset_with_other_fields_does_not_disturb(tmp_path):
    first = prepared.load_dataset("synthetic", records=str(tmp_path), synthetic_images=100)
    second = prepared.load_dataset("synthetic", records=str(tmp_path), synthetic_images=120)
    again = prepared.load_dataset("synthetic", records=str(tmp_path), synthetic_images=100)
    assert (len(first.rows), len(second.rows)) == (100, 120) and again.rows == first.rows
