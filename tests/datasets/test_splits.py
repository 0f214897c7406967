"""Groups against connected components; the dealing of groups, and what makes it stay."""

import collections
import csv
import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from segfusion_jax import config
from segfusion_jax.datasets import groups, splits, table
from tests.datasets.rows import row

LESIONS = st.sampled_from(["", "L1", "L2", "L3", "L4"])
PATIENTS = st.sampled_from(["", "", "P1", "P2", "P3"])
CONTENTS = st.sampled_from(list("abcdefghijklmnop"))
SPLITS = config.Splits(test_fraction=0.2, validation_fraction=0.1, num_folds=4)


@pytest.fixture(autouse=True)
def no_looks(monkeypatch):
    """Looks are of near_duplicates' own tests; here images look alike if their hashes are equal."""

    def equal(hashes):
        return [(i, j) for j in range(len(hashes)) for i in range(j) if hashes[i] == hashes[j] != b""]

    monkeypatch.setattr(groups, "near_duplicates", equal)


def dealt(rows, options=SPLITS) -> dict[str, tuple[str, int]]:
    return {row.image_id: (row.split, row.fold) for row in splits.deal(rows, options)}


def lesions(count: int, *, first: int = 0, seed: int = 0):
    """Lesions of one to five images, 10 % of them melanomas, from two collections."""
    rng = np.random.default_rng(seed)
    made = []
    for lesion in range(first, first + count):
        facts = dict(target=int(rng.random() < 0.1), source="ab"[int(rng.random() < 0.3)], group=f"G{lesion:05d}")
        facts["diagnosis"] = ("nevus", "melanoma")[facts["target"]]
        made += [row(0, image_id=f"I{lesion:05d}_{view}", **facts) for view in range(rng.integers(1, 6))]
    return made


@given(
    st.lists(st.tuples(LESIONS, PATIENTS, CONTENTS, CONTENTS), max_size=14),
    st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=3),
)
@settings(max_examples=100, deadline=None)
def test_groups_are_the_connected_components(facts, pairs):
    rows = [
        row(i, lesion_id=lesion, patient_id=patient, sha256=content, perceptual_hash=looks.encode().hex())
        for i, (lesion, patient, content, looks) in enumerate(facts)
    ]
    named = groups.joined(rows, [(f"I{a:04d}", f"I{b:04d}") for a, b in pairs])
    published = {(a, b) for a, b in pairs if max(a, b) < len(facts)}
    for column, kinds in (("picture", [2]), ("lookalike", [3]), ("group", [0, 1, 2, 3])):
        edges = [(i, i) for i in range(len(facts))] + (sorted(published) if column != "lookalike" else [])
        for i, one in enumerate(facts):
            edges += [(i, j) for j, other in enumerate(facts) if any(one[k] == other[k] != "" for k in kinds)]
        starts, ends = np.array(edges, int).reshape(-1, 2).T
        graph = coo_array((np.ones(len(edges)), (starts, ends)), shape=(len(facts), len(facts)))
        component = connected_components(graph)[1] if facts else []
        for i in range(len(facts)):
            members = [rows[j].image_id for j in range(len(facts)) if component[j] == component[i]]
            assert getattr(named[i], column) == min(members)


def test_a_downsampled_copy_is_its_original():
    original, copy = groups.joined([row(0, image_id="ISIC_1"), row(1, image_id="ISIC_1_downsampled")])
    assert copy.picture == copy.group == original.group == "ISIC_1" and copy.lookalike == "ISIC_1_downsampled"


@given(st.lists(st.tuples(st.text("abc", max_size=3), st.booleans()), max_size=40), st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_no_group_is_on_two_sides(facts, seed):
    rows = [row(i, group=group, target=int(target)) for i, (group, target) in enumerate(facts)]
    places = collections.defaultdict(set)
    for one in splits.deal(rows, dataclasses.replace(SPLITS, seed=seed)):
        places[one.group].add((one.split, one.fold))
        assert (one.fold == -1) == (one.split == "test") and one.fold < 4
    assert all(len(place) == 1 for place in places.values())


def test_every_stratum_is_divided_evenly():
    rows = splits.deal(lesions(600), SPLITS)
    for source in "ab":
        for target in (0, 1):
            some = [one for one in rows if (one.source, one.target) == (source, target)]
            count = collections.Counter(one.split for one in some)
            granularity = 5 / len(some)  # the largest group
            for name, share in (("test", 0.2), ("validation", 0.1)):
                assert abs(count[name] / len(some) - share) <= max(0.1 * share, granularity) + 1e-9
            folds = np.bincount([one.fold for one in some if one.fold >= 0], minlength=4)
            assert abs(folds / folds.sum() - 0.25).max() < max(0.05, 2 * granularity)


@pytest.mark.parametrize("facts", [{"diagnosis": "dermatofibroma"}, {"has_mask": False}])
def test_what_is_rare_in_a_class_is_divided_like_the_rest(facts):
    """40 dermatofibromas among 1000 benign lesions: dealt together with the nevi, a split would have 8 +- 3 of them."""
    rows = [row(i, **{} if i % 25 else facts) for i in range(1000)]
    rare_ids = {f"I{i:04d}" for i in range(0, 1000, 25)}
    for seed in range(5):
        rare = [one for one in splits.deal(rows, dataclasses.replace(SPLITS, seed=seed)) if one.image_id in rare_ids]
        count = collections.Counter(one.split for one in rare)
        assert abs(count["test"] - 8) <= 1 and abs(count["validation"] - 4) <= 1
        folds = np.bincount([one.fold for one in rare if one.fold >= 0], minlength=4)
        assert folds.min() >= 6 and folds.max() <= 10


def test_folds_know_nothing_of_the_validation():
    rows = splits.deal([row(i) for i in range(4000)], SPLITS)
    for split, expected in (("validation", 400), ("train", 2800)):
        folds = np.bincount([one.fold for one in rows if one.split == split], minlength=4)
        assert abs(folds / expected - 0.25).max() < 0.08, split  # 0.02 is one standard deviation of the validation


def test_a_rare_class_is_in_every_part():
    """38 melanomas of 30 patients among 800 images of 95: by hash alone, test had two."""
    rng = np.random.default_rng(3)
    rows = [row(i, group=f"P{rng.integers(95):03d}") for i in range(762)]
    rows += [row(762 + i, group=f"P{rng.integers(30):03d}", target=1) for i in range(38)]
    for seed in range(5):
        dealt_rows = splits.deal(rows, config.Splits(seed=seed))
        melanomas = collections.Counter(one.split for one in dealt_rows if one.target)
        assert min(melanomas["test"], melanomas["validation"]) >= 3
        assert len({one.fold for one in dealt_rows if one.target and one.fold >= 0}) == 5


def test_adding_images_moves_hardly_any_other_group():
    before = dealt(lesions(2000))
    after = dealt(lesions(2000) + lesions(300, first=5000, seed=1))
    moved = {image_id.partition("_")[0] for image_id in before if before[image_id] != after[image_id]}
    assert len(moved) <= 0.01 * 2000


def test_with_an_earlier_table_adding_images_moves_none(tmp_path):
    rows = splits.deal(lesions(100), SPLITS)
    table.write_rows(tmp_path / "splits.csv", rows)
    more = lesions(100) + lesions(80, first=5000, seed=1)
    twin = row(0, image_id="A_first_in_the_alphabet", group="G00007", sha256="new")  # renames nothing in the table
    options = dataclasses.replace(SPLITS, table=str(tmp_path / "splits.csv"))
    after = dealt([twin, *more], options)
    assert {image_id: after[image_id] for image_id in (one.image_id for one in rows)} == dealt(lesions(100))
    assert after["A_first_in_the_alphabet"] == after["I00007_0"]
    new = collections.Counter(place[0] for image_id, place in after.items() if image_id >= "I05000")
    assert set(new) == {"train", "validation", "test"}


def write_table(path, lines):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    return dataclasses.replace(SPLITS, table=str(path))


def test_a_table_of_ones_own(tmp_path):
    rows = [row(i) for i in range(40)]
    named = [(f"I{i:04d}", ("train", "validation", "test")[i % 3]) for i in range(40)]
    options = write_table(tmp_path / "own.csv", [("image_id", "split"), *named])
    after = dealt(rows, options)
    assert {image_id: place[0] for image_id, place in after.items()} == dict(named)
    assert {fold for split, fold in after.values() if split != "test"} == {0, 1, 2, 3}
    assert all(fold == -1 for split, fold in after.values() if split == "test")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([("image_id", "split"), ("I0000", "holdout")], "'holdout'.*a split of test"),
        ([("name", "split"), ("I0000", "test")], "no column.* image_id"),
        ([("image_id", "split"), ("", "test")], "an image_id"),
        ([("image_id", "split", "fold"), ("I0000", "train", "4")], "a fold below 4"),
        ([("image_id", "split"), ("I0000", "train"), ("I0001", "test")], "parts one lesion.*I0000 in train.*I0001 in"),
        ([("image_id", "split"), ("I0000.jpg", "test")], "none of the images.*I0000.jpg"),
        ([("image_id", "split"), ("I0000", "train"), ("I0000", "test")], "I0000 in .*train.* and in .*test"),
    ],
)
def test_an_unusable_table(tmp_path, lines, words):
    rows = [row(0), row(1, group="I0000")]
    with pytest.raises(ValueError, match=words):
        splits.deal(rows, write_table(tmp_path / "own.csv", lines))


def test_of_equal_pictures_one_takes_part():
    rows = [row(i) for i in range(60)]
    rows += [row(60, picture="I0003", group="I0003", has_mask=False)]
    rows += [row(61, picture="I0004", group="I0004", target=1)]
    rows += [row(62, picture="I0005", group="I0005", file_bytes=2000)]
    after = dealt(rows)
    assert after["I0060"] == ("unused", -1) and after["I0003"][0] != "unused"
    assert after["I0005"] == ("unused", -1) and after["I0062"][0] != "unused"  # the larger file
    assert after["I0061"] == after["I0004"] == ("unused", -1)  # they contradict each other


def test_of_equal_pictures_one_may_bring_the_target_and_one_the_mask():
    rows = [row(i, has_mask=False) for i in range(60)]
    rows += [row(60 + i, picture="I0003", group="I0003", target=-1, source="masks") for i in range(2)]
    after = dealt(rows)
    assert after["I0060"] == after["I0003"] != ("unused", -1) and after["I0061"] == ("unused", -1)


def test_an_official_test_set_stays_apart():
    rows = [row(i, partition="train") for i in range(60)] + [row(100 + i, partition="test") for i in range(20)]
    rows += [row(200, partition="train", group="I0100")]  # of a lesion of the test set
    rows += [row(120, partition="test", has_mask=False), row(220, partition="train", picture="I0120", group="I0120")]
    after = dealt(rows)
    assert after.pop("I0120") == ("official_test", -1) and after.pop("I0220") == ("unused", -1)
    rows = rows[:-2]
    assert {after[f"I{100 + i:04d}"][0] for i in range(20)} == {"official_test"}
    assert after["I0200"][0] == "unused"
    assert 11 <= collections.Counter(split for split, _ in after.values())["test"] <= 13
    official = dealt(rows, dataclasses.replace(SPLITS, official_test=True))
    assert {image_id for image_id, (split, _) in official.items() if split == "test"} == {
        f"I{100 + i:04d}" for i in range(20)
    }


def test_the_papers_protocol_leaks_and_is_balanced():
    rows = lesions(100)
    rarer = sum(one.source == "a" and one.target == 1 for one in rows)
    paper = splits.deal(rows, dataclasses.replace(SPLITS, protocol="paper"))
    used = [one for one in paper if one.split != "unused"]
    assert len(paper) == len({one.image_id for one in paper})
    assert len({one.copy for one in used}) == splits.PAPER_COPIES and 0 not in {one.copy for one in used}
    assert {one.copy for one in paper if one.split == "unused"} == {0}
    for name in ("train", "test"):
        count = collections.Counter(one.target for one in used if one.split == name)
        assert count[0] == pytest.approx(count[1], rel=0.15)
    assert collections.Counter(one.target for one in used if one.source == "a") == {0: 10 * rarer, 1: 10 * rarer}
    training = {one.picture for one in used if one.split == "train"}
    assert np.mean([one.picture in training for one in used if one.split == "test"]) > 0.99


@pytest.mark.parametrize("protocol", ["grouped", "by_image", "paper"])
def test_a_pool_has_equally_many_images_of_each_class(protocol):
    rows = lesions(600) + [row(0, picture="I00000_0", image_id="twin", source="a", group="G00000")]
    options = dataclasses.replace(SPLITS, protocol=protocol, pool=20)
    after = splits.deal(rows, options)
    used = [one for one in after if one.split != "unused"]
    copies = 10 if protocol == "paper" else 1
    assert collections.Counter((one.source, one.target) for one in used) == dict.fromkeys(
        ((source, target) for source in "ab" for target in (0, 1)), 20 * copies
    )
    assert len(after) - len(used) == len(rows) - 80
    pictures = {one.image_id.partition("~")[0] for one in used}
    others = splits.deal(rows, dataclasses.replace(options, protocol="by_image"))
    assert pictures == {one.image_id for one in others if one.split != "unused"}  # the same in all protocols
    again = splits.deal(rows, dataclasses.replace(options, seed=1))
    assert len(pictures & {one.image_id.partition("~")[0] for one in again if one.split != "unused"}) < 40


def test_a_pool_is_of_whole_groups():
    rows = lesions(600)
    after = splits.deal(rows, dataclasses.replace(SPLITS, protocol="by_image", pool=20))
    sides = collections.defaultdict(set)
    for one in after:
        sides[one.group].add(one.split == "unused")
    assert sum(len(side) == 2 for side in sides.values()) <= 4  # the last one of each class and collection


def test_a_pool_is_as_small_as_its_rarest_class():
    rows = [row(i, target=int(i < 7)) for i in range(60)] + [row(100 + i, target=-1, source="m") for i in range(9)]
    after = splits.deal(rows, dataclasses.replace(SPLITS, protocol="by_image", pool=20))
    count = collections.Counter((one.source, one.target) for one in after if one.split != "unused")
    assert [count[rows[0].source, 0], count[rows[0].source, 1], count["m", -1]] == [7, 7, 9]


@pytest.mark.parametrize("protocol", ["by_image", "paper"])
def test_an_official_test_set_stays_apart_in_protocols_that_leak_too(protocol):
    rows = [row(i, target=i % 2) for i in range(60)] + [row(100 + i, partition="test") for i in range(20)]
    dealt_rows = splits.deal(rows, dataclasses.replace(SPLITS, protocol=protocol))
    assert {one.split for one in dealt_rows if one.partition == "test"} == {"official_test"}
    assert {one.split for one in dealt_rows if one.partition == ""} >= {"train", "validation", "test"}


def test_a_table_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match="splits.table = 'nothere.csv': no such file"):
        splits.deal([row(0)], dataclasses.replace(SPLITS, table="nothere.csv"))


def test_by_image_parts_lesions():
    rows = lesions(300)
    tests = [one for one in splits.deal(rows, dataclasses.replace(SPLITS, protocol="by_image"))]
    assert abs(np.mean([one.split == "test" for one in tests]) - 0.2) < 0.02
    sides = collections.defaultdict(set)
    for one in tests:
        sides[one.group].add(one.split == "test")
    assert sum(len(side) == 2 for side in sides.values()) > 50


def test_images_that_a_table_leaves_out_stay_out(tmp_path):
    rows = [row(i) for i in range(40)] + [row(40, picture="I0001", group="I0001", target=1)]
    named = [(f"I{i:04d}", "unused" if i < 2 else "train") for i in range(40)]
    after = dealt(rows, write_table(tmp_path / "own.csv", [("image_id", "split"), *named]))
    assert after["I0000"] == after["I0001"] == ("unused", -1)
    assert after["I0040"][0] != "unused"  # what contradicted it is left out


def test_folds_that_a_table_gives_test_images_do_not_count(tmp_path):
    named = [(f"I{i:04d}", "train" if i % 2 else "test", "1") for i in range(40)]
    options = write_table(tmp_path / "own.csv", [("image_id", "split", "fold"), *named])
    after = dealt([row(i) for i in range(40)], options)
    assert set(after.values()) == {("train", 1), ("test", -1)}


def test_an_official_test_set_is_not_moved_by_its_own_table(tmp_path):
    rows = [row(i, group=f"G{i // 4}", partition="test" if i % 20 == 0 else "train") for i in range(200)]
    for official in (False, True):
        options = dataclasses.replace(SPLITS, official_test=official)
        before = splits.deal(rows, options)
        table.write_rows(tmp_path / "splits.csv", before)
        options = dataclasses.replace(options, table=str(tmp_path / "splits.csv"))
        more = [*rows, row(200, group="G0", partition="train")]
        after = dealt(more, options)
        assert after.pop("I0200") == ("unused", -1)
        assert after == {one.image_id: (one.split, one.fold) for one in before}


def test_collections_for_tests_or_training_only():
    rows = lesions(200)  # of collections a and b
    rows += [row(0, image_id=f"J{i}", source="tests", group=f"G{i:05d}") for i in range(20)]  # with relatives in a, b
    rows += [row(0, image_id=f"K{i}", source="tests") for i in range(5)]
    rows += [row(0, image_id=f"L{i}", source="trains", group=f"G{i:05d}") for i in range(10, 60)]
    rows += [row(0, image_id=f"M{i}", source="trains") for i in range(30)]
    sources = {"tests": config.Source(use="test"), "trains": config.Source(use="train")}
    placed = splits.deal(rows, SPLITS, sources)
    tested = {row.group for row in placed if row.source == "tests"}
    by_source = collections.defaultdict(collections.Counter)
    for one in placed:
        by_source[one.source][one.split] += 1
        assert (one.group in tested and one.source != "tests") <= (one.split == "unused")
        assert (one.fold >= 0) == (one.split in ("train", "validation"))
    assert by_source["tests"] == {"test": 25}
    assert set(by_source["trains"]) == {"train", "unused"}
    assert all(one.split == "train" for one in placed if one.image_id.startswith("M"))
    assert all(by_source["a"][name] > 0 for name in ("train", "validation", "test"))


def test_an_earlier_table_cannot_train_on_what_is_for_tests_only(tmp_path):
    rows = [row(0, source="tests", group="G"), row(1, group="G"), row(2)]
    (tmp_path / "splits.csv").write_text("image_id,split\nI0001,train\n")
    options = dataclasses.replace(SPLITS, table=str(tmp_path / "splits.csv"))
    with pytest.raises(ValueError, match="splits.table has I000[01] in train; it, or its group, is for test only"):
        splits.deal(rows, options, {"tests": config.Source(use="test")})


def test_of_one_picture_the_finest_label_takes_part():
    """Targets 0 to 2 are classes; 3 is 1 or 2."""
    possible = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1]], bool)
    pictures = {"fine": (3, 1), "sharp": (1, 3), "alike": (3, 3), "other side": (0, 3), "unknown": (-1, 3)}
    rows = [
        row(2 * place + second, picture=name, group=name, target=pair[second], file_bytes=1000 + second)
        for place, (name, pair) in enumerate(pictures.items())
        for second in (0, 1)
    ]
    used = [one.image_id for one in splits.deal(rows, SPLITS, possible=possible) if one.split != "unused"]
    assert used == ["I0001", "I0002", "I0005", "I0009"]
