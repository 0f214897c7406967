"""Anybody's own images: tables, class folders, masks, groups, and paths that lead nowhere good."""

import collections
import pathlib

import pytest

from segfusion_jax import config
from segfusion_jax.datasets import taxonomy
from segfusion_jax.datasets.collections import image_folder
from segfusion_jax.datasets.files import Folder
from tests.datasets import official

DATA = config.Data(collection="image_folder")


def read(root: pathlib.Path, data: config.Data = DATA):
    return image_folder.read(Folder(root), data)


def write(root: pathlib.Path, *paths: str, table: str = "", name: str = "labels.csv") -> pathlib.Path:
    """Files whose content is their path, and a table."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    if table:
        (root / name).write_text(table)
    return root


def contents(records) -> dict[str, str]:
    return {record.image_id: record.image.read().decode() for record in records}


def masks(records) -> dict[str, str | None]:
    return {record.image_id: record.mask and record.mask.read().decode() for record in records}


@pytest.mark.parametrize("form", ["folder", "archive", "archive of the folder"])
def test_a_table_of_ids(tmp_path, form):
    root = tmp_path / "mine"
    ids = official.write_image_folder(root)
    if form != "folder":
        root = official.pack(root, below="mine" if "of" in form else "")
    records, problems = read(root)
    assert problems == []
    assert [record.image_id for record in records] == ids
    for i, (record, drawn) in enumerate(zip(records, official.drawn(12), strict=True)):
        assert record.image.read() == drawn.image.read()
        assert (record.mask.read() if record.mask else None) == (drawn.mask.read() if i < 6 else None)
        assert (record.diagnosis, record.malignant) == ("", drawn.malignant)
        assert record.patient_id == f"group:{drawn.lesion_id}" and record.lesion_id == ""


def test_every_column(tmp_path):
    table = """File;Label;Mask;Lesion_ID;Patient_ID;Age;Sex;Site;Fitzpatrick;Split
a.jpg;bcc;m/x.png;L1;P1;50;f;arm;IV;val
sub\\b.PNG;benign;;L2;unknown;0;;;;
./sub/c.jpg;;y.png;NA;P3;85+;m;unknown;unknown;test
"""
    write(tmp_path, "a.jpg", "sub/b.PNG", "sub/c.jpg", "m/x.png", "masks/y.png", table=table)
    (a, b, c), problems = read(tmp_path)
    assert problems == []
    assert (a.image_id, a.lesion_id, a.patient_id, a.age, a.sex, a.site) == ("a", "L1", "P1", 50, "female", "arm")
    assert [record.skin_tone for record in (a, b, c)] == ["IV", "", ""]
    assert (a.diagnosis, a.malignant, a.partition) == ("basal cell carcinoma", 1, "validation")
    assert (b.diagnosis, b.malignant, b.patient_id, b.partition) == ("", 0, "", "")
    assert (c.diagnosis, c.malignant, c.lesion_id, c.site, c.partition) == ("", -1, "", "", "test")
    assert contents([a, b, c]) == {"a": "a.jpg", "b": "sub/b.PNG", "c": "sub/c.jpg"}
    assert masks([a, b, c]) == {"a": "m/x.png", "b": None, "c": "masks/y.png"}


@pytest.mark.parametrize("column", ["image", "image_id", "filename", "file"])
@pytest.mark.parametrize("value", ["a", "a.jpg", "images/a.jpg", "images/a"])
@pytest.mark.parametrize("name", ["labels.csv", "metadata.csv", "whatever.CSV"])
def test_ways_to_name_an_image(tmp_path, column, value, name):
    write(tmp_path, "images/a.jpg", table=f"{column}\n{value}\n", name=name)
    records, problems = read(tmp_path)
    assert contents(records) == {"a": "images/a.jpg"} and problems == []


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("mel", ("melanoma", 1)),
        ("NV", ("nevus", 0)),
        ("akiec", ("actinic keratosis or intraepithelial carcinoma", 1)),
        ("scc", ("squamous cell carcinoma", 1)),
        ("Basal_cell_carcinoma", ("basal cell carcinoma", 1)),
        ("Malignant", ("", 1)),
        ("1", ("", 1)),
        ("0.0", ("", 0)),
        ("unknown", ("", -1)),
    ],
)
def test_labels(tmp_path, label, expected):
    write(tmp_path / "table", "a.jpg", table=f"image,label\na,{label}\n")
    write(tmp_path / "folders", f"{label}/a.jpg")
    for root in (tmp_path / "table", tmp_path / "folders"):
        [record], problems = read(root)
        assert problems == [] and (record.diagnosis, record.malignant) == expected


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("label", "wart?", "label = 'wart?': must be empty or one of melanoma"),
        ("label", "melanomma", "did you mean melanoma"),
        ("split", "fourth", "split = 'fourth': must be one of train"),
        ("age", "-1", "age = '-1'"),
        ("sex", "x", "sex = 'x'"),
        ("mask", "gone.png", "mask = 'gone.png': no such file"),
    ],
)
def test_a_row_that_cannot_be_used_is_a_problem(tmp_path, column, value, said):
    write(tmp_path, "a.jpg", "b.jpg", table=f"image,{column}\na,{value}\nb,\n")
    records, [problem] = read(tmp_path)
    assert [record.image_id for record in records] == ["b"]
    assert problem.image_id == "a" and said in problem.what


def test_rows_and_images_that_do_not_match(tmp_path):
    table = "image,label\na,nv\na.jpg,mel\ngone,nv\nb,nv\n"
    write(tmp_path, "images/a.jpg", "images/b.jpg", "images/c.jpg", "images/notes.txt", table=table)
    records, problems = read(tmp_path)
    assert contents(records) == {"b": "images/b.jpg"}
    assert [(problem.image_id, problem.what) for problem in problems] == [
        ("gone", "metadata row without an image"),
        ("a", "id seen twice: 2 metadata rows"),
        ("c", "image without a metadata row: c.jpg"),
    ]


def test_ids_stay_unique(tmp_path):
    write(tmp_path, "nv/a.jpg", "mel/a.jpg", "mel/b.jpg", "mel/c.jpg", "mel/c.png", "masks/mel/a.png", "masks/b.png")
    records, problems = read(tmp_path)
    assert problems == []
    assert contents(records) == {
        "nv/a": "nv/a.jpg",
        "mel/a": "mel/a.jpg",
        "b": "mel/b.jpg",
        "mel/c.jpg": "mel/c.jpg",
        "mel/c.png": "mel/c.png",
    }
    assert masks(records) == {"nv/a": None, "mel/a": "masks/mel/a.png", "b": "masks/b.png"} | {
        "mel/c.jpg": None,
        "mel/c.png": None,
    }


def test_places_of_masks(tmp_path):
    write(tmp_path, "images/a.jpg", "images/b.jpg", "images/c.jpg", "images/d.jpg", table="image\na\nb\nc\nd\n")
    write(tmp_path, "masks/a.png", "masks/b_segmentation.png", "images/c_segmentation.png", "images/d_other.txt")
    records, problems = read(tmp_path)
    assert problems == []
    assert masks(records) == {
        "a": "masks/a.png",
        "b": "masks/b_segmentation.png",
        "c": "images/c_segmentation.png",
        "d": None,
    }


def test_masks_that_a_table_names_are_no_images(tmp_path):
    write(tmp_path, "a.png", "a_lesion.png", "b.png", table="image,mask\na.png,a_lesion.png\nb.png,\n")
    records, problems = read(tmp_path)
    assert problems == [] and masks(records) == {"a": "a_lesion.png", "b": None}


def test_images_of_no_class(tmp_path):
    write(tmp_path, "images/a.jpg", "masks/a.png")
    [record], problems = read(tmp_path)
    assert problems == [] and (record.malignant, record.diagnosis) == (-1, "") and record.mask is not None


def test_an_image_beside_the_class_folders_is_a_problem(tmp_path):
    write(tmp_path, "benign/a.jpg", "malignant/b.jpg", "c.jpg", ".DS_Store", "benign/._a.jpg", "benign/Thumbs.db")
    records, [problem] = read(tmp_path)
    assert contents(records) == {"a": "benign/a.jpg", "b": "malignant/b.jpg"} and problem.image_id == "c"


@pytest.mark.parametrize(
    ("columns", "patient", "lesion"),
    [("group", "group:g", ""), ("group,patient_id", "p", "group:g"), ("group,lesion_id", "group:g", "p")],
)
def test_groups(tmp_path, columns, patient, lesion):
    values = "g,p" if "," in columns else "g"
    write(tmp_path, "a.jpg", "b.jpg", table=f"image,{columns}\na,{values}\nb,unknown{',' * columns.count(',')}\n")
    (a, b), _ = read(tmp_path)
    assert (a.patient_id, a.lesion_id) == (patient, lesion)
    assert (b.patient_id, b.lesion_id) == ("", "")


def test_of_three_columns_that_group_two_are_joined(tmp_path):
    rows = "a,g1,l1,p1\nb,g1,l2,p2\nc,g2,l2,p3\nd,l1,,p4\n"  # a and b by g1, b and c by l2; d's group is no lesion
    write(tmp_path, "a.jpg", "b.jpg", "c.jpg", "d.jpg", table=f"image,group,lesion_id,patient_id\n{rows}")
    records, _ = read(tmp_path)
    assert [record.patient_id for record in records] == ["p1", "p2", "p3", "p4"]
    a, b, c, d = (record.lesion_id for record in records)
    assert a == b == c != d != ""


@pytest.mark.parametrize("column", ["image", "mask"])
@pytest.mark.parametrize(
    "path", ["../out.jpg", "/etc/passwd", "x/../../out.jpg", "..\\out.jpg", "C:\\out.jpg", "\\\\x\\y"]
)
def test_a_path_that_leaves_the_folder_is_an_error(tmp_path, column, path):
    write(tmp_path, "out.jpg", "out.png")
    other = "mask" if column == "image" else "image"
    root = write(tmp_path / "mine", "a.jpg", table=f"{column},{other}\n{path},a.jpg\n")
    with pytest.raises(ValueError, match=r"labels.csv: 1 paths lead out of the folder: ") as error:
        read(root)
    assert path.replace("\\", "/") in str(error.value)


def test_what_cannot_be_read_at_all(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no table .*no folders .*--config.data.root=FOLDER"):
        read(tmp_path)
    write(tmp_path, "moles/a.jpg")
    with pytest.raises(ValueError, match="folder 'moles' is no class: .*melanoma"):
        read(tmp_path)
    write(tmp_path, table="number,label\na,nv\n", name="one.csv")
    with pytest.raises(ValueError, match=r"one.csv: no column of images \(image, .*it has number, label"):
        read(tmp_path)
    write(tmp_path, table="image,label\na,nv\n", name="two.csv")
    with pytest.raises(ValueError, match=r"several tables, one.csv, two.csv; call the one that counts labels.csv"):
        read(tmp_path)


def test_akiec_by_isic2019(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGFUSION_DATA", str(tmp_path))
    codes = taxonomy.ISIC2019
    truth = ("ISIC_1", *("1.0" if code == "SCC" else "0.0" for code in codes))
    official.write_table(tmp_path / "isic2019/ISIC_2019_Training_GroundTruth.csv", [("image", *codes), truth])
    root = write(tmp_path / "mine", "ISIC_1.jpg", "other.jpg", table="image,label\nISIC_1,akiec\nother,akiec\n")
    records, _ = read(root, config.Data(collection="image_folder", akiec="by_isic2019"))
    assert [record.diagnosis for record in records] == ["squamous cell carcinoma", taxonomy.HAM10000["akiec"]]


def test_the_real_archive_as_it_is():
    records, problems = read(official.real("isic_archive"))
    assert problems == [] and len(records) == 2_956
    count = collections.Counter(record.diagnosis for record in records)
    assert (count["melanoma"], count["nevus"], count[""]) == (879, 1_517, 523)
    assert sum(record.malignant for record in records) == 879 + 6 + 4  # squamous cell carcinomas, actinic keratoses
    groups = collections.Counter(record.patient_id for record in records)
    assert groups["group:IDS"] == 639 and len(groups) == 1_005


CATS = config.Data(collection="image_folder", classes="cat_a,Cat B")


def test_own_classes_are_folders_of_any_name(tmp_path):
    root = write(tmp_path, "train/cat_a/1.jpg", "train/cat-b/2.jpg", "test/CAT_A/patient_1/3.jpg")
    records, problems = read(root, CATS)
    assert problems == [] and sorted(
        (one.image_id, one.diagnosis, one.malignant, one.partition) for one in records
    ) == [
        ("1", "cat_a", -1, "train"),
        ("2", "Cat B", -1, "train"),
        ("3", "cat_a", -1, "test"),
    ]


@pytest.mark.parametrize(
    ("paths", "classes", "told"),
    [
        (
            ("melanoma/1.jpg", "cat_a/2.jpg"),
            "cat_a,cat_b",
            "'melanoma': must be empty or one of data.classes, cat_a, cat_b",
        ),
        (("cat_aa/1.jpg",), "cat_a,cat_b", "did you mean cat_a"),
        (("cat_a/cat_b/1.jpg",), "cat_a,cat_b", "cat_a/cat_b contradict each other"),
        (("a/1.jpg", "test/2.jpg"), "a,test", "data.classes has test: a folder of that name says no class"),
        (("cat_a/1.jpg",), "", "data.classes that it is a class of your own"),
    ],
)
def test_folders_that_are_none_of_the_own_classes_are_refused(tmp_path, paths, classes, told):
    with pytest.raises(ValueError, match=told):
        read(write(tmp_path, *paths), config.Data(collection="image_folder", classes=classes))


def test_own_classes_in_a_table(tmp_path):
    table = "image,label,malignant\n1.jpg,Cat A,1\n2.jpg,?,0\n3.jpg,dog,\n4.jpg,moggy,\n"
    root = write(tmp_path, *(f"{number}.jpg" for number in range(1, 5)), table=table)
    (root / "labels.toml").write_text('[values.label]\nmoggy = "cat b"\n')
    found = image_folder.understand(Folder(root), CATS)
    assert {one.image_id: one.diagnosis for one in found.records} == {"1": "cat_a", "2": "", "4": "Cat B"}
    assert [one.malignant for one in found.records] == [-1] * 3
    assert found.passed_over["columns that are not used"] == ("malignant",)
    ((where, what),) = [(one.image_id, one.what) for one in found.problems]
    assert where == "3" and "one of data.classes, cat_a, Cat B" in what


def test_own_classes_one_a_column(tmp_path):
    root = write(tmp_path, "1.jpg", "2.jpg", table="image,cat_a,Cat B,weight\n1.jpg,0,1,3\n2.jpg,1,0,4\n")
    records, _ = read(root, CATS)
    assert {one.image_id: one.diagnosis for one in records} == {"1": "Cat B", "2": "cat_a"}
