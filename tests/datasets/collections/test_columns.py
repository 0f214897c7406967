"""Tables as spreadsheets write them: names of columns, encodings, groups, label maps."""

import pytest

from segfusion_jax import config
from segfusion_jax.datasets.collections import columns, image_folder
from segfusion_jax.datasets.files import Folder
from segfusion_jax.datasets.joining import collect
from tests.datasets.collections.test_image_folder import write


def understand(root, **fields):
    return image_folder.understand(Folder(root), config.Data(collection="image_folder", **fields))


@pytest.mark.parametrize(
    "name", ["patient_id", "Patient ID", "PATIENT-ID", "PatientId", "patient", "Subject", "Patient Nr."]
)
def test_patients_by_any_name(tmp_path, name):
    write(tmp_path, "a.jpg", "b.jpg", table=f"Image Name,Benign_Malignant,{name}\na,benign,p1\nb,malignant,-\n")
    found = understand(tmp_path)
    assert [(one.patient_id, one.malignant) for one in found.records] == [("p1", 0), ("", 1)]
    assert f"images belong together by {name!r}" in found.read_as


@pytest.mark.parametrize(
    "name", ["Case No", "visit", "lesion code", "FallNummer", "patient initials", "person_id2 subject"]
)
def test_what_looks_like_a_group_stops(tmp_path, name):
    write(tmp_path, "a.jpg", "b.jpg", table=f"image,label,{name}\na,0,1\nb,1,1\n")
    with pytest.raises(ValueError, match=f"'{name}' look as if .*data.group='{name}' .*data.group=none"):
        understand(tmp_path)
    assert {one.patient_id for one in understand(tmp_path, group=name.upper()).records} == {"group:1"}
    found = understand(tmp_path, group="none")
    assert {one.patient_id for one in found.records} == {""}
    assert found.passed_over == {"columns that are not used": (name,)}
    assert "images belong together by nothing (data.group = none)" in found.read_as


def test_what_is_told_of_a_patient_is_no_group(tmp_path):
    write(tmp_path, "a.jpg", table="image,patient_age,lesion_size_mm,Lesion Type,clin_size\na,50,3,x,4\n")
    found = understand(tmp_path)
    assert found.records[0].age == 50
    assert found.passed_over == {"columns that are not used": ("lesion_size_mm", "Lesion Type", "clin_size")}


def test_none_groups_by_no_column(tmp_path):
    write(tmp_path, "a.jpg", table="image,patient_id,lesion_id\na,p,l\n")
    [record] = understand(tmp_path, group="none").records
    assert (record.patient_id, record.lesion_id) == ("", "")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("first", ["", "sep=;\r\n", '"sep=;"\n'])
def test_encodings_are_told(tmp_path, encoding, first):
    write(tmp_path, "Müller.jpg")
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (tmp_path / "labels.csv").write_bytes(f"{mark}{first}image;Geschlecht\nMüller;männlich\n".encode(encoding))
    found = understand(tmp_path)
    assert [(one.image_id, one.sex) for one in found.records] == [("Müller", "male")]
    told = {"utf-8-sig": "UTF-8", "utf-16-be": "UTF-16", "cp1252": "cp1252"}.get(encoding, encoding.upper())
    assert f"table labels.csv in {told}, 1 rows" in found.read_as[0]


def test_columns_that_differ_by_case_only_are_refused(tmp_path):
    write(tmp_path, "a.jpg", table="image,Label,label\na,0,1\n")
    with pytest.raises(ValueError, match="columns 'Label', 'label', which differ by case"):
        understand(tmp_path)
    (tmp_path / "labels.toml").write_text('[columns]\nlabel = "Label"\n')
    assert understand(tmp_path).records[0].malignant == 0


def test_a_label_map_says_what_names_do_not(tmp_path):
    write(tmp_path, "a.jpg", "b.jpg", "c.jpg", table="Nummer,Histo,Kode\na,SSM,k1\nb,unklar,k1\nc,nv,k2\n")
    columns = '[columns]\nimage = "Nummer"\nlabel = "Histo"\npatient_id = "Kode"\n'
    (tmp_path / "labels.toml").write_text(f'{columns}[values.label]\nssm = "melanoma"\nunklar = ""\n')
    found = understand(tmp_path)
    assert [one.diagnosis for one in found.records] == ["melanoma", "", "nevus"]
    assert [one.patient_id for one in found.records] == ["k1", "k1", "k2"]
    assert found.passed_over == {} and "label map: labels.toml" in found.read_as
    (tmp_path / "labels.toml").rename(tmp_path.parent / "elsewhere.toml")
    named = understand(tmp_path, labels=str(tmp_path.parent / "elsewhere.toml"))
    assert named.records == found.records


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[columns", "no label map in TOML"),
        ("[colums]\n", r"colums: must be \[columns\]"),
        ('[columns]\nx = "a"\n', "must be of image, "),
        ("[columns]\nimage = 3\n", "must map texts to texts"),
        ("[values]\nlabel = 3\n", "must map texts to texts"),
        ('[columns]\nimage = "gone"\n', "no column 'gone'; it has image, label"),
    ],
)
def test_a_label_map_that_is_none(tmp_path, text, said):
    write(tmp_path, "a.jpg", table="image,label\na,0\n")
    (tmp_path / "labels.toml").write_text(text)
    with pytest.raises(ValueError, match=said):
        understand(tmp_path)


def test_a_label_and_whether_it_is_malignant(tmp_path):
    rows = "a,nevus,0\nb,,1\nc,melanoma,?\nd,nevus,1\n"
    write(tmp_path, "a.jpg", "b.jpg", "c.jpg", "d.jpg", table=f"image,diagnosis,target\n{rows}")
    found = understand(tmp_path)
    assert [(one.diagnosis, one.malignant) for one in found.records] == [("nevus", 0), ("", 1), ("melanoma", 1)]
    assert [(one.image_id, "contradicts '1'" in one.what) for one in found.problems] == [("d", True)]


def test_fields_of_anybodys_own_folder_are_refused_elsewhere():
    with pytest.raises(ValueError, match="data.group = 'none': must be \"\" with collection 'synthetic'"):
        collect(config.Data(group="none"))


@pytest.mark.parametrize(
    ("name", "expected"), [("Case-Nr", True), ("lesionDiameter", False), ("fall", True), ("x", False)]
)
def test_names_of_groups(name, expected):
    assert columns.looks_like_a_group(name) == expected
