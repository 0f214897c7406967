"""Runs by the protocols that leak: they work, and say that they do."""

import collections
import json

import pytest

from segfusion_jax.pipeline import experiment
from tests import tiny


def audit_of(workdir) -> dict:
    return json.loads((workdir / "prepare/audit.json").read_text())


def test_a_split_by_image_is_flagged(tmp_path):
    experiment.run(tiny.config(splits__protocol="by_image"), tmp_path, ["prepare"])
    audit = audit_of(tmp_path)
    assert audit["leaking"] and audit["relatives_in_training"]["this_split"]["same lesion"] > 0.2


@pytest.mark.slow
def test_the_papers_protocol_runs_through_all_stages_and_is_flagged(tmp_path):
    experiment.run(tiny.config(splits__protocol="paper", data__synthetic_images=40), tmp_path)
    audit = audit_of(tmp_path)
    assert audit["leaking"] and audit["relatives_in_training"]["this_split"]["same picture"] > 0.9
    assert "The split leaks, by protocol" in (tmp_path / "report/index.html").read_text()
    rows = tiny.table(tmp_path / "prepare/splits.csv")
    drawn = collections.Counter(row["target"] for row in rows if row["split"] != "unused")
    count = collections.Counter(row["target"] for row in rows if row["split"] == "test")
    predictions = tiny.table(tmp_path / "evaluate/predictions.csv")
    assert drawn["0"] == drawn["1"] and min(count.values()) > 5
    assert len(predictions) == count["0"] + count["1"]
    assert len({p["probability"] for p in predictions}) > len(predictions) / 2  # copies differ
