"""What is said of images before anything is trained: in the log, and in the audit."""

import json

import pytest

from segfusion_jax.datasets.prepared import load_dataset
from tests.datasets import official


def test_a_folder_that_cannot_be_written_says_what_to_do(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot be written .*--records.* or set XDG_CACHE_HOME"):
        load_dataset("synthetic", synthetic_images=20, records=str(tmp_path / "file/records"))


def test_where_the_cache_cannot_be_written_a_temporary_folder_serves(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(load_dataset("synthetic", synthetic_images=40).rows) == 40
    assert caplog.text.count("the cache cannot be used, a temporary folder stands for it") == 1


def test_what_was_not_read_is_in_the_audit_and_in_the_log(tmp_path, caplog):
    root = tmp_path / "mine"
    official.write_image_folder(root)
    for i in range(12):
        (root / f"note{i}.txt").touch()
    assert load_dataset("image_folder", root=str(root), records=str(tmp_path / "records")).rows
    [path] = (tmp_path / "records/splits").glob("*/audit.json")
    found = json.loads(path.read_text())
    told = found["passed_over"]["files that are no images"]
    assert told == {"count": 12, "first": sorted(f"note{i}.txt" for i in range(12))[:10]}
    assert any("table labels.csv in UTF-8, 12 rows" in sentence for sentence in found["read_as"])
    assert "not read: 12 files that are no images: note0.txt" in caplog.text and ", ..." in caplog.text
    assert found["classified_tests"] == found["splits"]["test"]["images"] and found["known"]["patient"] == 12
