"""Names that look alike are alike, whichever way Unicode spells them."""

import dataclasses
import unicodedata

import pytest

from segfusion_jax import config
from segfusion_jax.datasets import table
from segfusion_jax.datasets.collections import image_folder
from segfusion_jax.datasets.files import Folder
from segfusion_jax.datasets.splits import deal
from tests.datasets import official

KNOWN = {field.name for field in dataclasses.fields(table.Row)}
NAMES = ("Läsion_é1", "Ångström")


def spelled(form: str, text: str) -> str:
    return unicodedata.normalize(form, text)


def write(root, *, files: str, tables: str, masks: bool = True):
    """A folder of two images whose names are spelled in one way, and its table in another."""
    (root / spelled(files, "Müller")).mkdir(parents=True)
    drawn = official.drawn(2)
    lines = ["image,Größe,label"]
    for name, record in zip(NAMES, drawn, strict=True):
        (root / spelled(files, "Müller") / f"{spelled(files, name)}.jpg").write_bytes(record.image.read())
        lines.append(f"Müller/{name}.jpg,1,{record.malignant}")
        if masks:
            (root / "masks").mkdir(exist_ok=True)
            assert record.mask is not None
            (root / "masks" / f"{spelled(tables, name)}.png").write_bytes(record.mask.read())
    (root / "labels.csv").write_text(spelled(tables, "\n".join(lines)) + "\n")
    return Folder(root)


@pytest.mark.parametrize(("files", "tables"), [("NFD", "NFC"), ("NFC", "NFD"), ("NFD", "NFD"), ("NFC", "NFC")])
def test_tables_masks_and_files_meet(tmp_path, files, tables):
    found = image_folder.understand(write(tmp_path, files=files, tables=tables), config.Data(collection="image_folder"))
    assert not found.problems
    assert sorted(record.image_id for record in found.records) == sorted(NAMES)
    assert all(record.mask is not None and record.image.read()[:2] == b"\xff\xd8" for record in found.records)


def test_a_column_that_is_named_in_another_spelling(tmp_path):
    root = write(tmp_path, files="NFC", tables="NFD")
    data = config.Data(collection="image_folder", group=spelled("NFC", "Größe"))
    assert {record.patient_id for record in image_folder.understand(root, data).records} == {"group:1"}


def test_a_split_in_another_spelling(tmp_path):
    records = image_folder.understand(
        write(tmp_path / "data", files="NFD", tables="NFC"), config.Data(collection="image_folder")
    ).records
    path = tmp_path / "split.csv"
    path.write_text(spelled("NFD", f"image_id,split\n{NAMES[0]},test\n{NAMES[1]},train\n"))
    facts = {"width": 1, "height": 1, "file_bytes": 1, "perceptual_hash": "", "has_mask": True}
    rows = [
        table.Row(
            position=place,
            sha256=str(place),
            group=record.image_id,
            picture=record.image_id,
            lookalike=record.image_id,
            cut=record.image_id,
            target=record.malignant,
            **facts,
            **{name: value for name, value in vars(record).items() if name in KNOWN},
        )
        for place, record in enumerate(records)
    ]
    dealt = {
        row.image_id: row.split for row in deal(rows, config.Splits(table=str(path)), {"image_folder": config.Source()})
    }
    assert dealt == {NAMES[0]: "test", NAMES[1]: "train"}


def test_two_files_that_look_alike_are_refused(tmp_path):
    root = write(tmp_path, files="NFC", tables="NFC", masks=False)
    (tmp_path / "Müller" / f"{spelled('NFD', NAMES[0])}.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match="'Müller/Läsion_é1.jpg' is there twice, spelled in two ways of Unicode"):
        image_folder.understand(root, config.Data(collection="image_folder"))
