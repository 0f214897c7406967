"""Folders, tables and values that all official collections share."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segfusion_jax.datasets.collections import official
from segfusion_jax.datasets.files import Folder, MemoryFile


def rows(content: bytes, *columns: str, **options):
    return official.rows(MemoryFile("table.csv", content), columns, **options)


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_tables_of_every_form(line_end, delimiter, mark):
    lines = [["id", " other ", "age"], ['"a"', "", " 50 "], [], ["b", '"x y"', "60"], ["", "", ""]]
    content = mark + line_end.join(map(delimiter.join, lines)).encode()
    expected = [{"id": "a", "other": "", "age": "50"}, {"id": "b", "other": "x y", "age": "60"}]
    assert rows(content, "id", "other", "age") == expected
    assert official.header(MemoryFile("t", content)) == ["id", "other", "age"]


def test_only_what_is_asked_for_is_kept():
    content = b"id,a,b,c\n1,2,3,4\n"
    assert rows(content, "id", optional=("c", "d")) == [{"id": "1", "c": "4"}]
    assert rows(b"id\n", "id") == []


def test_quoted_values_hold_delimiters_and_line_ends():
    assert rows(b'id,text\n1,"a, ""b""\nc"\n', "id", "text") == [{"id": "1", "text": 'a, "b"\nc'}]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no column, or more than one, id; it has "),
        (b"ID,x\n1,2\n", "no column, or more than one, id; it has ID, x"),
        (b"id,id\n1,2\n", "no column, or more than one, id; it has id, id"),
        (b"id,x,x\n1,2,3\n", "no column, or more than one, x; it has id, x, x"),
        (b"id,x\n1,2\n3\n", "line 3: 1 values; the header has 2 columns"),
        (b"id,x\n1,2,3\n", "line 2: 3 values; the header has 2 columns"),
        ("id,x\n1,é\n".encode("latin-1"), "no UTF-8 text"),
        ("id,x\n1,2\n".encode("utf-16"), "no UTF-8 text"),
        (b'id,x\n1,"' + b"2" * 200_000, "line 2: field larger"),
    ],
)
def test_a_broken_table_is_named(content, said):
    with pytest.raises(ValueError) as error:
        rows(content, "id", optional=("x",))
    assert str(error.value).startswith("table.csv") and said in str(error.value)


def test_rows_that_are_the_only_ones():
    table = [{"id": "a", "x": "1"}, {"id": "b", "x": "2"}, {"id": "a", "x": "1"}]
    assert official.only_rows(table, column="id") == {"b": {"id": "b", "x": "2"}}


@pytest.mark.parametrize("text", ["", "unknown", "NA", "NaN", "0", "0.0", "N/A"])
def test_unknown_ages(text):
    assert math.isnan(official.age(text))


@given(st.floats(0.5, 130))
def test_ages(years):
    assert official.age(str(years)) == years


def test_open_ages():
    assert official.age("85+") == 85


@pytest.mark.parametrize("text", ["-1", "131", "inf", "-inf", "1e9", "old", "5 0"])
def test_absurd_ages(text):
    with pytest.raises(ValueError, match=r"age = .*must be years in \[0, 130\]"):
        official.age(text)


@pytest.mark.parametrize(("text", "sex"), [("f", "female"), ("M", "male"), ("Female", "female"), ("NA", ""), ("", "")])
def test_sexes(text, sex):
    assert official.sex(text) == sex


def test_folders_and_tables_are_found_below(tmp_path):
    for path in ("a/b/C", "a/d/c/c", "x/y/z/w/deep"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "a/Table.TAB").touch()
    (tmp_path / "a/b/table.csv").touch()
    root = Folder(tmp_path)
    assert [folder.path for folder in official.folders(root, "c")] == [tmp_path / "a/b/C", tmp_path / "a/d/c/c"]
    assert [folder.name for folder in official.folders(root, "d", "a")] == ["d", "a"]
    assert official.folders(root, "deep") == []
    first, second = official.table(root, "table.csv", "table.tab"), official.table(root, "table.tab", "table.csv")
    assert first and first.name == "table.csv" and second and second.name == "Table.TAB"
    assert official.table(root, "c", "other.csv") is None


def test_matching():
    one, other, longer = MemoryFile("a.jpg", b"1"), MemoryFile("a.jpg", b"1"), MemoryFile("a.jpg", b"12")
    usable, problems = official.match(
        ["same", "twice", "differ", "gone", "twice"],
        {"same": [one, other], "twice": [one], "differ": [one, longer], "new": [one]},
    )
    assert usable == {"same": one}
    assert [(problem.image_id, problem.kind) for problem in problems] == [
        ("differ", "id seen twice"),
        ("gone", "metadata row without an image"),
        ("new", "image without a metadata row"),
        ("twice", "id seen twice"),
    ]
