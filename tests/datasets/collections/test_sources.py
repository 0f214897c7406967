"""What every source has."""

import pytest

from segfusion_jax import config
from segfusion_jax.datasets import taxonomy
from segfusion_jax.datasets.collections import READERS
from segfusion_jax.datasets.files import Folder
from tests.datasets import official

WRITERS = {
    "ham10000": official.write_ham10000,
    "isic2017": official.write_isic2017,
    "isic2018": lambda folder: official.write_isic2018_task3(folder, {"Training": ["ISIC_0000001", "ISIC_0000002"]}),
    "isic2019": official.write_isic2019,
    "isic2020": official.write_isic2020,
    "isic2024": official.write_isic2024,
    "ph2": official.write_ph2,
    "image_folder": official.write_image_folder,
}


def test_every_collection_of_the_config_has_one():
    assert tuple(READERS) == config.COLLECTIONS
    assert set(WRITERS) == set(READERS) - {"synthetic"}


@pytest.mark.parametrize("name", READERS)
def test_contract(tmp_path, name):
    source = READERS[name]
    assert source.TITLE and source.ADDRESS
    if name in WRITERS:
        WRITERS[name](tmp_path)
    records, problems = source.read(Folder(tmp_path), config.Data(collection=name, synthetic_images=20))
    assert records and problems == []
    assert len({record.image_id for record in records}) == len(records)
    for record in records:
        assert record.source == name
        assert record.diagnosis in ("", *taxonomy.DIAGNOSES, *taxonomy.RESTS)
        assert record.malignant in (-1, 0, 1) and record.sex in ("", "female", "male")
        assert record.partition in ("", "train", "validation", "test")
        assert (record.image.size > 0 or name == "synthetic") and record.image.read()


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_opens_no_image(tmp_path, name):
    WRITERS[name](tmp_path)
    for path in tmp_path.rglob("*"):
        if path.suffix in (".jpg", ".png", ".bmp"):
            path.write_bytes(b"no image")
    assert READERS[name].read(Folder(tmp_path), config.Data(collection=name))[1] == []


@pytest.mark.parametrize("name", sorted(WRITERS.keys() - {"image_folder"}))  # which is not searched
def test_a_damaged_archive_among_the_files_is_named(tmp_path, name):
    WRITERS[name](tmp_path)
    (tmp_path / "half.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match="half.zip: no readable zip archive"):
        READERS[name].read(Folder(tmp_path), config.Data(collection=name))
