"""The collections as TFDS builders, used alone."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from segfusion_jax import config
from segfusion_jax.datasets import builder, collection
from tests.datasets import official

WITHOUT_TENSORFLOW = """
import sys, types
room = types.ModuleType("segfusion_jax")
room.__path__ = [sys.argv[2]]  # the room alone: the package's own __init__ may import jax
sys.modules["segfusion_jax"] = room
from segfusion_jax import config
from segfusion_jax.datasets import builder, prepared
made = builder.Synthetic(data_dir=sys.argv[1], data=config.Data(synthetic_images=20))
made.download_and_prepare()
example = made.as_data_source("images")[7]
assert example["image"].shape == (144, 192, 3) and example["image_id"] == b"SYN_0000007"
opened = prepared.load_dataset("synthetic", records=sys.argv[1] + "/prepared", synthetic_images=100)
assert opened.read(7)[0][:2] == b"\\xff\\xd8"
assert not {"tensorflow", "jax"} & set(sys.modules)
"""


@pytest.mark.parametrize(
    ("cls", "write"),
    [
        (builder.Ham10000, official.write_ham10000),
        (builder.Isic2019, official.write_isic2019),
        (builder.Isic2020, official.write_isic2020),
    ],
)
def test_round_trip(tmp_path, cls, write):
    ids = write(tmp_path / "official", 20)
    data = config.Data(collection=cls.COLLECTION, root=str(tmp_path / "official"))
    made = cls(data_dir=tmp_path / "records", data=data)
    made.download_and_prepare()
    assert list(made.info.splits) == ["images"]
    skip = {"image": tfds.decode.SkipDecoding()}
    source = tfds.builder_from_directory(made.data_path).as_data_source(split="images", decoders=skip)  # pyright: ignore[reportCallIssue]
    contents = collection.collect(data)
    assert [example["image_id"].decode() for example in source] == sorted(ids)
    for example, record, group in zip(source, contents.records, contents.groups, strict=True):
        assert example["image"] == pathlib.Path(str(record.image)).read_bytes()
        assert example["mask"] == (pathlib.Path(str(record.mask)).read_bytes() if record.mask else b"")
        assert example["group"].decode() == group
        np.testing.assert_equal(float(example["age"]), record.age)
        for name in ("malignant", "lesion_id", "patient_id", "diagnosis", "sex", "site", "source"):
            stored = example[name]
            assert (stored.decode() if isinstance(stored, bytes) else stored) == getattr(record, name)


def test_problems_stop_the_builder_or_are_skipped(tmp_path):
    ids = official.write_isic2019(tmp_path / "official", 20)
    (tmp_path / f"official/ISIC_2019_Training_Input/{ids[3]}.jpg").write_bytes(b"")
    data = config.Data(collection="isic2019", root=str(tmp_path / "official"))
    with pytest.raises(ValueError, match=f"{ids[3]}: empty image file"):
        builder.Isic2019(data_dir=tmp_path / "a", data=data).download_and_prepare()
    skipping = config.Data(collection="isic2019", root=str(tmp_path / "official"), on_error="skip")
    made = builder.Isic2019(data_dir=tmp_path / "b", data=skipping)
    made.download_and_prepare()
    assert made.info.splits["images"].num_examples == 19


def test_another_collection_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'synthetic': must be 'ham10000'"):
        builder.Ham10000(data_dir=tmp_path, data=config.Data())


def test_neither_tensorflow_nor_jax_is_needed(tmp_path):
    package = str(pathlib.Path(builder.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW, str(tmp_path), package]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
