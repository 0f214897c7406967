"""Folders as common tools lay them out: splits, classes, patients, masks, and what is not read."""

import os

import pytest

from segfusion_jax.datasets.files import Folder, walk
from tests.datasets.collections.test_columns import understand
from tests.datasets.collections.test_image_folder import masks, write


def test_classes_in_splits(tmp_path):
    write(tmp_path, "train/benign/a.jpg", "Valid/malignant/melanoma/b.jpg", "test/nevus/c.jpg", "test/unlabelled.txt")
    found = understand(tmp_path)
    assert {one.image_id: (one.partition, one.diagnosis, one.malignant) for one in found.records} == {
        "a": ("train", "", 0),
        "b": ("validation", "melanoma", 1),
        "c": ("test", "nevus", 0),
    }
    assert found.passed_over == {"files that are no images": ("test/unlabelled.txt",)}


def test_patients_as_folders_group(tmp_path):
    write(
        tmp_path, "nevus/patient_1/a.jpg", "melanoma/Patient_1/visit 2/b.jpg", "melanoma/patient_2/c.jpg", "nevus/d.jpg"
    )
    found = understand(tmp_path)
    assert {one.image_id: one.patient_id for one in found.records} == {
        "a": "folder:patient_1",
        "b": "folder:Patient_1",
        "c": "folder:patient_2",
        "d": "",
    }


def test_folders_that_may_be_patients_stop(tmp_path):
    write(tmp_path, "nevus/0815/a.jpg", "nevus/0815/b.jpg", "melanoma/0816/c.jpg")
    with pytest.raises(
        ValueError, match=r"folders in the classes, '0816', '0815': .*data.group=folder .*data.group=none"
    ):
        understand(tmp_path)
    assert [one.patient_id for one in understand(tmp_path, group="folder").records] == [
        *("folder:0816", "folder:0815", "folder:0815")
    ]
    assert {one.patient_id for one in understand(tmp_path, group="none").records} == {""}


def test_folders_that_contradict_each_other(tmp_path):
    write(tmp_path, "benign/melanoma/a.jpg", "benign/b.jpg")
    with pytest.raises(ValueError, match="folders benign/melanoma contradict each other"):
        understand(tmp_path)


@pytest.mark.parametrize(
    "mask",
    [
        *("masks/a.png", "Mask/A.PNG", "SegmentationClass/a.png", "Segmentations/a_mask.tif", "masks/a.jpg"),
        *("images/a_mask.png", "images/a-seg.bmp", "masks/mask_a.png", "masks/a.jpg.png", "Ground Truth/a_gt.png"),
        *("images/masks/a.png", "images/A_Segmentation.png", "masks/images/a_lesion.bmp"),
    ],
)
@pytest.mark.parametrize("table", ["image,label\na,0\nb,1\n", ""])
def test_places_of_masks(tmp_path, mask, table):
    write(tmp_path, "images/a.jpg", "images/b.jpg", mask, table=table)
    found = understand(tmp_path)
    assert not found.problems
    assert masks(found.records) == {"a": mask, "b": None} and found.passed_over == {}


def test_masks_of_splits_do_not_mix(tmp_path):
    write(tmp_path, "train/images/1.jpg", "test/images/1.jpg", "test/images/2.jpg")
    write(tmp_path, "train/masks/1.png", "train/masks/2.png", "test/masks/1.png")
    found = understand(tmp_path)
    assert masks(found.records) == {
        "train/images/1": "train/masks/1.png",
        "test/images/1": "test/masks/1.png",
        "2": None,
    }
    assert found.passed_over == {"masks of no image": ("train/masks/2.png",)}


def test_two_masks_of_an_image_are_a_problem(tmp_path):
    write(tmp_path, "images/a.jpg", "masks/a.png", "masks/a_mask.png", table="image\na\n")
    [problem] = understand(tmp_path).problems
    assert "2 masks, " in problem.what and "keep one" in problem.what


def test_what_is_not_read_is_named(tmp_path):
    write(tmp_path, "a.jpg", "notes.txt", "masks/gone.png", "backup/x.jpg", table="image,label,remark\na,0,x\n")
    assert understand(tmp_path).passed_over == {
        "columns that are not used": ("remark",),
        "files that are no images": ("notes.txt",),
        "images in folders where the table names none": ("backup/x.jpg",),
        "masks of no image": ("masks/gone.png",),
    }


def test_a_table_names_files_in_any_case_wherever_they_lie(tmp_path):
    write(tmp_path, "Photos/A.JPG", "Photos/b.png", table="image,label\na.jpg,0\nPHOTOS/B,1\n")
    found = understand(tmp_path)
    assert [one.image.name for one in found.records] == ["A.JPG", "b.png"] and not found.problems


def test_the_table_itself_may_be_named(tmp_path):
    write(tmp_path, "a.jpg", table="image,label\na,0\n", name="other.csv")
    write(tmp_path, table="image,label\na,1\n", name="mine.csv")
    assert [one.malignant for one in understand(tmp_path / "mine.csv").records] == [1]


def test_a_spreadsheet_is_to_be_saved_as_csv(tmp_path):
    write(tmp_path, "a.jpg", "labels.xlsx")
    with pytest.raises(FileNotFoundError, match="but 1 images; save labels.xlsx as CSV"):
        understand(tmp_path)


def test_litter_is_passed_over_and_links_are_followed_once(tmp_path):
    root, other = write(tmp_path / "in", "a.jpg", "b/c.jpg"), write(tmp_path / "out", "d.jpg")
    write(root, "@eaDir/a.jpg", "#recycle/e.jpg", "b/Thumbs.db", "b/~$labels.csv", "$RECYCLE.BIN/f.jpg")
    os.symlink(other, root / "linked")
    os.symlink(root, root / "b/loop")
    assert [path for path, _ in walk(Folder(root))] == ["a.jpg", "b/c.jpg", "linked/d.jpg"]
