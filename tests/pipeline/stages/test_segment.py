import collections
import hashlib
import json

import numpy as np
import pytest

from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.stages import segment as stage
from segfusion_jax.training import metric_log, trainer
from tests import tiny

EPOCHS = [(epoch, split) for epoch in (1, 2) for split in ("train", "validation")]
FOLDS = range(tiny.BASE.splits.num_folds)


@pytest.fixture(scope="module")
def used(finished, tmp_path_factory):
    """For every U-Net the rows that it is trained on and those that choose its weights."""
    used = collections.defaultdict(dict)

    def fit(task, state, *_):
        fold = int(task.name.removeprefix("U-Net "))
        used[fold]["trained"] = task.stream.examples.rows
        metrics = task.validate(*state.evaluated)
        assert (metrics["dice"], metrics["loss"]) == (0.5, 2.0)  # the means of what `predict` below says
        return state.evaluated

    def predict(compiled, variables, source, **_):
        used[len(used) - 1]["validated"] = source.rows
        for number, row in enumerate(source.rows):
            yield row, {"dice": np.float32(number % 2), "loss": np.float32(4 * (number % 2))}
        if len(source.rows) % 2:
            yield None, {"dice": np.float32(1), "loss": np.float32(4)}

    workdir = tmp_path_factory.mktemp("segment")
    (workdir / "prepare").symlink_to(finished / "prepare")
    (workdir / "records").symlink_to(finished / "records")
    for fold in FOLDS:
        Run(tiny.BASE, workdir).unet_folder(fold).mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "fit", fit)
        patch.setattr(trainer, "predict", predict)
        stage.segment(Run(tiny.BASE, workdir))
    return used


def groups(rows) -> set[str]:
    return {row.group for row in rows}


def test_a_unet_never_meets_its_fold_nor_the_test_groups(finished, used):
    rows = tiny.table(finished / "prepare/splits.csv")
    for fold in FOLDS:
        held_out = {row["group"] for row in rows if row["fold"] == str(fold) or row["split"] == "test"}
        assert len(held_out) > 10
        assert not held_out & groups(used[fold]["trained"])
        assert not held_out & groups(used[fold]["validated"])


def test_a_unet_is_chosen_on_groups_that_it_was_not_trained_on(finished, used):
    everything = {row["image_id"] for row in tiny.table(finished / "prepare/splits.csv") if row["split"] != "test"}
    for fold in FOLDS:
        trained, validated = used[fold]["trained"], used[fold]["validated"]
        assert not groups(trained) & groups(validated)
        others = {row.image_id for row in Run(tiny.BASE, finished).prepared.rows if row.fold == fold}
        assert {row.image_id for row in (*trained, *validated)} == everything - others


def test_the_checkpoints_of_the_finished_run_are_of_these_images(finished, used):
    for fold in FOLDS:
        rows = [[row.image_id, row.target] for row in used[fold]["trained"]]
        images = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
        found = list(Run(tiny.BASE, finished).unet_folder(fold).glob("checkpoints/*/facts/metadata"))
        facts = [json.loads(path.read_text())["facts"] for path in found]
        assert facts and all(fact["position"]["images"] == images for fact in facts)


def test_every_unet_writes_its_weights_and_metrics(finished):
    contents = set()
    for fold in FOLDS:
        contents.add((Run(tiny.BASE, finished).unet_folder(fold) / "weights.safetensors").read_bytes())
        lines = metric_log.read(Run(tiny.BASE, finished).unet_folder(fold) / "metrics.jsonl")
        assert [(line["epoch"], line["split"]) for line in lines if line["epoch"] in (1, 2)] == EPOCHS
        assert all(0 <= line["dice"] <= 1 and line["loss"] > 0 for line in lines if line["split"] == "validation")
    assert len(contents) == len(FOLDS)


def test_annotated_masks_in_one_fold_only_are_refused(finished, tmp_path):
    (tmp_path / "records").symlink_to(finished / "records")
    (tmp_path / "prepare").mkdir()
    (tmp_path / "prepare/audit.json").write_bytes((finished / "prepare/audit.json").read_bytes())
    header, *lines = (finished / "prepare/splits.csv").read_text().splitlines()
    columns = header.split(",")
    rows = [dict(zip(columns, line.split(","), strict=True)) for line in lines]
    changed = [row | ({"has_mask": "0"} if row["fold"] != "1" else {}) for row in rows]
    text = "\n".join([header, *(",".join(row.values()) for row in changed)]) + "\n"
    (tmp_path / "prepare/splits.csv").write_text(text)
    with pytest.raises(
        ValueError,
        match="outside fold 1 there are 0 training and 0 validation images.*config.data.collections",
    ):
        stage.segment(Run(tiny.BASE, tmp_path))
