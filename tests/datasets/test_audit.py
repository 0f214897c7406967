"""Leakage and shortcut figures against simulation, hand-made tables and the published figures."""

import collections
import dataclasses
import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from segfusion_jax import config
from segfusion_jax.datasets import audit, groups, splits
from segfusion_jax.datasets.classes import Told
from segfusion_jax.datasets.collections import ham10000, isic2020
from segfusion_jax.datasets.collections import official as published
from segfusion_jax.datasets.files import Folder
from segfusion_jax.datasets.record import Problem
from tests.datasets import official
from tests.datasets.rows import row

CLASSES = ("benign", "malignant")


def test_counts_of_a_hand_made_table():
    rows = [
        row(0, group="a", lesion_id="L", split="train", target=1, diagnosis="melanoma"),
        row(1, group="a", lesion_id="L", split="train", has_mask=False),
        row(2, group="b", split="validation", target=-1, diagnosis=""),
        row(3, group="c", split="test", target=1),
        row(4, group="b", split="test", lookalike="I0002"),
        row(5, group="c", split="unused", picture="I0003"),
    ]
    facts = audit.audit(
        rows, [Problem("x", "empty image file: zero bytes"), Problem("y", "empty image file")], Told(CLASSES, {})
    )
    assert (facts["images"], facts["groups"], facts["pictures"]) == (6, 3, 5)
    assert facts["splits"]["train"] == {
        "images": 2,
        "groups": 1,
        "targets": {"benign": 1, "malignant": 1, "none": 0},
        "with_mask": 1,
        "diagnoses": {"melanoma": 1, "nevus": 1},
    }
    assert (
        facts["splits"]["validation"]["targets"]["none"] == 1
        and "unknown" in facts["splits"]["validation"]["diagnoses"]
    )
    assert facts["left_out"] == {"empty image file": 2}
    assert facts["contradictions"] == ["I0003", "I0005"]
    assert facts["lesion_contradictions"] == {"I0000": "malignant", "I0001": "benign"}
    here = facts["relatives_in_training"]["this_split"]
    assert here == {
        "same picture": 0,
        "near duplicate": 0.5,
        "same lesion": 0,
        "cut of the other": 0,
        "same patient": 0,
        "any of these": 0.5,
    }
    assert facts["leaking"]
    assert json.loads(json.dumps(facts)) == facts


def test_labels_of_one_path_do_not_contradict_each_other():
    told = Told(("melanoma", "nevus", "dermatofibroma"), {"benign": ("nevus", "dermatofibroma")})
    targets = {"coarse and fine": (3, 1), "two leaves": (1, 2), "two sides": (3, 0), "unknown": (-1, 0)}
    rows = [
        row(2 * place + second, lesion_id=name, picture=name, target=pair[second], split="train")
        for place, (name, pair) in enumerate(targets.items())
        for second in (0, 1)
    ]
    facts = audit.audit(rows, [], told)
    assert facts["coarse"] == {"benign": ["nevus", "dermatofibroma"]}
    assert facts["contradictions"] == ["I0002", "I0003", "I0004", "I0005"]
    labels = {"I0002": "nevus", "I0003": "dermatofibroma", "I0004": "benign", "I0005": "melanoma"}
    assert facts["lesion_contradictions"] == labels


def test_expected_share_agrees_with_random_splits():
    rng = np.random.default_rng(0)
    groups = [str(g) for g in rng.zipf(2.0, 400) % 150]
    simulated = []
    for _ in range(400):
        test = rng.permutation(400)[:80]
        outside = set(np.array(groups)[np.setdiff1d(np.arange(400), test)])
        simulated.append(np.mean([groups[i] in outside for i in test]))
    assert audit.expected_relative_share(groups, 80) == pytest.approx(np.mean(simulated), abs=0.005)
    assert audit.expected_relative_share(["a", "b", "c"], 1) == 0.0
    assert audit.expected_relative_share(["a", "a"], 1) == 1.0
    assert audit.expected_relative_share(["a", "a"], 2) == 0.0


def test_shortcuts_are_found_and_noise_is_not():
    rng = np.random.default_rng(0)
    rows, right = [], ([], [])
    for i in range(3000):
        malignant = int(rng.random() < 0.3)
        shown = malignant if rng.random() < 0.8 else 1 - malignant
        right[malignant].append(shown == malignant)
        facts = dict(origin="AB"[shown], width=int(rng.integers(500, 600)), file_bytes=1000 + 500 * malignant)
        facts["height"] = 300 if malignant and i % 7 == 0 else 450
        rows.append(row(i, malignant=malignant, **facts))
    found = audit.shortcuts(rows)
    assert set(found) == {"origin", "width", "height", "file size"}
    assert found["origin"] == pytest.approx(np.mean([np.mean(some) for some in right]), abs=0.01)  # (TPR + TNR) / 2
    assert found["width"] == pytest.approx(0.5, abs=0.04)
    assert found["file size"] == 1.0
    assert found["height"] == pytest.approx(0.5 + 1 / 14, abs=0.02)
    copies = [dataclasses.replace(one, copy=1, origin="AB"[one.malignant]) for one in rows]
    assert audit.shortcuts(rows + copies) == found


def test_a_fact_of_one_group_only_predicts_nothing():
    rng = np.random.default_rng(0)
    rows = []
    for group in range(300):  # every patient has an origin of its own: known in training, it would give all away
        malignant = int(rng.random() < 0.5)
        rows += [row(2 * group + i, malignant=malignant, group=f"G{group}", origin=f"O{group}") for i in range(2)]
    assert audit.shortcuts(rows)["origin"] < 0.6


def test_real_ham10000_leaks_as_published():
    records, _ = ham10000.read(Folder(official.real("ham10000")), config.Data(collection="ham10000"))
    share = audit.expected_relative_share([record.lesion_id for record in records], round(0.2 * len(records)))
    assert share == pytest.approx(0.385, abs=0.005)


def test_real_isic2019_leaks_and_is_told_by_its_source():
    root = Folder(official.real("isic2019"))
    metadata, truth = (published.table(root, f"ISIC_2019_Training_{name}.csv") for name in ("Metadata", "GroundTruth"))
    assert metadata and truth
    rows = published.rows(metadata, ("image", "lesion_id"))
    keys = [line["lesion_id"] or line["image"] for line in rows]
    assert len(set(keys)) == 13_931 and max(collections.Counter(keys).values()) == 31
    assert audit.expected_relative_share(keys, round(0.2 * len(keys))) == pytest.approx(0.604, abs=0.005)
    columns = ("MEL", "BCC", "AK", "SCC")
    malignant = {
        line["image"]: int(any(line[c] == "1.0" for c in columns))
        for line in published.rows(truth, ("image", *columns))
    }
    prefixed = [
        row(i, image_id=line["image"], malignant=malignant[line["image"]], origin=line["lesion_id"][:3], group=key)
        for i, (line, key) in enumerate(zip(rows, keys, strict=True))
    ]
    shares = {
        prefix: np.mean([one.malignant for one in prefixed if one.origin == prefix])
        for prefix in ("", "BCN", "HAM", "MSK")
    }
    direct = roc_auc_score([one.malignant for one in prefixed], [shares[one.origin] for one in prefixed])
    assert audit.shortcuts(prefixed)["origin"] == pytest.approx(direct, abs=0.003)
    assert direct == pytest.approx(0.696, abs=0.001)


def test_real_isic2020_leaks_by_patient_and_has_duplicates():
    root = Folder(official.real("isic2020"))
    table = published.table(root, "ISIC_2020_Training_GroundTruth_v2.csv")
    assert table
    lines = published.rows(table, ("image_name", "patient_id", "lesion_id", "target"))
    share = audit.expected_relative_share([line["patient_id"] for line in lines], round(0.2 * len(lines)))
    assert share == pytest.approx(0.999, abs=0.001)
    facts = ({name: line[name] for name in ("patient_id", "lesion_id")} for line in lines)
    rows = [
        row(i, image_id=line["image_name"], target=int(line["target"]), perceptual_hash=f"{i:064x}", **fact)
        for i, (line, fact) in enumerate(zip(lines, facts, strict=True))
    ]
    pairs = isic2020.duplicate_pairs(root)
    assert len(pairs) == 425
    original, groups.near_duplicates = groups.near_duplicates, lambda _: []
    try:
        joined = groups.joined(rows, pairs)
    finally:
        groups.near_duplicates = original
    kept = [one for one in splits.deal(joined, config.Splits()) if one.split != "unused"]
    assert len({one.picture for one in joined}) == len(kept) == 32_701
    assert sum(one.target for one in kept) == 581
    assert audit.relative_share(kept, audit.RELATIONS["any of these"]) == 0
    assert len({one.group for one in joined}) == 2_056


def test_shortcuts_between_sides_of_own_classes():
    facts = [dict(target=target, origin="AB"[target == 1]) for target in (0, 1, 2) * 200]
    rows = [row(i, malignant=-1, **one) for i, one in enumerate(facts)]
    assert audit.shortcuts(rows) == {}
    assert audit.shortcuts(rows, (0, 1, 0))["origin"] == 1.0
