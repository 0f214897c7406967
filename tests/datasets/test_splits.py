"""Groups against connected components, and the dealing of groups."""

import collections

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from segfusion_jax import config
from segfusion_jax.datasets import splits
from segfusion_jax.datasets.record import Record

LESIONS = st.sampled_from(["", "L1", "L2", "L3", "L4"])
PATIENTS = st.sampled_from(["", "", "P1", "P2", "P3"])
HASHES = st.sampled_from(list("abcdefghijklmnop"))


def record(number: int, lesion: str = "", patient: str = "") -> Record:
    return Record(image_id=f"I{number:03d}", image=b"", source="x", lesion_id=lesion, patient_id=patient)


@given(
    st.lists(st.tuples(LESIONS, PATIENTS, HASHES), max_size=14),
    st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=3),
)
@settings(max_examples=150, deadline=None)
def test_groups_are_the_connected_components(facts, pairs):
    records = [record(i, lesion, patient) for i, (lesion, patient, _) in enumerate(facts)]
    names = splits.groups(records, [h for _, _, h in facts], [(f"I{a:03d}", f"I{b:03d}") for a, b in pairs])
    edges = [(a, b) for a, b in pairs]
    for i, first in enumerate(facts):
        for j, second in enumerate(facts):
            if any(x == y != "" for x, y in zip(first, second, strict=True)):
                edges.append((i, j))
    size = max(16, len(facts))
    rows, columns = np.array(edges, int).reshape(-1, 2).T
    _, component = connected_components(coo_array((np.ones(len(edges)), (rows, columns)), shape=(size, size)))
    for i in range(len(facts)):
        members = [f"I{j:03d}" for j in range(len(facts)) if component[j] == component[i]]
        assert names[i] == min(members)


def test_a_downsampled_copy_is_its_original():
    original = Record(image_id="ISIC_1", image=b"", source="x")
    copy = Record(image_id="ISIC_1_downsampled", image=b"", source="x")
    assert splits.groups([original, copy], ["a", "b"]) == ["ISIC_1", "ISIC_1"]


@given(st.lists(st.text("abc", max_size=4), max_size=40), st.integers(0, 5), st.integers(3, 7))
@settings(max_examples=50, deadline=None)
def test_no_group_is_on_two_sides(groups, seed, num_folds):
    names, folds = splits.assign(groups, config.Splits(seed=seed, num_folds=num_folds, test_fraction=0.3))
    places = collections.defaultdict(set)
    for group, name, fold in zip(groups, names, folds, strict=True):
        places[group].add((name, fold))
        assert (fold == -1) == (name == "test") and fold < num_folds
    assert all(len(place) == 1 for place in places.values())


def test_adding_images_moves_no_other_group():
    groups = [f"g{i}" for i in range(300)]
    names, folds = splits.assign(groups, config.Splits())
    more_names, more_folds = splits.assign([*(f"new{i}" for i in range(50)), *groups], config.Splits())
    assert more_names[50:] == names and more_folds[50:] == folds


def test_fractions_folds_and_seeds():
    groups = [f"g{i}" for i in range(20_000)]
    names, folds = splits.assign(groups, config.Splits(test_fraction=0.2, validation_fraction=0.1, num_folds=4))
    count = collections.Counter(names)
    assert abs(count["test"] / 20_000 - 0.2) < 0.01 and abs(count["validation"] / 20_000 - 0.1) < 0.01
    for name in ("train", "validation"):  # folds know nothing of the split
        in_split = np.bincount([f for n, f in zip(names, folds, strict=True) if n == name], minlength=4)
        assert abs(in_split / in_split.sum() - 0.25).max() < 0.04
    other, _ = splits.assign(groups, config.Splits(test_fraction=0.2, validation_fraction=0.1, seed=1))
    both = np.mean([a == b == "test" for a, b in zip(names, other, strict=True)])
    assert abs(both - 0.04) < 0.01
