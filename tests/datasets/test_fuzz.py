"""Damaged files: each ends as a stored image, a problem, or an error that says what is wrong; none crashes or hangs.

2,600 files are damaged by chance in one of several ways: bits flipped, bytes cut off, cut out, repeated, or zeroed.
"""

import faulthandler
import io
import pathlib
import zipfile

import h5py
import numpy as np
import pytest
from PIL import Image

from segfusion_jax import config
from segfusion_jax.datasets import images
from segfusion_jax.datasets.collections import READERS
from segfusion_jax.datasets.files import Folder, MemoryFile
from segfusion_jax.datasets.images import Stored
from segfusion_jax.datasets.record import Problem, Record
from tests.datasets import official

SECONDS = 60
"""After which a test that hangs is ended, with all stacks."""


@pytest.fixture(autouse=True)
def ended_when_hanging():
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    data = np.frombuffer(content, np.uint8).copy()
    start, length = rng.integers(len(data)), int(rng.integers(1, 64))
    match rng.integers(6):
        case 0:
            return data[:start].tobytes()
        case 1:
            return np.delete(data, slice(start, start + length)).tobytes()
        case 2:
            return np.insert(data, start, data[start : start + length]).tobytes()
        case 3:
            data[start : start + length] = 0
        case 4:
            data[start : start + length] = rng.integers(0, 256, len(data[start : start + length]))
        case _:
            places = rng.integers(len(data), size=rng.integers(1, 9))
            data[places] ^= (1 << rng.integers(0, 8, len(places))).astype(np.uint8)
    return data.tobytes()


def encoded(image: Image.Image, image_format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("image_format", ["JPEG", "progressive", "EXIF", "PNG", "palette", "BMP", "TIFF", "WEBP"])
def test_damaged_images(image_format):
    rng = np.random.default_rng(list(image_format.encode()))
    drawing = Image.open(io.BytesIO(official.drawn(1)[0].image.read())).resize((96, 72))
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = {
        "JPEG": lambda: encoded(drawing, "JPEG"),
        "progressive": lambda: encoded(drawing, "JPEG", progressive=True),
        "EXIF": lambda: encoded(drawing, "JPEG", exif=exif),
        "palette": lambda: encoded(drawing.convert("P"), "PNG"),
    }.get(image_format, lambda: encoded(drawing, image_format))()
    data = config.Data(size=(48, 48))
    stored = 0
    for _ in range(175):
        record = Record(image_id="a", image=MemoryFile("a", damaged(whole, rng)), source="x")
        result = images.store(record, data)
        assert isinstance(result, Stored | Problem)
        if isinstance(result, Stored):
            stored += 1
            with Image.open(io.BytesIO(result.image)) as image:
                image.load()
                assert image.mode == "RGB" and max(image.size) <= 48
        else:
            assert result.kind in (
                "unreadable image",
                "empty image file",
                "oversized image",
                "image of more than 8 bits a channel",
            )
    assert 0 < stored < 175  # a flipped bit of a pixel does no harm that could be seen


def test_damaged_masks():
    rng = np.random.default_rng(1)
    record = official.drawn(1)[0]
    assert record.mask is not None
    whole, kinds = record.mask.read(), set()
    for _ in range(300):
        damage = Record(image_id="a", image=record.image, mask=MemoryFile("m", damaged(whole, rng)), source="x")
        result = images.store(damage, config.Data())
        if isinstance(result, Stored):
            assert set(np.unique(np.asarray(Image.open(io.BytesIO(result.mask)))).tolist()) <= {0, 255}
        else:
            kinds.add(result.kind)
    assert "unreadable mask" in kinds
    refusals = {"unreadable mask", "empty mask file", "oversized mask", "mask of another frame than its image"}
    assert kinds <= refusals | {"mask whose lesion cannot be told"}


def read(root: pathlib.Path, name: str) -> str:
    """Reads a collection; returns the error's words, or "" if it was read."""
    try:
        records, problems = READERS[name].read(Folder(root), config.Data(collection=name))
    except (ValueError, FileNotFoundError) as error:
        assert str(root) in str(error)
        return str(error)
    assert all(isinstance(record, Record) for record in records)
    assert all(isinstance(problem, Problem) for problem in problems)
    return ""


@pytest.mark.parametrize(
    ("name", "write", "table"),
    [
        ("ham10000", official.write_ham10000, "HAM10000_metadata"),
        ("isic2019", official.write_isic2019, "ISIC_2019_Training_GroundTruth.csv"),
        ("isic2020", official.write_isic2020, "ISIC_2020_Training_GroundTruth_v2.csv"),
    ],
)
def test_damaged_tables(tmp_path, name, write, table):
    rng = np.random.default_rng(2)
    write(tmp_path, 8)
    whole = (tmp_path / table).read_bytes()
    for _ in range(150):
        (tmp_path / table).write_bytes(damaged(whole, rng))
        read(tmp_path, name)
    (tmp_path / table).write_bytes(whole)
    assert read(tmp_path, name) == ""


def test_damaged_archives(tmp_path):
    rng = np.random.default_rng(3)
    ids = official.write_ham10000(tmp_path, 4)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((tmp_path / "HAM10000_images_part_1").iterdir()):
            archive.write(path, path.name)
            path.unlink()
    (tmp_path / "HAM10000_images_part_1").rmdir()
    path, outcomes = tmp_path / "HAM10000_images_part_1.zip", set()
    for _ in range(300):
        path.write_bytes(damaged(buffer.getvalue(), rng))
        path.touch()
        if words := read(tmp_path, "ham10000"):
            outcomes.add("refused" if path.name in words else words)
            continue
        records, _ = READERS["ham10000"].read(Folder(tmp_path), config.Data(collection="ham10000"))
        results = [images.store(record, config.Data()) for record in records if record.image_id in ids[:2]]
        outcomes |= {type(result).__name__ for result in results}
    assert outcomes == {"refused", "Stored", "Problem"}


def test_damaged_hdf5(tmp_path):
    rng = np.random.default_rng(4)
    records = official.drawn(4)
    with h5py.File(tmp_path / "whole.hdf5", "w") as file:
        for i, record in enumerate(records):
            file.create_dataset(f"ISIC_{i:07d}", data=np.void(record.image.read()))
    columns = "isic_id,target,patient_id,age_approx,sex,anatom_site_general,lesion_id,"
    columns += "iddx_1,iddx_2,iddx_3,iddx_4,iddx_5,iddx_full"
    lines = [f"ISIC_{i:07d},{i % 2},IP_{i},50,male,head/neck,IL_{i},Benign,,Nevus,,,Nevus" for i in range(4)]
    (tmp_path / "train-metadata.csv").write_text("\n".join([columns, *lines]))
    whole = (tmp_path / "whole.hdf5").read_bytes()
    (tmp_path / "whole.hdf5").unlink()
    for _ in range(30):  # each is read in a process of its own
        (tmp_path / "train-image.hdf5").write_bytes(damaged(whole, rng))
        if read(tmp_path, "isic2024"):
            continue
        for record in READERS["isic2024"].read(Folder(tmp_path), config.Data(collection="isic2024"))[0]:
            assert isinstance(images.store(record, config.Data()), Stored | Problem)
