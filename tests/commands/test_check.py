"""`segfusion check`: what it says of a folder, and the label map that it writes."""

import numpy as np
import pytest
from PIL import Image

from segfusion_jax.commands import check, parser
from segfusion_jax.config import Data
from segfusion_jax.datasets.collections import image_folder
from segfusion_jax.datasets.files import Folder


@pytest.fixture
def folder(tmp_path):
    for i in range(6):
        pixels = np.random.default_rng(i // 2).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"im{i}.png")
    rows = "".join(f"im{i};{('nv', 'Melanomm', '?')[i % 3]};p{i // 2};1\n" for i in range(6))
    (tmp_path / "table.csv").write_text(f"Image Name;Diagnosis;Patient ID;x\n{rows}")
    return tmp_path


def run(*words) -> int:
    return check.run(parser.parse(["check", *map(str, words)]))


def test_what_is_understood_is_told_and_the_label_map_counts(folder, capsys):
    assert run(folder) == 1
    told = capsys.readouterr().out
    for sentence in (
        "table table.csv in UTF-8, 6 rows: 'Image Name' is image, 'Diagnosis' is label",
        "images belong together by 'Patient ID'",
        "4 images of 3 patients or lesions",
        "sizes (width x height): 64 x 48 (4)",
        "label 'nv': 2 images, nevus (benign)",
        "label 'Melanomm': 2 images, NOT KNOWN: did you mean melanoma?",
        "label '?': 2 images, no label",
        "not read: 1 columns that are not used: x",
        f"segfusion train --config image_folder --set data.root={folder} --set bridge.mode=none",
    ):
        assert sentence in told
    path = folder / "labels.toml"
    text = path.read_text()
    assert '# "Melanomm" = "melanoma"  # NOT KNOWN' in text
    path.write_text(text.replace("# ", "").replace("What the", "# What the").replace("  NOT KNOWN", "  # NOT KNOWN"))
    found = image_folder.understand(Folder(folder), Data(collection="image_folder"))
    assert [one.diagnosis for one in found.records] == ["nevus", "melanoma", "", "nevus", "melanoma", ""]
    assert run(folder / "table.csv") == 0  # the table itself, and the map as it was edited
    told = capsys.readouterr().out
    assert "label 'Melanomm': 2 images, melanoma (malignant)" in told and "label map, as it is" in told


@pytest.fixture
def divided(tmp_path):
    """Makes a folder of 36 images whose table has a split: by image, of 12 in turn."""

    def make(*parts: str, patient=lambda i: ""):
        lines = ["image,label,patient_id,split"]
        for i in range(36):
            pixels = np.random.default_rng(i).integers(0, 255, (48, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"im{i}.png")
            lines.append(f"im{i},{int(i % 3 == 0)},{patient(i)},{parts[i * len(parts) // 36]}")
        (tmp_path / "labels.csv").write_text("\n".join(lines))
        return tmp_path

    return make


def test_a_split_is_shown_as_it_will_be_followed(divided, capsys):
    folder = divided("Train", "val", "TEST")
    assert run(folder) == 0
    told = capsys.readouterr().out
    assert "split as given: 12 train, 12 validation, 12 test" in told
    for part in ("train", "validation", "test"):
        assert f"as it is followed, 12 images in 12 groups (8 benign, 4 malignant) in {part}" in told
    assert "num_folds" not in told


def test_validation_that_no_split_names_is_shown_as_it_is_taken_from_train(divided, capsys):
    assert run(divided("train", "train", "test")) == 0
    told = capsys.readouterr().out
    assert "split as given: 24 train, 12 test" in told
    assert "12 images in 12 groups (8 benign, 4 malignant) in test" in told and " in validation" in told


def test_folds_are_counted_for_the_command(divided, capsys):
    assert run(divided("1", "2", "3", "test")) == 0
    told = capsys.readouterr().out
    assert "9 in fold 1, 9 in fold 2, 9 in fold 3, 9 test" in told and "--set splits.num_folds=3" in told


def test_a_split_that_cannot_be_followed_is_said(divided, capsys):
    assert run(divided("train", "test", patient=lambda i: f"p{i % 18}")) == 1
    told = capsys.readouterr().out
    assert "CANNOT BE FOLLOWED: column split parts one lesion, patient or picture, group " in told


def test_where_the_label_map_lies_is_said(folder, tmp_path_factory, capsys):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "mine.toml"
    run(folder, "--labels", elsewhere, "--group", "none")
    assert f"--set data.labels={elsewhere} --set data.group=none" in capsys.readouterr().out
    assert elsewhere.exists() and not (folder / "labels.toml").exists()


def test_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone: no such folder or file"):
        run(tmp_path / "gone")
