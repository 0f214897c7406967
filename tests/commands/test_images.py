import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from segfusion_jax.commands import images


@pytest.fixture
def photos(tmp_path) -> pathlib.Path:
    folder = tmp_path / "photos"
    for name in ("b.jpg", "a.PNG", "in/a.png", "in/deeper/c.tiff", ".hidden/d.png", "out/masks/a.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (200, 10, 30)).save(folder / name)
    (folder / "._b.jpg").write_bytes(b"of another system")
    (folder / "notes.txt").write_text("no image")
    return folder


def found(photos, *named: str) -> list[str]:
    paths = images.find([str(photos / name) for name in named], without=photos / "out")
    return [str(path.relative_to(photos)) for path in paths]


def test_a_folder_is_searched_in_depth_but_neither_hidden_files_nor_the_results(photos):
    assert found(photos, "") == ["a.PNG", "b.jpg", "in/a.png", "in/deeper/c.tiff"]


def test_patterns_files_and_folders_mix_and_each_file_counts_once(photos):
    assert found(photos, "in/a.png", "*.jpg", "**/*.png", "[io]*") == ["in/a.png", "b.jpg", "in/deeper/c.tiff"]
    assert found(photos, "b.jpg", "", "in/../b.jpg")[0] == "b.jpg" and len(found(photos, "b.jpg", "")) == 4
    os.symlink(photos / "b.jpg", photos / "z.jpg")
    assert "z.jpg" not in found(photos, "")
    assert found(photos, "notes.txt") == ["notes.txt"]  # who names a file means it


def test_an_earlier_commands_results_are_no_photos(photos):
    for name in ("settings.json", "predictions.csv"):
        (photos / name).touch()
        (photos / "in/old").mkdir(exist_ok=True)
        (photos / "in/old" / name).touch()
    for folder in ("masks", "in/old/overlays", "in/masks"):
        (photos / folder).mkdir()
        Image.new("RGB", (8, 6)).save(photos / folder / "x.png")
    assert found(photos, "") == ["a.PNG", "b.jpg", "in/a.png", "in/deeper/c.tiff", "in/masks/x.png"]  # beside no table
    assert found(photos, "**/x.png") == ["in/masks/x.png"]
    assert found(photos, "masks/x.png") == ["masks/x.png"]
    assert list(images.find([str(photos / "*.jpg")], without=photos)) == [photos / "b.jpg"]  # results beside the photos


def test_names_that_are_nothing_are_told(photos):
    with pytest.raises(FileNotFoundError, match=r"\*.bmp: no such file or folder, and no pattern"):
        found(photos, "", "*.bmp")
    (photos / "empty").mkdir()
    with pytest.raises(ValueError, match="no image in .*empty: looked for files that end in .jpg"):
        found(photos, "empty")


def test_results_of_equal_names_are_told_apart_and_keep_theirs():
    paths = [pathlib.Path(path) for path in ("/x/a.jpg", "/y/A.png", "/y/a-2.png", "/y/b.png", "/z/a.jpg")]
    first = images.names(paths[1:], {}, [])
    assert first == ["A", "a-2", "b", "a-3"]
    given = dict(zip(paths[1:], first, strict=True))
    assert images.names(paths, given, first) == ["a-4", *first]
    assert images.names([paths[0], paths[1]], {}, []) == ["a", "A-2"]  # one file, where names have no case


def test_files_are_read_in_order_a_few_ahead(tmp_path):
    asked = []

    def paths():
        for number in range(40):
            path = tmp_path / f"{number}.png"
            if number != 3:
                Image.new("RGB", (5, 4), (number, 0, 0)).save(path)
            asked.append(number)
            yield path

    for number, read in enumerate(images.read_ahead(paths())):
        assert read.path.name == f"{number}.png" and len(asked) <= number + 10
        if number == 3:
            assert read.image is None and read.error == "no such file"
        else:
            np.testing.assert_array_equal(read.image, np.full((4, 5, 3), (number, 0, 0), np.uint8))
    assert len(asked) == 40


def test_large_images_are_predicted_fewer_at_a_time(tmp_path):
    paths = []
    for number in range(70):
        paths.append(tmp_path / f"{number}.png")
        Image.new("L", (3000, 2000) if number < 4 else (10, 10)).save(paths[-1])
    paths[50].write_bytes(b"no image")
    batches = list(images.batches(paths, memory=500_000_000))
    assert [len(batch.paths) for batch in batches] == [2, 32, 32, 4]
    assert [path for batch in batches for path in batch.paths] == paths
    assert all(batch.memory <= 250_000_000 for batch in batches)
    assert [len(batch.paths) for batch in images.batches(paths, memory=500_000_000, explain=True)][:2] == [1, 1]
    alone, *_ = images.batches(paths[:2], memory=1_000_000)
    assert len(alone.paths) == 1 and alone.memory > 96_000_000
