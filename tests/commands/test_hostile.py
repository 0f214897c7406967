"""`segfusion predict` on what somebody sends: one bad image is one row, memory is bounded, folders are held."""

import csv
import errno
import pathlib
import threading
import time

import cv2
import numpy as np
import pytest
from PIL import Image

import segfusion_jax as sf
from segfusion_jax.commands import images, predict
from segfusion_jax.runtime.locks import locked_folder
from segfusion_jax.serving.segfusion import Prediction
from tests import tiny


class Model:
    """Says the same of every image, and remembers which were in memory together; `broken` makes it fail."""

    def __init__(self):
        self.batches: list[list[tuple[int, int]]] = []
        self.broken = lambda image: None
        self.classes = ("benign", "=malignant")
        self.threshold = 0.5
        stated = {"threshold": 0.5, "tested": {}, "elsewhere": (), "operating_points": ()}
        metadata = type("Metadata", (), stated)()
        self.folder = type("Folder", (), {"digest": "0" * 64, "files": {}, "metadata": metadata})()
        classes = type("Classes", (), {"binary_names": self.classes})()
        self.classifiers = type("Classifiers", (), {"classes": classes})()
        self.decision = lambda prediction: self.classes[prediction.malignant]

    def predict(self, given, **_):
        self.batches.append([image.shape[:2] for image in given])
        for image in given:
            self.broken(image)
        return [
            Prediction(np.ones(image.shape[:2], bool), 0.2, False, "", dict.fromkeys(self.classes, 0.5), 0.1, True)
            for image in given
        ]


@pytest.fixture
def model(monkeypatch) -> Model:
    made = Model()
    monkeypatch.setattr(predict.SegFusion, "load", lambda folder, **_: made)
    return made


@pytest.fixture
def photos(tmp_path) -> pathlib.Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, colour in (("a", 10), ("b", 20), ("c", 30)):
        Image.new("RGB", (30, 20), (colour, 0, 0)).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def run(parse, photos, tmp_path):
    def started(*options) -> tuple[int, dict[str, dict[str, str]]]:
        words = ("predict", photos, "--model", "m", "--output", tmp_path / "out", "--no-overlays", *options)
        status = predict.run(parse(*words))
        return status, {row["name"]: row for row in tiny.table(tmp_path / "out/predictions.csv")}

    return started


@pytest.mark.parametrize("fault", [ValueError, MemoryError, ZeroDivisionError, RuntimeError, cv2.error])
def test_an_image_that_cannot_be_predicted_costs_its_row_only(model, run, fault):
    def broken(image):
        if image[0, 0, 0] == 20:
            raise fault("what it is")

    model.broken = broken
    status, rows = run()
    assert status == 1 and [bool(row["error"]) for row in rows.values()] == [False, True, False]
    assert "what it is" in rows["b"]["error"] and rows["b"]["decision"] == rows["b"]["probability"] == ""
    assert run()[1]["a"] == rows["a"]


def test_what_is_not_finite_is_an_error_of_its_image_and_never_a_decision(finished):
    model = sf.SegFusion.load(finished / "model")
    image = np.full((1, 20, 30, 3), 90, np.uint8)
    assert not np.isnan(model.predict(image)[0].probability)
    for part, method in (
        (model.segmenters, "predict"),
        (model.classifiers, "predict"),
        (model.classifiers, "describe"),
    ):
        usual = getattr(part, method)
        setattr(part, method, lambda source, usual=usual: ((row, found * np.nan) for row, found in usual(source)))
        with pytest.raises(ValueError, match="image 0: the networks return a .* that is not finite"):
            model.predict(image)
        setattr(part, method, usual)


def test_a_name_too_long_to_be_written_costs_its_row_only(model, run, photos, capsys):
    (photos / "more").mkdir()
    for folder in (photos, photos / "more"):
        Image.new("RGB", (30, 20)).save(folder / f"{'x' * 251}.png")
    status, rows = run()
    assert status == 1 and len(rows) == 5
    (bad,) = [row for row in rows.values() if row["error"]]
    assert bad["name"] == f"{'x' * 251}-2" and "File name too long" in bad["error"]
    assert "File name too long" in capsys.readouterr().err


def test_a_picture_that_no_encoder_takes_leaves_no_empty_file(model, run, photos, tmp_path, monkeypatch):
    encode = cv2.imencode
    monkeypatch.setattr(
        cv2, "imencode", lambda end, pixels, *rest: (False, None) if len(pixels) == 25 else encode(end, pixels, *rest)
    )
    Image.new("RGB", (30, 25)).save(photos / "d.png")
    status, rows = run()
    assert status == 1 and "a picture of 30x25 pixels cannot be a PNG file" in rows["d"]["error"]
    assert sorted(path.name for path in (tmp_path / "out/masks").iterdir()) == ["a.png", "b.png", "c.png"]


def test_a_full_disk_ends_the_command(model, run, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        run()


def test_no_more_is_worked_on_at_once_than_memory_allows(model, run, photos, monkeypatch):
    """Two images of a megapixel fit, by what is counted for a pixel; those that are read and written count, too."""
    for number in range(6):
        Image.new("RGB", (1000, 1000)).save(photos / f"large{number}.png")
    lock, held, most = threading.Lock(), [0], [0]
    read, write = images._read, predict._write

    def counted_read(path):
        found = read(path)
        with lock:
            held[0] += found.image.size
            most[0] = max(most[0], held[0])
        return found

    def counted_write(arguments, name, file, *rest):
        time.sleep(0.05)
        with lock:
            held[0] -= file.image.size
        return write(arguments, name, file, *rest)

    monkeypatch.setattr(images, "_read", counted_read)
    monkeypatch.setattr(predict, "_write", counted_write)
    status, rows = run("--memory", "0.036")
    assert status == 0 and len(rows) == 9 and max(map(len, model.batches)) >= 2
    assert most[0] <= 2 * 3_000_000 + 9 * 1800
    assert all(batch.count((1000, 1000)) <= 1 for batch in model.batches)


def test_an_image_that_takes_more_than_all_memory_is_an_error(model, run, photos):
    Image.new("RGB", (2000, 1000)).save(photos / "d.png")
    status, rows = run("--memory", "0.02")
    assert status == 1 and [name for name, row in rows.items() if row["error"]] == ["d"]
    assert "oversized image: 0.0 GB of memory are needed for it; --memory allows 0.02" in rows["d"]["error"]
    assert all((1000, 2000) not in batch for batch in model.batches)


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
def test_memory_that_is_none_is_refused(model, run, value):
    with pytest.raises(ValueError, match="--memory = "):
        run("--memory", value)


def test_who_comes_second_waits_and_goes_on(model, run, tmp_path):
    results = []
    with locked_folder(tmp_path / "out", what="is held by the test"):
        thread = threading.Thread(target=lambda: results.append(run()))
        thread.start()
        thread.join(1)
        assert not results and not (tmp_path / "out/predictions.csv").exists()
    thread.join(60)
    assert results and results[0][0] == 0 and len(results[0][1]) == 3


@pytest.mark.parametrize(
    "name", ["=1+1", "a\nb", "a\rb", "a\u2028b", "a\x85b", "a\x1b[2Jb", "\udcff", "-2+3", "a\\b", "'"]
)
def test_names_stay_one_row_each_and_are_known_again(model, run, photos, tmp_path, name, capsys):
    Image.new("RGB", (30, 20)).save(photos / f"{name}.png")
    (photos / f"{name}.jpg").write_bytes(b"no image")
    run()
    assert "\x1b" not in capsys.readouterr().err
    content = (tmp_path / "out/predictions.csv").read_bytes().decode()
    assert content.count("\n") == len(content.splitlines()) == 6
    for row in csv.reader(content.splitlines()):
        assert not any(cell.startswith(("=", "@")) for cell in row)
    before = len(model.batches)
    status, _ = run()
    assert status == 1 and len(model.batches) == before + 1 and model.batches[-1] == []
