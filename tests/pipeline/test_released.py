"""Runs that start from a released model: its U-Nets make the masks, and nothing that it saw takes part."""

import dataclasses
import json
import logging
import shutil

import numpy as np
import pytest

from segfusion_jax import SegFusion
from segfusion_jax.bridge.clean import clean
from segfusion_jax.bridge.levels import to_levels
from segfusion_jax.config import Release
from segfusion_jax.datasets.salted import matches
from segfusion_jax.datasets.table import Part
from segfusion_jax.input import decode
from segfusion_jax.input.arrays import Arrays
from segfusion_jax.pipeline import experiment, plan, released
from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.stages.release import release
from segfusion_jax.pipeline.timing import Pace
from segfusion_jax.pipeline.workload import workload
from segfusion_jax.runtime.footprint import Footprint
from segfusion_jax.serving.model_folder import write_manifest
from segfusion_jax.training.state import TrainState
from tests import tiny
from tests.datasets import rows as made


def config(model, **fields):
    """More drawn images than the model's run had, which are among them; masks by the model."""
    masks = {"bridge__masks": str(model)} if model else {}
    return tiny.config("synthetic", data__synthetic_images=140, **masks, **fields)


@pytest.fixture(scope="module")
def masked(finished, tmp_path_factory):
    """A run with the masks of the finished run's model, up to the bridge, and what it logged."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append
    logging.getLogger("segfusion_jax").addHandler(handler)
    stages = ("prepare", "segment", "score", "bridge")
    run = experiment.run(config(finished / "model"), tmp_path_factory.mktemp("masked") / "run", stages)
    logging.getLogger("segfusion_jax").removeHandler(handler)
    return run, [record.getMessage() for record in records]


def seen(workdir) -> set[str]:
    """The ids of the images that trained or chose the model of a workdir, as its table says."""
    return {row["image_id"] for row in tiny.table(workdir / "prepare/splits.csv") if row["fold"] != "-1"}


def test_no_image_that_the_model_saw_takes_part(finished, masked):
    run, told = masked
    lesions = {row.lesion_id for row in run.rows if row.image_id in seen(finished)}
    out = {row.image_id for row in run.rows if row.lesion_id in lesions}
    assert out >= seen(finished) and len(out) < len(run.rows)
    assert {row.image_id for row in run.rows if row.split == "unused"} >= out
    assert out.isdisjoint(row.image_id for row in run.masks.rows)
    tested = {row["image_id"] for row in tiny.table(finished / "prepare/splits.csv") if row["split"] == "test"}
    assert tested & {row.image_id for row in run.masks.rows}  # of its test images it knows nothing
    (line,) = (line for line in told if "take no part" in line)
    assert line.startswith(f"{len(out)} of 140 images take no part, since the model of bridge.masks = ")
    assert run.audit["seen"] == [line]


def test_a_model_is_known_by_its_content_and_not_by_its_path(finished, masked, tmp_path):
    run, _ = masked
    stages = ("prepare", "segment", "score", "bridge")
    same = shutil.copytree(finished / "model", tmp_path / "moved")
    again = experiment.run(config(same), run.workdir, stages)
    assert all(again.done(stage) for stage in stages)
    weights = same / "unet_0.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    write_manifest(same)
    with pytest.raises(ValueError, match="was made of other files: the U-Nets of bridge.masks changed"):
        experiment.run(config(same), run.workdir, stages)


def test_masks_are_the_mean_of_the_models_unets_and_no_unet_is_trained(finished, masked):
    run, _ = masked
    assert {row.unets for row in run.masks.rows} == {"all"} and not any(run.folder("segment").glob("*/*"))
    model = SegFusion.load(finished)
    chosen = [row for row in run.rows if row.split != "unused"][:5]
    images = [decode.decode_image(run.prepared.read(row.position)[0]) for row in chosen]
    found = model.segmenters.predict(Arrays(images, tiny.BASE.segmenter.image_size))
    for row, (_, probability) in zip(chosen, found, strict=True):
        expected, _ = clean(to_levels(probability), run.config.bridge)
        kept = decode.decode_mask(run.masks.read(row.image_id))
        assert np.abs(kept.astype(int) - expected).max() <= 1
    assert len(run.read_scores()) == sum(row.split == "test" for row in run.rows)


def test_the_networks_section_is_the_models(finished, masked):
    written = json.loads((masked[0].workdir / "config.json").read_text())["config"]
    assert written["segmenter"]["image_size"] == [16, 32] and written["segmenter"]["filters"] == 2
    assert released.resolved(config("", segmenter__filters=3)).segmenter.filters == 3
    with pytest.raises(FileNotFoundError, match=r"config.bridge.masks = 'no/where': no such folder.*'annotated'"):
        released.resolved(config("no/where"))
    with pytest.raises(FileNotFoundError, match="holds no metadata.json"):
        released.resolved(config(finished / "prepare"))


def test_a_model_made_so_is_whole_and_knows_what_its_base_saw(finished, tmp_path):
    workdir = shutil.copytree(finished, tmp_path / "run")
    run = Run(released.resolved(config(finished / "model", data__synthetic_seed=5)), workdir)
    run.__dict__["rows"] = [row for row in run.rows if row.image_id not in seen(finished)]  # images of its own
    release(run, run.read_metrics())
    metadata = json.loads((run.model / "metadata.json").read_text())
    assert metadata["unets"] == ["unet_0.safetensors", "unet_1.safetensors", "unet_2.safetensors"]
    for name in metadata["unets"]:
        assert (run.model / name).read_bytes() == (finished / "model" / name).read_bytes()
    assert metadata["config"]["bridge"]["masks"] == "predicted" and metadata["pretrained"]["masks"]["sha256"]
    parts = {row["image_id"]: row["split"] for row in tiny.table(run.model / "split.csv")}
    assert {image_id for image_id, split in parts.items() if split in ("train", "validation")} >= seen(finished)
    assert parts.keys() >= {row.image_id for row in run.rows}
    assert SegFusion.load(run.model).config.segmenter == tiny.BASE.segmenter


def test_weights_of_ours_bring_what_they_saw_along(finished, tmp_path):
    for name in ("segment/fold_0/weights.safetensors", "model/unet_0.safetensors"):
        (base,) = released.bases(tiny.config(segmenter__pretrained=str(finished / name)))
        assert base.named.startswith("segmenter.pretrained = ")
        assert {part.image_id for part in base.saw} == seen(finished)
    (base,) = released.bases(tiny.config(classifier__pretrained=str(finished / "classify/weights.safetensors")))
    assert {part.image_id for part in base.saw} == seen(finished)
    shutil.copy(finished / "model/unet_0.safetensors", tmp_path / "bare.safetensors")
    (base,) = released.bases(tiny.config(segmenter__pretrained=str(tmp_path / "bare.safetensors")))
    assert base.folder is None and base.saw == []
    (tmp_path / "theirs.npz").write_bytes(b"anything")
    assert released.bases(tiny.config(classifier__pretrained=str(tmp_path / "theirs.npz"))) == []


def test_images_in_another_light_than_the_models_are_refused(finished):
    with pytest.raises(ValueError, match="learned from images of data.illumination = 'as_is'"):
        released.resolved(config(finished / "model", data__illumination="even"))


def test_what_is_planned_has_no_unet(masked, tmp_path, monkeypatch):
    run, _ = masked
    made = []

    def compiled(name, section, *_):
        made.append(name)
        state = TrainState({}, {}, {}, {}, {}, {})
        needs = Footprint(0, 0, 0, 0, None, None, {}, [], 0.0)
        training = run.config.classifier.training
        return plan._Model(name, section, training, (32, 32), state, 0, 1, needs, lambda: Pace(1.0, 1.0, 1.0))

    monkeypatch.setattr(plan, "_compile", compiled)
    text = plan.plan(Run(run.config, run.workdir))
    assert made == ["classifier"] and "U-Net  " not in text and "so that no U-Net will be trained" in text
    assert f"without the masks by {run.config.bridge.masks}" in text
    assert plan.plan(Run(config("", data__root="", bridge__mode="none"), run.workdir)) and made[1:] == [
        "U-Net",
        made[0],
    ]
    work = workload(Run(run.config, tmp_path))
    assert work.unet_training == () and work.masked == 140 and "which take no part" in work.origin


def test_a_model_of_ones_own_images_names_none_of_them():
    rows = [
        made.row(number, image_id=f"jane_{number}", source=one, split="train", fold=0, perceptual_hash=f"{number:064x}")
        for number, one in enumerate(("clinic", "clinic", "isic2017"))
    ]
    sources = {"clinic": {"reader": "image_folder"}, "isic2017": {}}
    values = tiny.config(data__collection="", data__collections=sources)
    first, second, public = released.together(values, rows)
    assert public == Part("jane_2", "train", 0, f"{2:064x}")
    for part, image_id in ((first, "jane_0"), (second, "jane_1")):
        assert "jane" not in part.image_id and part[1:] == ("train", 0, "")
        assert matches([image_id], [part.image_id]) == {image_id: part.image_id}
    assert released.together(values, rows) == [first, second, public]
    other = released.together(values, [dataclasses.replace(one, split="test") for one in rows])
    assert {part.image_id for part in other}.isdisjoint({first.image_id, second.image_id})
    asked = dataclasses.replace(values, release=Release(perceptual_hashes=True))
    assert [part.perceptual_hash for part in released.together(asked, rows)] == [
        f"{number:064x}" for number in range(3)
    ]
