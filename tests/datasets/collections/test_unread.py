"""What lies in a published collection and is not read is counted and named."""

import shutil
import zipfile

import pytest

from segfusion_jax import config
from segfusion_jax.datasets.joining import collect
from tests.datasets import official
from tests.datasets.collections.test_sources import WRITERS

PUBLISHED = sorted(WRITERS.keys() - {"image_folder"})


def passed_over(name, root) -> dict[str, tuple[str, ...]]:
    return collect(config.Data(collection=name, root=str(root), on_error="skip")).passed_over


@pytest.mark.parametrize("name", PUBLISHED)
def test_of_a_collection_as_published_nothing_is_left_but_what_is_added(tmp_path, name):
    WRITERS[name](tmp_path)
    before = passed_over(name, tmp_path)
    assert before.keys() <= {"images that are not read"}
    extra = before.get("images that are not read", ())
    assert all("_superpixels" in path or "_roi/" in path for path in extra)  # published, and of no use here
    (tmp_path / "more").mkdir()
    (tmp_path / "more/notes.txt").write_text("seen by nobody")
    (tmp_path / "more/stray_segmentation.png").write_bytes(b"a mask")
    (tmp_path / "other_1.jpg").write_bytes(b"an image")
    assert passed_over(name, tmp_path) == before | {
        "files that are no images": ("more/notes.txt",),
        "masks of no image": ("more/stray_segmentation.png",),
        "images that are not read": ("other_1.jpg", *extra),
    }


def test_files_in_archives_are_named_by_their_place(tmp_path):
    official.write_ham10000(tmp_path, 24)
    part = tmp_path / "HAM10000_images_part_1"
    (part / "ATTRIBUTION.txt").write_text("whose")
    with zipfile.ZipFile(tmp_path / "HAM10000_images_part_1.zip", "w") as archive:
        for path in part.iterdir():
            archive.write(path, path.name)
    shutil.rmtree(part)
    assert passed_over("ham10000", tmp_path) == {
        "files that are no images": ("HAM10000_images_part_1/ATTRIBUTION.txt",)
    }


def test_images_without_masks_and_second_copies_are_named(tmp_path):
    ids = official.write_ham10000(tmp_path, 24)
    masks = tmp_path / "HAM10000_segmentations_lesion_tschandl"
    (masks / f"{ids[3]}_segmentation.png").unlink()
    (masks / f"{ids[4]}_segmentation.png").rename(masks / f"{ids[4]}_segmentation.PNG")
    shutil.copy(tmp_path / f"HAM10000_images_part_1/{ids[0]}.jpg", tmp_path / f"{ids[0]}.jpg")
    assert passed_over("ham10000", tmp_path) == {
        "images without a mask": (ids[3],),
        "further files called like images that are read": (f"{ids[0]}.jpg",),
    }


def test_images_of_a_part_without_ground_truth_and_of_no_known_label_are_named(tmp_path):
    ids = official.write_isic2019(tmp_path, 24)
    (tmp_path / "ISIC_2019_Test_Input").mkdir()
    (tmp_path / "ISIC_2019_Test_Input/ISIC_1.jpg").write_bytes(b"an image")
    table = tmp_path / "ISIC_2019_Training_GroundTruth.csv"
    first, *lines = table.read_text().splitlines()
    lines[0] = ",".join([ids[0], *["0.0"] * 8, "1.0"])
    table.write_text("\n".join([first, *lines]))
    assert passed_over("isic2019", tmp_path) == {
        "images that are not read": ("ISIC_2019_Test_Input/ISIC_1.jpg",),
        "images without a known label": (ids[0],),
    }


def test_what_is_a_problem_already_is_told_once(tmp_path):
    ids = official.write_ham10000(tmp_path, 24)
    (tmp_path / "HAM10000_images_part_1/ISIC_0099999.jpg").write_bytes(b"of no row")
    (tmp_path / f"HAM10000_images_part_1/{ids[0]}.jpg").unlink()
    found = collect(config.Data(collection="ham10000", root=str(tmp_path)))
    assert {problem.image_id for problem in found.problems} == {ids[0], "ISIC_0099999"}
    assert found.passed_over == {
        "masks of no image": (f"HAM10000_segmentations_lesion_tschandl/{ids[0]}_segmentation.png",)
    }
