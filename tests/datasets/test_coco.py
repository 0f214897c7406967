"""COCO files in and out: against hand-worked cases, and a peer that asks each pixel's middle."""

import io
import json

import numpy as np
import pytest
from matplotlib.path import Path
from PIL import Image

from segfusion_jax.datasets import coco
from segfusion_jax.datasets.files import MemoryFile
from tests.datasets.collections.test_columns import understand
from tests.datasets.collections.test_image_folder import write


def read(content, meant=None):
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return coco.read("a.json", MemoryFile("a.json", text), meant or {})


def document(*segmentations, height=4, width=5, names=("lesion",)):
    drawn = [{"image_id": 1, "category_id": i % len(names), "segmentation": one} for i, one in enumerate(segmentations)]
    image = {"id": 1, "file_name": "a.jpg", "height": height, "width": width}
    categories = [{"id": i, "name": name} for i, name in enumerate(names)]
    return {"images": [image], "annotations": drawn, "categories": categories}


def pixels(*segmentations, **options) -> np.ndarray:
    [entry] = read(document(*segmentations, **options))
    assert entry.mask is not None
    decoded = np.asarray(Image.open(io.BytesIO(entry.mask.read())))
    assert set(np.unique(decoded)) <= {0, 255}
    return decoded > 0


def test_a_polygon_by_hand():
    expected = np.zeros((4, 5), bool)
    expected[1:3, 1:4] = True
    assert np.array_equal(pixels([[1, 1, 4, 1, 4, 3, 1, 3]]), expected)
    assert np.array_equal(pixels([1, 1, 4, 1, 4, 3, 1, 3]), expected)  # not in a list, as some write
    assert np.array_equal(pixels([[1, 1, 3, 1, 3, 3, 1, 3]], [[3, 1, 4, 1, 4, 3, 3, 3]]), expected)


def inside(x: float, y: float, corners: list[list[float]]) -> bool:
    """Whether a ray from the point to the right crosses an odd number of edges."""
    crossed = False
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
            crossed = not crossed
    return crossed


@pytest.mark.parametrize("seed", range(5))
def test_polygons_like_a_peer(seed):
    corners = np.random.default_rng(seed).uniform(-5, 45, (7, 2))
    found = pixels([corners.ravel().tolist()], height=40, width=40)
    assert [bool(one) for one in found.ravel()] == [
        inside(column + 0.5, row + 0.5, corners.tolist()) for row in range(40) for column in range(40)
    ]
    y, x = np.mgrid[:40, :40] + 0.5
    triangle = corners[:3]
    expected = Path(triangle, closed=False).contains_points(np.c_[x.ravel(), y.ravel()]).reshape(40, 40)
    assert np.array_equal(pixels([triangle.ravel().tolist()], height=40, width=40), expected)


def test_run_lengths_by_hand():
    expected = np.zeros((4, 5), bool)
    expected[1:3, 1], expected[0, 2] = True, True  # down the columns: 5 without, 2 with, 1 without, 1 with, 11 without
    assert np.array_equal(pixels({"counts": [5, 2, 1, 1, 11], "size": [4, 5]}), expected)
    # as text: 5, 2, 1, then 1 - 2 = -1 and 11 - 1 = 10, five bits a letter, from "0" on
    assert np.array_equal(pixels({"counts": "521O:", "size": [4, 5]}), expected)


@pytest.mark.parametrize("hole", [False, True])
def test_what_is_written_is_read_back(hole):
    y, x = np.mgrid[:90, :120]
    lesion = (x - 60) ** 2 / 4 + (y - 40) ** 2 < 500
    lesion[70:72, 3:100] = True
    if hole:
        lesion &= (x - 60) ** 2 + (y - 40) ** 2 > 50
    content = json.loads(json.dumps(coco.document([("a.jpg", lesion), ("b.jpg", lesion & False)])))
    first, second = read(content)
    assert second.mask is None and first.mask is not None
    found = first.mask.pixels()
    if hole:
        assert np.array_equal(found, lesion)
        return
    assert (found & lesion).sum() / (found | lesion).sum() > 0.95
    assert len(content["annotations"]) == 2  # one for each part, that can be moved alone
    assert sum(len(one["segmentation"][0]) for one in content["annotations"]) < 120


def test_categories_that_may_be_no_lesions():
    two = document([[1, 1, 4, 1, 4, 3]], [[0, 0, 1, 0, 1, 1]], names=("mole", "Hair"))
    with pytest.raises(
        ValueError, match="'Hair', 'mole': which are lesions\\? Say it in .values.category. of a labels.toml"
    ):
        read(two)
    [entry] = read(two, {"hair": ""})
    assert entry.mask is not None and not entry.mask.pixels()[0, 0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"segmentation": [[1, 2, 3, 4]]}, "must be x, y of three corners"),
        ({"segmentation": [[1, 2, 3, 4, 5, float("nan")]]}, "must be x, y of three corners"),
        ({"segmentation": {"counts": [1, -2], "size": [4, 5]}}, "run lengths"),
        ({"segmentation": {"counts": "\x00", "size": [4, 5]}}, "run lengths"),
        ({"segmentation": {"size": [4, 5]}}, "no 'counts'"),
        ({"image_id": 9}, "no 9"),
    ],
)
def test_what_is_no_coco_is_said(change, said):
    content = document([[1, 1, 4, 1, 4, 3]])
    content["annotations"][0] |= change
    with pytest.raises(ValueError, match=f"a.json: a COCO file that cannot be understood: .*{said}"):
        read(content)
    with pytest.raises(ValueError, match="a.json: no JSON"):
        read(b"{")
    assert read({"settings": 1}) == []


def test_run_lengths_of_another_size_are_an_unreadable_mask():
    [entry] = read(document({"counts": [3, 4], "size": [4, 5]}))
    assert entry.mask is not None
    with pytest.raises(ValueError, match="run lengths of 7 pixels"):
        entry.mask.read()


@pytest.mark.parametrize(
    ("where", "called"),
    [
        ("annotations/instances_default.json", "a.jpg"),  # CVAT, whose images lie in images/
        ("result.json", "images/a.jpg"),  # Label Studio
        ("images/_annotations.coco.json", "a.jpg"),  # Roboflow
        ("annotations.json", "C:\\photos\\a.jpg"),
    ],
)
def test_places_of_coco_files(tmp_path, where, called):
    content = document([[1, 1, 4, 1, 4, 3]])
    content["images"][0]["file_name"] = called
    content["images"].append({"id": 2, "file_name": "gone.jpg", "height": 4, "width": 5})
    content["annotations"].append({"image_id": 2, "category_id": 0, "segmentation": [[1, 1, 4, 1, 4, 3]]})
    write(tmp_path, "images/a.jpg", "images/b.jpg", "settings.json")
    (tmp_path / "settings.json").write_text("{}")
    (tmp_path / where).parent.mkdir(exist_ok=True)
    (tmp_path / where).write_text(json.dumps(content))
    found = understand(tmp_path)
    assert {one.image_id: one.mask is not None for one in found.records} == {"a": True, "b": False}
    assert found.passed_over == {
        "files that are no images": ("settings.json",),
        "annotations of no image": ("gone.jpg",),
    }
