"""Preparing on Apache Beam's local runner, which the extra [beam] installs."""

import pathlib

import pytest
import tensorflow_datasets as tfds

from segfusion_jax import config
from segfusion_jax.datasets import builder, prepared
from tests.datasets import official

pytest.importorskip("apache_beam", reason="needs the extra [beam]")


def files(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.array_record*") if "finished" not in str(path)}


def test_beam_gives_the_same_records(tmp_path, monkeypatch):
    from apache_beam.options.pipeline_options import PipelineOptions

    monkeypatch.setattr(builder, "SHARD_IMAGES", 16)
    ids = official.write_ham10000(tmp_path / "official", 60)
    (tmp_path / f"official/HAM10000_images_part_1/{ids[5]}.jpg").write_bytes(b"")
    data = config.Data(collection="ham10000", root=str(tmp_path / "official"), on_error="skip")
    splits = config.Splits(test_fraction=0.3, validation_fraction=0.3, num_folds=3)
    beam = tfds.download.DownloadConfig(beam_runner="DirectRunner", beam_options=PipelineOptions([]))
    prepared.prepare(data, splits, tmp_path / "plain", tmp_path / "plain_splits")
    prepared.prepare(data, splits, tmp_path / "beam", tmp_path / "beam_splits", download_config=beam)
    assert len(files(tmp_path / "plain")) == 4
    assert files(tmp_path / "beam") == files(tmp_path / "plain")
    for name in ("splits.csv", "problems.csv", "audit.json"):
        assert (tmp_path / "beam_splits" / name).read_bytes() == (tmp_path / "plain_splits" / name).read_bytes()
    assert ids[5] in (tmp_path / "beam_splits/problems.csv").read_text()
