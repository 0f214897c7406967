"""The files that a config names: what a run says when their content changes under their names."""

import dataclasses

import pytest

from segfusion_jax.pipeline import experiment
from segfusion_jax.pipeline.run import Run
from tests import tiny
from tests.datasets import official


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


def test_images_without_masks_can_be_prepared_and_are_refused_where_something_needs_masks(tmp_path):
    official.write_ham10000(tmp_path / "images", 40, kaggle=True)
    config = tiny.config("ham10000", data__root=str(tmp_path / "images"))
    for stages in (("prepare", "segment"), tuple(experiment.STAGES)):
        with pytest.raises(ValueError, match="none of the 40 images has an annotated mask.*bridge.mode=none"):
            experiment.run(config, tmp_path / "refused", stages)
    assert not Run(config, tmp_path / "refused").is_prepared  # so that the remedy works in the same workdir
    assert experiment.run(config, tmp_path / "prepared", ("prepare",)).is_prepared
    with pytest.raises(ValueError, match="none of the 40 images has an annotated mask"):
        experiment.run(config, tmp_path / "prepared")
    assert not (tmp_path / "prepared/classify").exists()
