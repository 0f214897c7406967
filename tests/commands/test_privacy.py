"""What others may be shown says nothing of where it was made, nor, if asked, whom it is of."""

import dataclasses
import json
import pathlib
import shutil

import pytest
from PIL import Image

from segfusion_jax.commands import compare, evaluate, export, predict, report
from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.stages import report as stage
from segfusion_jax.report import pseudonyms
from tests import tiny
from tests.report import sample
from tests.report.html_page import HtmlPage

USER = "janedoe77"


def held(folder: pathlib.Path, text: str) -> list[str]:
    """The files of a folder in whose names or contents the text stands."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [str(path) for path in files if text in path.name or text.encode() in path.read_bytes()]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> pathlib.Path:
    return tmp_path_factory.mktemp("home") / USER


@pytest.fixture(scope="module")
def workdir(finished, home) -> pathlib.Path:
    """The finished run, as one whose config names folders and files of a user."""
    workdir = shutil.copytree(finished, home / "run")
    for name in ("weights.npz", "labels.toml", "table.csv"):
        (home / name).write_bytes(b"of a user")
    config = dataclasses.replace(
        tiny.BASE,
        data=dataclasses.replace(
            tiny.BASE.data, root=str(home), records=str(home / "records"), labels=str(home / "labels.toml")
        ),
        splits=dataclasses.replace(tiny.BASE.splits, table=str(home / "table.csv")),
        classifier=dataclasses.replace(tiny.BASE.classifier, pretrained=str(home / "weights.npz")),
    )
    settings = json.loads((workdir / "config.json").read_text())
    (workdir / "config.json").write_text(json.dumps(settings | {"config": dataclasses.asdict(config)}))
    stage.report(Run.open(workdir))
    return workdir


@pytest.mark.parametrize("folder", ["report", "model", "evaluate"])
def test_no_folder_of_a_run_that_is_shown_names_the_user(workdir, folder):
    assert not held(workdir / folder, USER)
    assert "weights.npz" in (workdir / "report/index.html").read_text()  # a reader needs to know from what it began


def test_no_page_for_others_names_the_user(workdir, parse, home):
    assert report.run(parse("report", workdir, "--output", home / "shown")) == 0
    assert not held(home / "shown", USER)
    other = shutil.copytree(workdir, home / "other/run")
    assert compare.run(parse("compare", workdir, other, "--output", home / "compared")) == 0
    assert not held(home / "compared", USER) and not held(home / "compared", str(home.parent))


def test_no_output_of_a_model_names_the_user(model, parse, home, monkeypatch):
    monkeypatch.setattr(predict.SegFusion, "load", lambda folder, **options: model)
    photos = home / "photos"
    photos.mkdir(parents=True)
    Image.new("RGB", (60, 40), (200, 150, 140)).save(photos / "a.png")
    (photos / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    Image.new("RGB", (60, 40)).save(photos / f"{'c' * 250}.png")  # of which no overlay can be named
    out = home / "predicted"
    words = (photos, photos / "missing*", "--annotations", "coco", "--explain")
    assert predict.run(parse("predict", *words[:1], *words[2:], "--model", home, "--output", out)) == 1
    assert not held(out, USER)
    assert {row["image"] for row in tiny.table(out / "predictions.csv")} >= {"photos/a.png", "photos/b.png"}
    words = ("--model", home, "--collection", "synthetic", "--records", home / "records", "--resamples", 100)
    assert evaluate.run(parse("evaluate", *words, "--output", home / "judged")) == 0
    assert not held(home / "judged", USER)


def test_no_exported_file_names_the_user(model, parse, home):
    pytest.importorskip("flatbuffers")
    monkey = pytest.MonkeyPatch()
    monkey.setattr(export.SegFusion, "load", lambda folder, **options: model)
    words = ("--model", home, "--output", home / "exported", "--format", "stablehlo")
    with monkey.context():
        assert export.run(parse("export", *words)) == 0
    monkey.undo()
    assert not held(home / "exported", USER)


def test_pages_for_others_have_no_photograph_if_asked_and_say_so(tmp_path):
    run = Run(sample.config(), sample.workdir(tmp_path / "run"))
    stage.report(run)
    stage.share(run, tmp_path / "all", photographs=True, key=None)
    stage.share(run, tmp_path / "none", photographs=False, key=None)
    pages = {name: HtmlPage((tmp_path / name / "index.html").read_text()) for name in ("all", "none")}
    photographs = {"false_negatives", "grad_cam", "bridge_panels", "augmentation"}
    photographs |= {f"overlays_{which}" for which in ("worst", "best", "random")}
    shown = {name: {path.stem for path in (tmp_path / name / "figures").iterdir()} for name in pages}
    assert shown["all"] == set(sample.FIGURES) and shown["none"] == set(sample.FIGURES) - photographs
    assert pages["all"].source.count("<img") - pages["none"].source.count("<img") == len(photographs)
    for name, told in (("all", "7 figures: "), ("none", "none")):
        end = pages[name].text[pages[name].text.rindex("What this page contains") :]
        assert f"Pictures of patients {told}" in " ".join(end.split())


def test_numbers_stand_for_ids_and_only_the_key_says_for_which(tmp_path):
    run = Run(sample.config(), sample.workdir(tmp_path / "run"))
    stage.report(run)
    key = pseudonyms.Key(tmp_path / "kept/key.csv", apart=tmp_path / "shown")
    stage.share(run, tmp_path / "shown", photographs=True, key=key)
    assert not held(tmp_path / "shown", "ISIC_00")
    ids = {row[name] for row in (*sample.predictions(), *sample.overlaps()) for name in ("image_id", "group")}
    rows = tiny.table(tmp_path / "kept/key.csv")
    assert {row["id"] for row in rows} == ids and [row["id"] for row in rows] != sorted(ids)
    assert (tmp_path / "kept/key.csv").stat().st_mode & 0o077 == 0
    text = HtmlPage((tmp_path / "shown/index.html").read_text()).text
    shown = [row for row in rows if row["number"] in text]
    assert len(shown) > 10 and "key.csv" in text
    again = pseudonyms.Key(tmp_path / "kept/key.csv", apart=tmp_path / "shown").numbers([*ids, "new"])
    assert again.items() > {row["id"]: row["number"] for row in rows}.items() and again["new"] == "00151"


def test_a_key_is_no_part_of_what_is_shown(tmp_path):
    with pytest.raises(ValueError, match="--pseudonymise = .*key.csv: the key must lie outside of the folder"):
        pseudonyms.Key(tmp_path / "shown/../shown/key.csv", apart=tmp_path / "shown")
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="table.csv: is no key"):
        pseudonyms.Key(tmp_path / "table.csv", apart=tmp_path / "shown")
