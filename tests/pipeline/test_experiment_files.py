"""The files that a config names: what a run says when their content changes under their names."""

import dataclasses

import pytest

from segfusion_jax.pipeline import experiment
from tests import tiny


@pytest.mark.parametrize(
    ("field", "stage"),
    [("splits__table", "prepare"), ("segmenter__pretrained", "segment"), ("classifier__pretrained", "classify")],
)
def test_a_file_that_changes_under_its_name_is_refused(tmp_path, monkeypatch, field, stage):
    idle = {name: dataclasses.replace(stage, perform=lambda _: None) for name, stage in experiment.STAGES.items()}
    monkeypatch.setattr(experiment, "STAGES", idle)
    monkeypatch.setattr(experiment, "_check_weights", lambda config: None)  # any bytes will do
    encoder = {"segmenter__encoder": "mobilenet_v3_small"} if field.startswith("segmenter") else {}
    config = tiny.config(**encoder, **{field: str(tmp_path / "file")})
    (tmp_path / "file").write_bytes(b"one")
    experiment.run(config, tmp_path / "run")
    before = tiny.tree(tmp_path / "run")
    (tmp_path / "file").write_bytes(b"two")
    with pytest.raises(ValueError, match=f"changed since its stage '{stage}'. Give another --workdir"):
        experiment.run(config, tmp_path / "run")
    (tmp_path / "file").write_bytes(b"one")
    experiment.run(config, tmp_path / "run")
    assert tiny.tree(tmp_path / "run") == before
