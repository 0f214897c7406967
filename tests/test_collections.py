"""Several collections in a config: in a file, on the command line, and as the version before wrote them."""

import json

import pytest

from segfusion_jax import config
from segfusion_jax.commands import config_files
from segfusion_jax.config import Config, Data, Source


def with_collections(collections: dict, collection: str = "") -> Data:
    values = config.default()
    values.data.collection = collection
    values.data.collections = collections
    made = Config.from_config_dict(values)
    assert Config.from_json(made.to_json()) == made == Config.from_config_dict(made.to_config_dict())
    assert isinstance(hash(made), int)
    return made.data


def test_the_short_form_is_one_collection():
    data = Data(collection="isic2017", root="/here")
    assert data.sources == {"isic2017": Source(root="/here")}
    assert (data.own, data.name) == (("isic2017",), "isic2017")


def test_collections_in_a_file_are_sorted_and_completed():
    data = with_collections({"mine": {"reader": "image_folder", "weight": 2}, "ham10000": {}, "ph2": {"use": "masks"}})
    assert list(data.sources) == ["ham10000", "mine", "ph2"]
    assert data.sources["mine"] == Source(reader="image_folder", root="", use="all", weight=2.0)
    assert (data.own, data.name) == (("ham10000", "mine"), "ham10000+mine")


def test_more_may_be_said_of_the_first_collection():
    data = with_collections({"isic2017": {}, "ham10000": {"weight": 0.5, "root": "/a"}}, "ham10000")
    assert list(data.sources) == ["ham10000", "isic2017"]
    assert data.sources["ham10000"] == Source(root="/a", weight=0.5)


def test_collections_on_the_command_line():
    changes = ["isic2017.use=test", "archive.reader=image_folder", "archive.root=/b", "archive.weight=3"]
    loaded = config_files.load("ham10000", [f"data.collections.{change}" for change in changes] + ["data.root=/a"])
    assert loaded.data.sources == {
        "ham10000": Source(root="/a"),
        "archive": Source(reader="image_folder", root="/b", weight=3.0),
        "isic2017": Source(use="test"),
    }


@pytest.mark.parametrize(
    ("collections", "message"),
    [
        ({"mine": {}}, r"data.collections.mine.reader = '': must be one of .*image_folder, since 'mine' is none"),
        ({"ham10000": {"use": "look"}}, "data.collections.ham10000.use = 'look': must be one of 'all', 'train'"),
        ({"ham10000": {"weight": -1.0}}, r"data.collections.ham10000.weight = -1.0: must be in \[0, 1000\]"),
        ({"ham10000": {"path": "/"}}, "data.collections.ham10000.path = '/': unknown field"),
        ({"ham10000": 3}, "data.collections.ham10000 = 3: must be a section of fields"),
        ({"HAM 10": {"reader": "ham10000"}}, "data.collections.HAM 10: names must be of small letters"),
        ({"ham10000": {"use": "masks"}}, 'data.collections = .*: must be at least one whose use is not "masks"'),
        ({}, 'data.collections = {}: must be at least one whose use is not "masks"'),
    ],
)
def test_what_is_refused(collections, message):
    with pytest.raises(ValueError, match=message):
        with_collections(collections)


def test_drawn_images_get_among_others_only_by_name():
    with pytest.raises(ValueError, match="data.collection = 'synthetic': must be the first collection, or \"\""):
        with_collections({"ham10000": {}}, "synthetic")
    assert with_collections({"ham10000": {}, "synthetic": {}}, "synthetic").own == ("synthetic", "ham10000")


def test_uses_need_groups():
    with pytest.raises(ValueError, match="protocol = 'by_image': must be 'grouped', .*isic2017 is for test only"):
        config_files.load("ham10000", ["data.collections.isic2017.use=test", "splits.protocol=by_image"])


OLD = Data(collection="isic2019", root="/a", collections={"ham10000": Source(root="/b", use="masks")})


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("isic2019", ["data.mask_root=/b"]),
        ("ham10000", ["data.collection=isic2019", "data.mask_collection=ham10000", "data.mask_root=/b"]),
    ],
)
def test_a_mask_collection_of_the_version_before_is_read_with_a_warning(name, changes, caplog):
    assert config_files.load(name, ["data.root=/a", *changes]).data == OLD
    (message,) = caplog.messages
    assert message.startswith(
        "config.data.mask_collection is called config.data.collections.ham10000.use = 'masks' now"
    )


def test_a_mask_collection_in_json_is_read_in_silence(caplog):
    old = {"collection": "isic2019", "root": "/a", "mask_collection": "ham10000", "mask_root": "/b"}
    assert Config.from_json(json.dumps({"data": old})).data == OLD
    same = {"collection": "ham10000", "root": "/a", "mask_collection": "", "mask_root": ""}
    assert Config.from_json(json.dumps({"data": same})).data == Data(collection="ham10000", root="/a")
    assert not caplog.messages
