"""Leakage figures against simulation and the published one."""

import json

import numpy as np
import pytest

from segfusion_jax import config
from segfusion_jax.datasets import audit, ham10000
from segfusion_jax.datasets.record import Problem
from segfusion_jax.datasets.table import Row
from tests.datasets import official


def row(position: int, group: str, split: str, malignant: int = 0) -> Row:
    return Row(
        position=position,
        image_id=f"I{position}",
        group=group,
        lesion_id="",
        patient_id="",
        diagnosis="melanoma" if malignant == 1 else "nevus",
        malignant=malignant,
        age=50.0,
        sex="",
        site="",
        source="x",
        has_mask=position % 2 == 0,
        split=split,
    )


def test_counts_of_a_hand_made_table():
    rows = [row(0, "a", "train", 1), row(1, "a", "train"), row(2, "b", "validation", -1), row(3, "c", "test", 1)]
    rows += [row(4, "b", "test")]
    facts = audit.audit(rows, [Problem("x", "empty image file: zero bytes"), Problem("y", "empty image file: none")])
    assert facts["images"] == 5 and facts["groups"] == 3
    assert facts["splits"]["train"] == {
        "images": 2,
        "groups": 1,
        "malignant": 1,
        "benign": 1,
        "unlabelled": 0,
        "with_mask": 1,
        "diagnoses": {"melanoma": 1, "nevus": 1},
    }
    assert facts["splits"]["validation"]["unlabelled"] == 1
    assert facts["left_out"] == {"empty image file": 2}
    assert facts["siblings_in_training"]["this_split"] == 0.5
    assert json.loads(json.dumps(facts)) == facts


def test_expected_share_agrees_with_random_splits():
    rng = np.random.default_rng(0)
    groups = [str(g) for g in rng.zipf(2.0, 400) % 150]
    simulated = []
    for _ in range(400):
        test = rng.permutation(400)[:80]
        outside = set(np.array(groups)[np.setdiff1d(np.arange(400), test)])
        simulated.append(np.mean([groups[i] in outside for i in test]))
    assert audit.expected_sibling_share(groups, 80) == pytest.approx(np.mean(simulated), abs=0.005)
    assert audit.expected_sibling_share(["a", "b", "c"], 1) == 0.0
    assert audit.expected_sibling_share(["a", "a"], 1) == 1.0
    assert audit.expected_sibling_share(["a", "a"], 2) == 0.0


def test_real_ham10000_leaks_as_published():
    records, _ = ham10000.read(official.real("ham10000"), config.Data(collection="ham10000"))
    share = audit.expected_sibling_share([record.lesion_id for record in records], round(0.2 * len(records)))
    assert share == pytest.approx(0.385, abs=0.005)
