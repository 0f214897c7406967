"""Runs by the protocols that leak: they work, and say that they do."""

import collections
import json

import pytest

from segfusion_jax import experiment
from tests import tiny


@pytest.mark.parametrize("protocol", ["by_image", "paper"])
def test_a_protocol_that_leaks_is_flagged(protocol, tmp_path):
    images = 40 if protocol == "paper" else 80
    config = tiny.config(splits__protocol=protocol, data__synthetic_images=images)
    experiment.run(config, tmp_path)
    audit = json.loads((tmp_path / "splits/audit.json").read_text())
    assert audit["leaking"] and audit["siblings_in_training"]["this_split"]["any of these"] > 0.3
    page = (tmp_path / "report/index.html").read_text()
    assert f"The split leaks, by protocol &#x27;{protocol}&#x27;" in page or f"by protocol '{protocol}'" in page
    rows = tiny.table(tmp_path / "splits/splits.csv")
    count = collections.Counter(row["target"] for row in rows if row["split"] == "test")
    predictions = tiny.table(tmp_path / "evaluation/predictions.csv")
    if protocol == "paper":
        assert len(rows) == 10 * images and count["0"] == count["1"]
        assert (
            len({p["probability"] for p in predictions if p["image_id"].startswith("SYN_0000")}) > len(predictions) / 2
        )
    assert len(predictions) == count["0"] + count["1"] > 10
