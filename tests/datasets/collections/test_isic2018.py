"""ISIC 2018's two tasks, alone and together."""

import pathlib

import pytest

from segfusion_jax import config
from segfusion_jax.datasets import taxonomy
from segfusion_jax.datasets.collections import isic2018
from segfusion_jax.datasets.files import Folder
from tests.datasets import official

DATA = config.Data(collection="isic2018")


def ids(start: int, count: int) -> list[str]:
    return [f"ISIC_{number:07d}" for number in range(start, start + count)]


TASK1 = {"Training": ids(0, 6), "Validation": ids(100, 2), "Test": ids(200, 3)}
TASK3 = {"Training": ids(24306, 14), "Validation": ids(34524, 2), "Test": ids(34600, 3)}
PARTITIONS = {"Training": "train", "Validation": "validation", "Test": "test"}


def read(root: pathlib.Path, data: config.Data = DATA):
    return isic2018.read(Folder(root), data)


def pack_all(root: pathlib.Path) -> None:
    for folder in list(root.iterdir()):
        if folder.is_dir():
            official.pack(folder, below=folder.name)


@pytest.mark.parametrize("packed", [False, True])
def test_task1_alone(tmp_path, packed):
    official.write_isic2018_task1(tmp_path, TASK1)
    if packed:
        pack_all(tmp_path)
    records, problems = read(tmp_path)
    assert problems == []
    assert [(record.image_id, record.partition) for record in records] == [
        (image_id, PARTITIONS[part]) for part in TASK1 for image_id in TASK1[part]
    ]
    assert {(record.diagnosis, record.malignant) for record in records} == {("", -1)}
    for record, drawn in zip(records[:6], official.drawn(6), strict=True):
        assert record.image.read() == drawn.image.read() and record.mask.read() == drawn.mask.read()


@pytest.mark.parametrize("packed", [False, True])
def test_task3_alone(tmp_path, packed):
    official.write_isic2018_task3(tmp_path, TASK3)
    if packed:
        pack_all(tmp_path)
    records, problems = read(tmp_path)
    assert problems == []
    assert [(record.image_id, record.partition) for record in records] == [
        (image_id, PARTITIONS[part]) for part in TASK3 for image_id in TASK3[part]
    ]
    train = records[:14]
    assert [record.diagnosis for record in train] == 2 * [
        "melanoma",
        "nevus",
        "basal cell carcinoma",
        "actinic keratosis or intraepithelial carcinoma",
        "benign keratosis",
        "dermatofibroma",
        "vascular lesion",
    ]
    assert [record.malignant for record in train] == 2 * [1, 0, 1, 1, 0, 0, 0]
    assert [record.lesion_id for record in train] == [f"HAM_{i // 2:07d}" for i in range(14)]
    assert {record.confirmation for record in train} == {"histopathology"}
    assert all(record.mask is None and not record.lesion_id for record in records[14:])


def test_both_tasks_and_the_stricter_partition(tmp_path):
    shared = TASK3["Training"]
    official.write_isic2018_task1(
        tmp_path, {"Training": [*TASK1["Training"], shared[0]], "Validation": shared[1:2], "Test": shared[2:3]}
    )
    official.write_isic2018_task3(tmp_path, {"Training": shared, "Test": [*TASK3["Test"], TASK1["Training"][0]]})
    records, problems = read(tmp_path)
    assert problems == []
    known = {record.image_id: record for record in records}
    assert len(known) == len(records) == 6 + 14 + 3
    assert [known[image_id].partition for image_id in shared[:4]] == ["train", "validation", "test", "train"]
    assert known[TASK1["Training"][0]].partition == "test"
    drawn = official.drawn(14)
    assert known[shared[1]].image.read() == drawn[0].image.read() != drawn[1].image.read()  # Task 1's
    assert known[shared[1]].mask.read() == drawn[0].mask.read()
    assert (known[shared[1]].diagnosis, known[shared[1]].lesion_id) == ("nevus", "HAM_0000000")
    assert known[shared[3]].mask is None


def test_an_image_that_one_task_cannot_use_is_left_out(tmp_path):
    shared = TASK3["Training"]
    official.write_isic2018_task1(tmp_path, {"Training": shared[:4]})
    official.write_isic2018_task3(tmp_path, {"Training": shared})
    table = tmp_path / "ISIC2018_Task3_Training_GroundTruth/ISIC2018_Task3_Training_GroundTruth.csv"
    table.write_text(table.read_text().replace(f"{shared[0]},1.0,0.0", f"{shared[0]},1.0,1.0"))
    (tmp_path / f"ISIC2018_Task1_Training_GroundTruth/{shared[1]}_segmentation.png").unlink()
    (tmp_path / f"ISIC2018_Task3_Training_Input/{shared[9]}.jpg").unlink()
    records, problems = read(tmp_path)
    assert {problem.image_id: problem.kind for problem in problems} == {
        shared[0]: "unusable metadata row",
        shared[1]: "image without a mask",
        shared[9]: "metadata row without an image",
    }
    assert {record.image_id for record in records} == set(shared) - {shared[0], shared[1], shared[9]}


def test_parts_without_ground_truth_are_passed_over(tmp_path):
    official.write_isic2018_task1(tmp_path, TASK1)
    official.write_isic2018_task3(tmp_path, TASK3)
    (tmp_path / "ISIC2018_Task1_Test_GroundTruth").rename(tmp_path / "old1")
    (tmp_path / "ISIC2018_Task3_Test_GroundTruth/ISIC2018_Task3_Test_GroundTruth.csv").unlink()
    records, problems = read(tmp_path)
    assert problems == [] and {record.partition for record in records} == {"train", "validation"}


def test_lesion_groupings(tmp_path):
    official.write_isic2018_task3(tmp_path, TASK3)
    table = tmp_path / "ISIC2018_Task3_Training_LesionGroupings.csv"
    text = table.read_text()
    table.write_text("\n".join(line for line in text.splitlines() if TASK3["Training"][3] not in line))
    _, [problem] = read(tmp_path)
    assert problem.image_id == TASK3["Training"][3] and "lesion groupings" in problem.what
    table.unlink()
    with pytest.raises(FileNotFoundError, match=r"ISIC2018_Task3_Training_LesionGroupings.csv.*isic-archive.com"):
        read(tmp_path)


def test_akiec_by_isic2019(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGFUSION_DATA", str(tmp_path))
    official.write_isic2018_task3(tmp_path / "isic2018", TASK3)
    data = config.Data(collection="isic2018", akiec="by_isic2019")
    with pytest.raises(FileNotFoundError, match=r"ISIC_2019_Training_GroundTruth.csv"):
        read(tmp_path / "isic2018", data)
    akiec = TASK3["Training"][3], TASK3["Training"][10]
    truth = [
        (image_id, *("1.0" if code == chosen else "0.0" for code in taxonomy.ISIC2019))
        for image_id, chosen in ((akiec[0], "AK"), (akiec[1], "SCC"), (TASK3["Training"][0], "BCC"))
    ]
    table = tmp_path / "isic2019/ISIC_2019_Training_GroundTruth.csv"
    official.write_table(table, [("image", *taxonomy.ISIC2019), *truth])
    known = {record.image_id: record for record in read(tmp_path / "isic2018", data)[0]}
    assert known[akiec[0]].diagnosis == "actinic keratosis"
    assert known[akiec[1]].diagnosis == "squamous cell carcinoma"
    assert known[TASK3["Training"][0]].diagnosis == "melanoma"  # only akiec is relabelled


def test_nothing_there(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"ISIC2018_Task1-2_Training_Input.*ISIC2018_Task3.*--config.data.root="
    ):
        read(tmp_path)
