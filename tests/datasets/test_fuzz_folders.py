"""Damaged tables, label maps and COCO files of anybody's folder: each ends as records, a problem, or a listed error.

Run as a program, with a number, it damages so many of each.
"""

import json
import pathlib
import sys
import tempfile

import numpy as np
import pytest

from segfusion_jax import config
from segfusion_jax.datasets.collections import image_folder
from segfusion_jax.datasets.files import Folder
from segfusion_jax.datasets.record import Problem, Record

DATA = config.Data(collection="image_folder")
WORDS = (
    *(
        b"\xff\xfe",
        b"\x00",
        b"sep=;\n",
        b"\xe4",
        b'"',
        b",",
        b";",
        b"\t",
        b"\r",
        b"\n\n",
        b"patient_id",
        b"Label,label",
    ),
    *(
        b"[columns]",
        b"[values.label]",
        b"=",
        b"[[",
        b"{}",
        b"null",
        b"-1",
        b"1e999",
        b"NaN",
        b"[]",
        b'"counts"',
        b"true",
    ),
    *(b"../", b"C:\\", b"?", b"0", b"99999999999999999999", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"[" * 2000),
)
TABLE = "Image;Diagnosis;Patient ID;Age;Mask;Split\n" + "".join(
    f"im{i};{('nv', 'mel', '?')[i % 3]};p{i // 2};{50 + i};{'m.png' if i == 4 else ''};{('train', 'test')[i % 2]}\n"
    for i in range(6)
)
LABEL_MAP = '[columns]\nimage = "Image"\nlabel = "Diagnosis"\n[values.label]\nnv = "nevus"\n"?" = ""\n'
COCO = {
    "images": [{"id": i, "file_name": f"im{i}.png", "height": 6, "width": 8} for i in range(3)],
    "annotations": [
        {"image_id": 0, "category_id": 1, "segmentation": [[1, 1, 6, 1, 6, 5, 1, 5]]},
        {"image_id": 1, "category_id": 1, "segmentation": {"counts": [5, 3, 40], "size": [6, 8]}},
        {"image_id": 2, "category_id": 1, "segmentation": {"counts": "53X1", "size": [6, 8]}},
    ],
    "categories": [{"id": 1, "name": "lesion"}],
}
FILES = {"labels.csv": TABLE.encode(), "labels.toml": LABEL_MAP.encode(), "annotations.json": json.dumps(COCO).encode()}


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        start, length = int(rng.integers(len(data) + 1)), int(rng.integers(1, 12))
        match rng.integers(4):
            case 0:
                del data[start : start + length]
            case 1:
                data[start:start] = WORDS[rng.integers(len(WORDS))]
            case 2:
                data[start : start + length] = WORDS[rng.integers(len(WORDS))]
            case _:
                data[start : start + 1] = bytes([rng.integers(256)])
    return bytes(data)


def outcome(root: pathlib.Path) -> str:
    try:
        found = image_folder.understand(Folder(root), DATA)
    except (ValueError, FileNotFoundError) as error:
        assert str(root) in str(error), error
        return "refused"
    assert all(isinstance(one, Record) for one in found.records)
    assert all(isinstance(one, Problem) for one in found.problems)
    for record in found.records:
        if record.mask is not None:
            try:
                record.mask.read()
            except ValueError:
                return "unreadable mask"
    return "problem" if found.problems else "read"


def outcomes(root: pathlib.Path, name: str, number: int, seed: int = 0) -> set[str]:
    rng = np.random.default_rng([seed, *name.encode()])
    for i in range(6):
        (root / f"im{i}.png").touch()
    (root / "m.png").touch()
    for other in {"labels.csv", name}:
        (root / other).write_bytes(FILES[other])
    found = {outcome(root)}
    for _ in range(number):
        (root / name).write_bytes(damaged(FILES[name], rng))
        found.add(outcome(root))
    return found


@pytest.mark.parametrize("name", FILES)
def test_damaged(tmp_path, name):
    assert {"read", "refused"} <= outcomes(tmp_path, name, 150)


if __name__ == "__main__":
    for one in FILES:
        with tempfile.TemporaryDirectory() as folder:
            print(one, outcomes(pathlib.Path(folder), one, int(sys.argv[1]), seed=1))
