"""The collections as TFDS builders, used alone."""

import functools
import os
import pathlib
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow_datasets as tfds

from segfusion_jax import config
from segfusion_jax.datasets import builder, images, joining, shards
from segfusion_jax.datasets.images import Stored
from tests.datasets import official

WITHOUT_TENSORFLOW = """
import sys
from segfusion_jax import config
from segfusion_jax.datasets import builder, prepared
made = builder.Builder(config.Data(synthetic_images=20), data_dir=sys.argv[1])
made.download_and_prepare()
example = made.as_data_source("images")[7]
assert example["image"].shape == (144, 192, 3) and example["image_id"] == b"SYN_0000007"
opened = prepared.load_dataset("synthetic", records=sys.argv[1] + "/prepared", synthetic_images=100)
assert opened.read(7)[0][:2] == b"\\xff\\xd8"
assert not {"tensorflow", "jax"} & set(sys.modules)
"""


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("ham10000", official.write_ham10000),
        ("isic2019", official.write_isic2019),
        ("isic2020", official.write_isic2020),
    ],
)
def test_round_trip(tmp_path, name, write):
    ids = write(tmp_path / "official", 20)
    data = config.Data(collection=name, root=str(tmp_path / "official"))
    made = builder.Builder(data, data_dir=tmp_path / "records")
    made.download_and_prepare()
    assert list(made.info.splits) == ["images"] and not (tmp_path / "records/finished_shards").exists()
    source = stored(made.data_path)
    contents = joining.collect(data)
    assert [example["image_id"].decode() for example in source] == sorted(ids)
    for example, record in zip(source, contents.records, strict=True):
        kept = images.store(record, data)
        assert isinstance(kept, Stored) and kept.image == record.image.read()
        assert example["mask"] == (record.mask.read() if record.mask else b"")
        np.testing.assert_equal(float(example["age"]), record.age)
        for field in ("malignant", "lesion_id", "patient_id", "diagnosis", "sex", "site", "source", "confirmation"):
            assert text(example[field]) == getattr(record, field)
        for field in ("image", "width", "height", "file_bytes", "sha256", "perceptual_hash"):
            value = example[field] if field == "image" else text(example[field])
            assert value == getattr(kept, field)


def stored(folder: pathlib.Path):
    skip = {"image": tfds.decode.SkipDecoding()}
    return tfds.builder_from_directory(folder).as_data_source(split="images", decoders=skip)  # pyright: ignore[reportCallIssue]


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def tree(folder: os.PathLike) -> dict[str, bytes]:
    folder = pathlib.Path(str(folder))  # TFDS' own paths refuse rglob
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_problems_stop_the_builder_or_are_skipped(tmp_path):
    ids = official.write_isic2019(tmp_path / "official", 20)
    (tmp_path / f"official/ISIC_2019_Training_Input/{ids[3]}.jpg").write_bytes(b"")
    data = config.Data(collection="isic2019", root=str(tmp_path / "official"))
    with pytest.raises(ValueError, match=f"{ids[3]}: empty image file"):
        builder.Builder(data, data_dir=tmp_path / "a").download_and_prepare()
    skipping = config.Data(collection="isic2019", root=str(tmp_path / "official"), on_error="skip")
    made = builder.Builder(skipping, data_dir=tmp_path / "b")
    made.download_and_prepare()
    assert made.info.splits["images"].num_examples == 19
    assert [problem.image_id for problem in made.problems] == [ids[3]]
    assert ids[3].encode() not in [example["image_id"] for example in stored(made.data_path)]


def test_an_interrupted_preparation_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(builder, "SHARD_IMAGES", 5)
    data = config.Data(synthetic_images=23)
    undisturbed = builder.Builder(data, data_dir=tmp_path / "undisturbed")
    undisturbed.download_and_prepare()
    asked, store = [], images.store

    def counting(record, data, *, last=23):
        asked.append(record.image_id)
        if len(asked) == last:
            raise KeyboardInterrupt
        return store(record, data)

    monkeypatch.setattr(images, "store", functools.partial(counting, last=13))
    with pytest.raises(KeyboardInterrupt):
        builder.Builder(data, data_dir=tmp_path / "disturbed").download_and_prepare()
    done = len(list((tmp_path / "disturbed/finished_shards").iterdir()))
    assert done == 2
    asked.clear()
    monkeypatch.setattr(images, "store", counting)
    made = builder.Builder(data, data_dir=tmp_path / "disturbed")
    made.download_and_prepare()
    assert sorted(asked) == [f"SYN_{i:07d}" for i in range(5 * done, 23)]
    assert tree(made.data_path) == tree(undisturbed.data_path)


def test_after_mending_an_image_only_its_shard_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(builder, "SHARD_IMAGES", 5)
    ids = official.write_isic2019(tmp_path / "official", 20)
    data = config.Data(collection="isic2019", root=str(tmp_path / "official"))
    path = tmp_path / f"official/ISIC_2019_Training_Input/{ids[6]}.jpg"
    content = path.read_bytes()
    path.write_bytes(bytes(len(content)))  # of the same size
    with pytest.raises(ValueError, match=f"{ids[6]}: unreadable"):
        builder.Builder(data, data_dir=tmp_path / "a").download_and_prepare()
    path.write_bytes(content)
    asked, store = [], images.store
    monkeypatch.setattr(images, "store", lambda record, data: asked.append(record.image_id) or store(record, data))
    made = builder.Builder(data, data_dir=tmp_path / "a")
    made.download_and_prepare()
    assert sorted(asked) == sorted(ids)[5:10]
    assert made.info.splits["images"].num_examples == 20 and made.problems == ()


def test_shards_without_a_usable_image(tmp_path, monkeypatch):
    monkeypatch.setattr(builder, "SHARD_IMAGES", 5)
    ids = sorted(official.write_isic2019(tmp_path / "official", 20))
    for image_id in ids[5:10]:
        (tmp_path / f"official/ISIC_2019_Training_Input/{image_id}.jpg").write_bytes(b"")
    data = config.Data(collection="isic2019", root=str(tmp_path / "official"), on_error="skip")
    made = builder.Builder(data, data_dir=tmp_path / "a")
    made.download_and_prepare()
    assert [example["image_id"].decode() for example in stored(made.data_path)] == ids[:5] + ids[10:]


def test_in_threads_keeps_order_and_few_in_memory():
    waiting, most, lock = 0, 0, threading.Lock()

    def made(number: int) -> int:
        nonlocal waiting, most
        with lock:
            waiting += 1
            most = max(most, waiting)
        return number

    for number, result in enumerate(shards.in_threads(made, range(500))):
        assert number == result
        with lock:
            waiting -= 1
    assert most <= 4 * (os.cpu_count() or 1) + 2


def test_neither_tensorflow_nor_jax_is_needed(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
