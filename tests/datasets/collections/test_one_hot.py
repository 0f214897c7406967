"""Tables whose label is one column a class, of which one is 1."""

import pytest

from tests.datasets.collections.test_columns import understand
from tests.datasets.collections.test_image_folder import write

ISIC2019 = "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK"


def row(name: str, place: int, one: str = "1.0", zero: str = "0.0") -> str:
    return ",".join([name, *(one if i == place else zero for i in range(9))])


def test_the_column_that_is_1_is_the_label(tmp_path):
    table = "\n".join([ISIC2019, row("a", 0), row("b", 1), row("c", 3, "1", "0"), row("d", 8)])
    write(tmp_path, "a.jpg", "b.jpg", "c.jpg", "d.jpg", table=table + "\n")
    found = understand(tmp_path)
    assert [(one.diagnosis, one.malignant) for one in found.records] == [
        ("melanoma", 1),
        ("nevus", 0),
        ("actinic keratosis", 1),
        ("", -1),
    ]
    assert found.problems == [] and found.passed_over == {}
    assert "label is which of MEL, NV, BCC, AK, BKL, DF, VASC, SCC, UNK is 1" in found.read_as[0]
    assert found.labels == {("MEL", "MEL"): 1, ("NV", "NV"): 1, ("AK", "AK"): 1, ("UNK", ""): 1}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ("0.7,0.3,0", "MEL = '0.7', nv = '0.3': must be one 1 and else 0"),
        ("1,1,0", "MEL = '1', nv = '1': must be one 1"),
        ("0,0,0", "columns of classes have no 1"),
        ("1,,0", "MEL = '1', nv = '': must be one 1"),
    ],
)
def test_rows_that_are_soft_or_of_several_are_refused_by_name(tmp_path, values, told):
    write(
        tmp_path, "a.jpg", "b.jpg", table=f"file;MEL;nv;Basal cell carcinoma\na;0;0;1\nb;{values.replace(',', ';')}\n"
    )
    found = understand(tmp_path)
    assert [(one.image_id, one.diagnosis) for one in found.records] == [("a", "basal cell carcinoma")]
    [problem] = found.problems
    assert problem.image_id == "b" and told in problem.what


def test_a_label_map_says_what_a_column_is_called(tmp_path):
    write(tmp_path, "a.jpg", "b.jpg", table="image,SSM,Nävus\na,1,0\nb,0,1\n")
    (tmp_path / "labels.toml").write_text('[values.label]\nSSM = "melanoma"\n"Nävus" = "nevus"\n')
    assert [one.diagnosis for one in understand(tmp_path).records] == ["melanoma", "nevus"]


def test_beside_a_column_of_labels_they_are_not_used(tmp_path):
    write(tmp_path, "a.jpg", table="image,label,MEL,NV\na,nevus,1,0\n")
    found = understand(tmp_path)
    assert found.records[0].diagnosis == "nevus" and found.passed_over == {"columns that are not used": ("MEL", "NV")}


def test_beside_a_malignancy_that_contradicts_they_are_refused(tmp_path):
    write(tmp_path, "a.jpg", "b.jpg", table="image,target,MEL,NV\na,0,1,0\nb,0,0,1\n")
    found = understand(tmp_path)
    assert [one.diagnosis for one in found.records] == ["nevus"] and "contradicts" in found.problems[0].what


def test_one_column_alone_is_none(tmp_path):
    write(tmp_path, "a.jpg", table="image,melanoma,thickness\na,1,2\n")
    assert understand(tmp_path).passed_over == {"columns that are not used": ("melanoma", "thickness")}
