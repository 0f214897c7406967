"""HAM10000's folders, archives and tables."""

import collections
import math
import pathlib
import shutil

import pytest

from segfusion_jax import config
from segfusion_jax.datasets.collections import ham10000
from segfusion_jax.datasets.files import Folder
from tests.datasets import official

DATA = config.Data(collection="ham10000")


def read(root: pathlib.Path, data: config.Data = DATA):
    return ham10000.read(Folder(root), data)


def check_against_drawn(records, ids, *, masks: bool):
    assert [record.image_id for record in records] == ids
    for record, drawn in zip(records, official.drawn(len(ids)), strict=True):
        assert (record.malignant, record.diagnosis) == (drawn.malignant, drawn.diagnosis)
        assert record.lesion_id[-7:] == drawn.lesion_id[-7:]
        assert record.image.read() == drawn.image.read()
        assert (record.mask and record.mask.read()) == (drawn.mask.read() if masks else None)


@pytest.mark.parametrize("kaggle", [False, True])
def test_reads_both_layouts(tmp_path, kaggle):
    ids = official.write_ham10000(tmp_path, kaggle=kaggle)
    records, problems = read(tmp_path)
    assert problems == []
    check_against_drawn(records, ids, masks=not kaggle)


@pytest.mark.parametrize("name", ["HAM10000_metadata", "HAM10000_metadata.tab", "ham10000_metadata.TAB"])
def test_name_of_the_table(tmp_path, name):
    ids = official.write_ham10000(tmp_path)
    (tmp_path / "HAM10000_metadata").rename(tmp_path / name)
    records, problems = read(tmp_path)
    assert [record.image_id for record in records] == ids and problems == []


def test_folders_in_folders_of_their_own_name(tmp_path):
    ids = official.write_ham10000(tmp_path)
    for folder in [path for path in tmp_path.iterdir() if path.is_dir()]:
        folder.rename(tmp_path / "aside")
        folder.mkdir()
        (tmp_path / "aside").rename(folder / folder.name)
    records, problems = read(tmp_path)
    assert problems == []
    check_against_drawn(records, ids, masks=True)


@pytest.mark.parametrize("below", ["", "own name"])
def test_archives_in_place_of_folders(tmp_path, below):
    ids = official.write_ham10000(tmp_path)
    for folder in [path for path in tmp_path.iterdir() if path.is_dir()]:
        official.pack(folder, below=below and folder.name)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    records, problems = read(tmp_path)
    assert problems == []
    check_against_drawn(records, ids, masks=True)


@pytest.mark.parametrize("below", ["", "HAM10000", "some/where"])
def test_everything_in_one_archive(tmp_path, below):
    ids = official.write_ham10000(tmp_path / "HAM10000")
    records, problems = read(official.pack(tmp_path / "HAM10000", below=below))
    assert problems == []
    check_against_drawn(records, ids, masks=True)
    assert list(tmp_path.iterdir()) == [tmp_path / "HAM10000.zip"]


def test_archives_in_an_archive_as_dataverse_sends_them(tmp_path):
    official.write_ham10000(tmp_path / "all")
    for folder in [path for path in (tmp_path / "all").iterdir() if path.is_dir()]:
        official.pack(folder)
    with pytest.raises(FileNotFoundError, match=r"all.zip \(archives in an archive are not looked into"):
        read(official.pack(tmp_path / "all"))


def test_an_archive_beside_its_unpacked_folder_is_no_second_picture(tmp_path):
    ids = official.write_ham10000(tmp_path)
    folder = tmp_path / "HAM10000_images_part_1"
    shutil.copytree(folder, tmp_path / "copy")
    official.pack(folder)
    (tmp_path / "copy").rename(folder)
    records, problems = read(tmp_path)
    assert [record.image_id for record in records] == ids and problems == []


@pytest.mark.parametrize("packed", [False, True])
def test_what_macos_leaves_behind(tmp_path, packed):
    ids = official.write_ham10000(tmp_path)
    folder = tmp_path / "HAM10000_images_part_1"
    for junk in (f"._{ids[0]}.jpg", ".DS_Store", f"__MACOSX/HAM10000_images_part_1/._{ids[0]}.jpg"):
        (folder / junk).parent.mkdir(parents=True, exist_ok=True)
        (folder / junk).write_bytes(b"junk")
        (tmp_path / junk).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / junk).write_bytes(b"junk")
    if packed:
        official.pack(folder)
    records, problems = read(tmp_path)
    assert problems == []
    check_against_drawn(records, ids, masks=True)


def test_zero_and_missing_ages_and_unknown_sex(tmp_path):
    official.write_ham10000(tmp_path)
    records, _ = read(tmp_path)
    assert math.isnan(records[1].age) and math.isnan(records[2].age)
    assert records[0].age == official.drawn(1)[0].age
    assert records[3].sex == "" and records[0].sex in ("female", "male")


def test_rows_and_images_that_do_not_match(tmp_path):
    ids = official.write_ham10000(tmp_path)
    (tmp_path / f"HAM10000_images_part_1/{ids[0]}.jpg").unlink()
    (tmp_path / "HAM10000_images_part_2/ISIC_0099999.jpg").write_bytes(b"x")
    table = tmp_path / "HAM10000_metadata"
    row = next(line for line in table.read_bytes().split(b"\r\n") if ids[5].encode() in line)
    table.write_bytes(table.read_bytes() + row + b"\r\n")
    records, problems = read(tmp_path)
    assert [(problem.image_id, problem.kind) for problem in problems] == [
        (ids[0], "metadata row without an image"),
        (ids[5], "id seen twice"),
        ("ISIC_0099999", "image without a metadata row"),
    ]
    assert {record.image_id for record in records} == set(ids) - {ids[0], ids[5]}


def test_two_rows_that_contradict_each_other(tmp_path):
    ids = official.write_ham10000(tmp_path, kaggle=True)
    table = tmp_path / "HAM10000_metadata.csv"
    table.write_text(table.read_text() + f"HAM_9999999,{ids[7]},bcc,histo,50.0,male,back\n")
    records, problems = read(tmp_path)
    assert [(problem.image_id, problem.what) for problem in problems] == [(ids[7], "id seen twice: 2 metadata rows")]
    assert ids[7] not in {record.image_id for record in records}


def test_one_id_with_two_pictures(tmp_path):
    ids = official.write_ham10000(tmp_path)
    (tmp_path / f"HAM10000_images_part_2/{ids[0]}.jpg").write_bytes(b"another")
    _, problems = read(tmp_path)
    assert [(problem.image_id, problem.kind) for problem in problems] == [(ids[0], "id seen twice")]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (",nv,", ",naevus,", "dx = 'naevus': must be one of mel, nv"),
        (",female,", ",woman,", "sex = 'woman'"),
        (f",{official.drawn(1)[0].age},", ",-5,", "age = '-5'"),
        (f",{official.drawn(1)[0].age},", ",400,", "age = '400'"),
        (f",{official.drawn(1)[0].age},", ",old,", "age = 'old'"),
    ],
)
def test_a_row_that_cannot_be_used_is_a_problem_of_its_image(tmp_path, old, new, said):
    ids = official.write_ham10000(tmp_path, kaggle=True)
    table = tmp_path / "HAM10000_metadata.csv"
    text = table.read_text()
    row = next(line for line in text.splitlines() if old in line)
    table.write_text(text.replace(row, row.replace(old, new)))
    records, [problem] = read(tmp_path)
    assert problem.image_id == row.split(",")[1]
    assert problem.kind == "unusable metadata row" and said in problem.what
    assert len(records) == len(ids) - 1


@pytest.mark.parametrize("unknown", ["", "unknown", "NA", "nan", "None"])
def test_unknown_lesions_join_nothing(tmp_path, unknown):
    official.write_ham10000(tmp_path, kaggle=True)
    table = tmp_path / "HAM10000_metadata.csv"
    header, *lines = table.read_text().splitlines()
    table.write_text("\n".join([header, *(f"{unknown},{line.partition(',')[2]}" for line in lines)]))
    records, problems = read(tmp_path)
    assert problems == [] and {record.lesion_id for record in records} == {""}


@pytest.mark.parametrize("gone", ["HAM10000_images_part_1", "HAM10000_metadata"])
def test_missing_parts_say_where_to_get_them(tmp_path, gone):
    official.write_ham10000(tmp_path)
    for path in tmp_path.glob("HAM10000_images*" if "images" in gone else gone):
        path.rename(tmp_path / f"old_{path.name}")
    with pytest.raises(FileNotFoundError) as error:
        read(tmp_path)
    for part in (gone, "10.7910/DVN/DBW86T", "--config.data.root=", "SEGFUSION_DATA", str(tmp_path)):
        assert part in str(error.value)


def test_a_broken_table_is_named(tmp_path):
    official.write_ham10000(tmp_path, kaggle=True)
    table = tmp_path / "HAM10000_metadata.csv"
    text = table.read_text()
    table.write_text(text.replace("dx,", "disease,", 1))
    with pytest.raises(ValueError, match=r"HAM10000_metadata.csv: no column, or more than one, dx; it has .*disease"):
        read(tmp_path)
    table.write_text(text.rstrip()[: text.rstrip().rindex(",")])
    with pytest.raises(ValueError, match="HAM10000_metadata.csv, line 25"):
        read(tmp_path)


def test_akiec_by_isic2019(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGFUSION_DATA", str(tmp_path))
    ids = official.write_ham10000(tmp_path / "ham10000", kaggle=True)
    table = tmp_path / "ham10000/HAM10000_metadata.csv"
    table.write_text(table.read_text().replace(",mel,", ",akiec,"))
    data = config.Data(collection="ham10000", akiec="by_isic2019")
    with pytest.raises(FileNotFoundError, match=r"ISIC_2019_Training_GroundTruth.csv"):
        read(tmp_path / "ham10000", data)
    codes = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")
    official.write_table(
        tmp_path / "isic2019/ISIC_2019_Training_GroundTruth.csv",
        [
            ("image", *codes),
            *(
                (image_id, *("1.0" if code == ("AK", "SCC")[i % 2] else "0.0" for code in codes))
                for i, image_id in enumerate(ids)
            ),
        ],
    )
    records, problems = read(tmp_path / "ham10000", data)
    assert problems == []
    for i, (record, drawn) in enumerate(zip(records, official.drawn(24), strict=True)):
        relabelled = ("actinic keratosis", "squamous cell carcinoma")[i % 2]
        assert record.diagnosis == (relabelled if drawn.malignant else "nevus")
        assert record.malignant == drawn.malignant


def test_real_counts():
    records, problems = read(official.real("ham10000"))
    assert problems == []
    assert len(records) == 10_015
    assert len({record.lesion_id for record in records}) == 7_470
    assert sum(record.malignant for record in records) == 1_954
    assert all(
        record.mask is not None and record.mask.name == f"{record.image_id}_segmentation.png" for record in records
    )
    assert sum(math.isnan(record.age) for record in records) == 57 + 39
    assert sum(record.sex == "" for record in records) == 57
    assert sum(record.site == "" for record in records) == 234
    assert collections.Counter(record.confirmation for record in records) == {
        "histo": 5340,
        "follow_up": 3704,
        "consensus": 902,
        "confocal": 69,
    }
    assert collections.Counter(record.diagnosis for record in records) == {
        "nevus": 6705,
        "melanoma": 1113,
        "benign keratosis": 1099,
        "basal cell carcinoma": 514,
        "actinic keratosis or intraepithelial carcinoma": 327,
        "vascular lesion": 142,
        "dermatofibroma": 115,
    }


def test_real_akiec_by_isic2019():
    official.real("isic2019")
    records, _ = read(official.real("ham10000"), config.Data(collection="ham10000", akiec="by_isic2019"))
    count = collections.Counter(record.diagnosis for record in records)
    assert count["actinic keratosis"] == 130 and count["squamous cell carcinoma"] == 197
    assert "actinic keratosis or intraepithelial carcinoma" not in count
    assert sum(record.malignant for record in records) == 1_954
