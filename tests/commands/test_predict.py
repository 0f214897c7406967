"""`segfusion predict` with a tiny model: against the library, and after it was stopped."""

import io
import json
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from segfusion_jax.bridge.resize import resize
from segfusion_jax.commands import predict
from segfusion_jax.datasets import coco
from segfusion_jax.datasets.files import MemoryFile
from segfusion_jax.input import decode
from segfusion_jax.pipeline.run import Run
from tests import tiny
from tests.commands import looks


@pytest.fixture(scope="module")
def photos(finished, tmp_path_factory) -> pathlib.Path:
    """Four lesions in two folders, of two sizes, of which two share a name, and a broken file."""
    folder = tmp_path_factory.mktemp("photos")
    prepared = Run(tiny.BASE, finished).prepared
    rows = [row for row in prepared.rows if row.split == "test"]
    for row, name in zip(rows, ("a/one.png", "a/two.png", "b/one.png", "c.png"), strict=False):
        (folder / name).parent.mkdir(exist_ok=True)
        image = decode.decode_image(prepared.read(row.position)[0])
        Image.fromarray(resize(image, (60, 100)) if "two" in name else image).save(folder / name)
    (folder / "a/three.jpg").write_bytes(b"\xff\xd8 half of one")
    return folder


@pytest.fixture
def run(model, monkeypatch, parse, photos, tmp_path):
    """Runs the command into `tmp_path`/out; counts the images that the model is given."""
    monkeypatch.setattr(predict.SegFusion, "load", lambda folder, **_: model)
    given = []

    def counted(images, **options):
        given.extend(images)
        return type(model).predict(model, images, **options)

    monkeypatch.setattr(model, "predict", counted, raising=False)

    def started(*options, images=(photos,), folder=None):
        given.clear()
        words = ("predict", *images, "--model", folder or "released", "--output", tmp_path / "out", *options)
        return predict.run(parse(*words)), len(given)

    return started


@pytest.fixture(autouse=True)
def elsewhere(finished, monkeypatch):
    """Runs where nothing is called "released"."""
    monkeypatch.chdir(finished)


def rows_of(folder: pathlib.Path, photos: pathlib.Path) -> dict[str, dict[str, str]]:
    rows = tiny.table(folder / "out/predictions.csv")
    return {row["image"].removeprefix(f"{photos.name}/"): row for row in rows}


def test_the_table_and_the_masks_say_what_the_library_says(run, model, photos, tmp_path, capsys):
    status, given = run()
    output, errors = capsys.readouterr()
    assert status == 1 and given == 4
    assert f"{photos / 'a/three.jpg'}: unreadable image" in errors
    assert output.count("Research use only") == 1 and "1 could not be read" in output
    unfamiliar = sum(row["familiar"] == "0" for row in rows_of(tmp_path, photos).values())
    assert unfamiliar == 1 and "\n1 of them unlike the training images" in output
    rows = rows_of(tmp_path, photos)
    assert list(rows) == ["c.png", "a/one.png", "a/three.jpg", "a/two.png", "b/one.png"]
    broken = rows.pop("a/three.jpg")
    assert broken["error"].startswith("unreadable image") and broken["probability"] == broken["mask_share"] == ""
    assert [row["name"] for row in rows.values()] == ["c", "one", "two", "one-2"]
    for path, prediction in zip(rows, type(model).predict(model, [photos / path for path in rows]), strict=True):
        row = rows[path]
        assert float(row["probability"]) == pytest.approx(prediction.probability, abs=1e-4)
        assert row["decision"] == ("malignant" if prediction.malignant else "benign")
        for name, value in prediction.probabilities.items():
            assert float(row[f"probability of {name}"]) == pytest.approx(value, abs=1e-4)
        assert (row["fallback"], row["error"]) == (prediction.fallback, "")
        assert float(row["novelty"]) == pytest.approx(prediction.novelty, abs=1e-2)
        assert row["familiar"] == str(int(prediction.familiar))
        mask = np.asarray(Image.open(tmp_path / "out/masks" / f"{row['name']}.png"))
        np.testing.assert_array_equal(mask, np.where(prediction.mask, 255, 0))
        assert float(row["mask_share"]) == pytest.approx(prediction.mask.mean(), abs=1e-4)
        overlay = np.asarray(Image.open(tmp_path / "out/overlays" / f"{row['name']}.png"))
        assert looks.yellow(overlay).any() != bool(prediction.fallback)
    assert not (tmp_path / "out/evidence").exists()


def test_masks_as_coco_are_read_back_for_training(run, photos, tmp_path):
    run("--annotations", "coco", "--no-overlays")
    rows = {path: row for path, row in rows_of(tmp_path, photos).items() if not row["error"]}
    entries = coco.read("a", MemoryFile("a", (tmp_path / "out/annotations.json").read_bytes()), {})
    assert [entry.called for entry in entries] == list(rows)
    for entry in entries:
        row = rows[entry.called]
        mask = np.asarray(Image.open(tmp_path / "out/masks" / f"{row['name']}.png")) > 0
        if row["fallback"]:
            assert entry.mask is None
        else:
            assert entry.mask is not None
            found = entry.mask.pixels()
            assert (found & mask).sum() / (found | mask).sum() > 0.9


def test_what_was_done_survives_and_what_is_left_is_gone_on_with(run, photos, tmp_path, capsys):
    photos = shutil.copytree(photos, tmp_path / "photos")
    run(images=(photos,))
    before = rows_of(tmp_path, photos)
    table = tmp_path / "out/predictions.csv"
    table.write_text(table.read_text()[:-30])  # killed while it wrote the last row
    shutil.copy(photos / "a/two.png", photos / "a/three.jpg")  # mended
    (photos / "0").mkdir()
    shutil.copy(photos / "c.png", photos / "0/one.png")  # comes first now
    capsys.readouterr()
    assert run(images=(photos,)) == (0, 3)
    assert "3 more were predicted before" in capsys.readouterr().out
    rows = rows_of(tmp_path, photos)
    assert len(rows) == len(tiny.table(table)) == 6 and not any(row["error"] for row in rows.values())
    names = {row["name"].casefold() for row in rows.values()}
    assert len(names) == 6 and {path.stem for path in (tmp_path / "out/masks").iterdir()} == names
    for path in ("c.png", "a/one.png", "a/two.png"):
        assert rows[path] == before[path]
    assert rows["a/three.jpg"]["probability"] == pytest.approx(rows["a/two.png"]["probability"])
    assert run(images=(photos,)) == (0, 0)


def test_results_of_another_command_are_left_alone(run, tmp_path):
    run()
    before = tiny.tree(tmp_path / "out")
    with pytest.raises(
        ValueError, match="another command: prevalence is not given there, 0.1 here. Give another --output"
    ):
        run("--prevalence", "0.1")
    (tmp_path / "out/settings.json").unlink()
    with pytest.raises(ValueError, match="another command: model is not given there"):
        run()
    assert before.keys() - tiny.tree(tmp_path / "out").keys() == {"settings.json"}


def test_options_reach_the_model_and_the_pictures(run, model, photos, tmp_path):
    run("--prevalence", "0.5", "--explain", "--no-overlays", images=(photos / "c.png",))
    (row,) = rows_of(tmp_path, photos).values()
    (expected,) = type(model).predict(model, [photos / "c.png"], prevalence=0.5)
    (usual,) = type(model).predict(model, [photos / "c.png"])
    assert float(row["probability"]) == pytest.approx(expected.probability, abs=1e-4)
    assert abs(expected.probability - usual.probability) > 0.01
    assert not (tmp_path / "out/overlays").exists()
    assert np.asarray(Image.open(tmp_path / "out/evidence/c.png")).std() > 10
    assert json.loads((tmp_path / "out/settings.json").read_text())["prevalence"] == 0.5


def test_evidence_is_added_to_what_was_predicted_before(run, model, photos, tmp_path, monkeypatch):
    run(images=(photos / "c.png", photos / "b"))
    before = tiny.tree(tmp_path / "out") | {"predictions.csv": (tmp_path / "out/predictions.csv").read_bytes()}
    assert run("--explain", images=(photos / "c.png", photos / "b")) == (0, 0)
    after = tiny.tree(tmp_path / "out") | {"predictions.csv": (tmp_path / "out/predictions.csv").read_bytes()}
    assert after.keys() - before.keys() == {"evidence/c.png", "evidence/one.png"}
    assert all(after[name] == before[name] for name in before if name not in ("settings.json", "index.html"))
    alone = (tmp_path / "out/evidence/c.png").read_bytes()
    (tmp_path / "out/evidence/c.png").unlink()
    shutil.rmtree(tmp_path / "out")
    run("--explain", images=(photos / "c.png", photos / "b"))
    drawn, expected = (
        np.asarray(Image.open(io.BytesIO(one)), int) for one in (alone, (tmp_path / "out/evidence/c.png").read_bytes())
    )
    assert drawn.shape == expected.shape and np.abs(drawn - expected).mean() < 1


@pytest.mark.parametrize(("threshold", "decision"), [("1e-9", "malignant"), ("0.999999999", "benign")])
def test_a_threshold_decides(run, model, photos, tmp_path, monkeypatch, threshold, decision):
    monkeypatch.setattr(model, "threshold", model.threshold)  # the command sets it
    run("--threshold", threshold, images=(photos / "c.png", photos / "b"))
    assert [row["decision"] for row in rows_of(tmp_path, photos).values()] == [decision] * 2


@pytest.mark.parametrize("option", ["--prevalence", "--threshold"])
@pytest.mark.parametrize("value", ["0", "1", "nan"])
def test_shares_that_are_none_are_refused_before_anything_is_written(run, tmp_path, option, value):
    with pytest.raises(ValueError, match=f"{option} = "):
        run(option, value)
    assert not (tmp_path / "out").exists()


def test_dicom_images_get_segmentations_and_others_a_word(run, photos, tmp_path, monkeypatch):
    pydicom = pytest.importorskip("pydicom")
    pytest.importorskip("highdicom")
    from tests.datasets import dicom_files

    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(photos / "c.png", folder)
    pixels = np.asarray(Image.open(photos / "c.png"))
    (folder / "d.dcm").write_bytes(dicom_files.saved(dicom_files.made(pixels)))
    told = []
    monkeypatch.setattr(predict._log, "warning", lambda text, *arguments: told.append(text % arguments))
    assert run("--dicom-seg", images=(folder,)) == (0, 2)
    out, rows = tmp_path / "out", rows_of(tmp_path, folder)
    assert rows["d.dcm"]["probability"] == rows["c.png"]["probability"] and not rows["d.dcm"]["fallback"]
    (written,) = (out / "segmentations").iterdir()
    mask = np.asarray(Image.open(out / "masks/d.png"))
    np.testing.assert_array_equal(pydicom.dcmread(written).pixel_array.reshape(mask.shape), mask == 255)
    assert told == [f"{folder / 'c.png'}: no DICOM file, so no segmentation of it"]
    assert run("--dicom-seg", images=(out, folder)) == (0, 0), "its own segmentations are no images"
