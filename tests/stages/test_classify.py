import collections
import types

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from segfusion_jax.inference import Classes
from segfusion_jax.models.from_config import make_classifier
from segfusion_jax.stages import classify as stage
from segfusion_jax.stages.workdir import load_classes, load_prepared
from segfusion_jax.training import metric_log
from segfusion_jax.training.seeds import derive_seed
from tests import tiny


def trained(workdir, phase: str) -> dict:
    """The last state of a phase as it lies in its checkpoint."""
    folder = workdir / "classification" / phase / "checkpoints"
    last = max(int(path.name) for path in folder.iterdir() if path.is_dir())
    return ocp.StandardCheckpointer().restore(folder / str(last) / "arrays")["state"]


def initial():
    return make_classifier(
        tiny.BASE.classifier,
        tiny.BASE.bridge,
        seed=derive_seed(tiny.BASE.seed, "classify", "weights"),
        dtype=jnp.float32,
    )


def leaves(tree) -> dict[str, np.ndarray]:
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    names = ("/".join(str(getattr(key, "key", getattr(key, "idx", key))) for key in path) for path, _ in flat)
    return dict(zip(names, (np.asarray(leaf) for _, leaf in flat), strict=True))


def test_the_frozen_phase_changes_the_last_layer_and_nothing_else(finished):
    before, after = initial(), trained(finished, "frozen")
    old, new = leaves(before.params), leaves(after["params"])
    changed = {name for name in old if not np.array_equal(old[name], new[name])}
    assert old.keys() == new.keys() and changed == {"head/kernel", "head/bias"}
    old, new = leaves(before.batch_stats), leaves(after["batch_stats"])
    assert old.keys() == new.keys() and all(np.array_equal(old[name], new[name]) for name in old)


def test_then_all_weights_are_trained(finished):
    before, after = trained(finished, "frozen"), trained(finished, "all")
    old, new = leaves(before["params"]), leaves(after["params"])
    assert all(not np.array_equal(old[name], new[name]) for name in old)
    old, new = leaves(before["batch_stats"]), leaves(after["batch_stats"])
    assert all(not np.array_equal(old[name], new[name]) for name in old)
    for phase, epochs in (
        ("frozen", tiny.BASE.classifier.frozen_epochs),
        ("all", tiny.BASE.classifier.training.epochs),
    ):
        lines = metric_log.read(finished / "classification" / phase / "metrics.jsonl")
        validated = [line for line in lines if line["split"] == "validation"]
        assert [line["epoch"] for line in validated] == list(range(1, epochs + 1))
        assert all(0 <= line["roc_auc"] <= 1 and line["loss"] > 0 for line in validated)


def test_the_frozen_phase_has_its_own_learning_rate(finished):
    # Adam's steps are as long as the learning rate at most, here ten times that of the phase after
    state = trained(finished, "frozen")
    moved = np.abs(state["params"]["head"]["kernel"] - np.asarray(initial().params["head"]["kernel"])).max()
    config = tiny.BASE.classifier
    assert 2 * config.training.learning_rate < moved / int(state["step"]) < 1.1 * config.frozen_learning_rate


def test_images_of_training_validation_and_test_share_no_group(finished):
    prepared = load_prepared(tiny.BASE, finished)
    rows = {
        split: stage.examples(tiny.BASE, prepared, collections.defaultdict(bytes), split).rows
        for split in ("train", "validation", "test")
    }
    groups = {split: {row.group for row in members} for split, members in rows.items()}
    assert not groups["train"] & groups["validation"]
    assert not groups["test"] & (groups["train"] | groups["validation"])
    table = tiny.table(finished / "splits/splits.csv")
    for split, members in rows.items():
        assert [row.image_id for row in members] == [row["image_id"] for row in table if row["split"] == split]


def test_balanced_sampling_gives_both_classes_the_same_weight(finished):
    prepared = load_prepared(tiny.BASE, finished)
    examples = stage.examples(tiny.BASE, prepared, collections.defaultdict(bytes), "train")
    labels = np.array([row.target for row in examples.rows])

    def weights(config):
        return stage._Trainer(config, None, None, examples, None, None, None)._sampling_weights()

    balanced = weights(tiny.config(classifier__training__sampling="balanced"))
    assert balanced[labels == 1].sum() == pytest.approx(balanced[labels == 0].sum())
    assert weights(tiny.BASE) is None


def test_balanced_class_weights_are_inverse_frequencies(finished):
    prepared = load_prepared(tiny.BASE, finished)
    examples = stage.examples(tiny.BASE, prepared, collections.defaultdict(bytes), "train")
    labels = np.array([row.target for row in examples.rows])
    assert 0 < labels.sum() < len(labels) / 2

    def weights(config):
        return np.array(stage.class_weights(config, classes, examples.rows))

    classes = load_classes(tiny.BASE, finished)
    balanced = weights(tiny.config(classifier__class_weights="balanced"))
    assert balanced[1] / balanced[0] == pytest.approx((labels == 0).sum() / labels.sum())
    assert balanced[labels].mean() == pytest.approx(1.0)
    assert weights(tiny.BASE).tolist() == [1.0, 1.0]


def test_balanced_weights_of_three_classes_by_hand():
    rows = [types.SimpleNamespace(target=target) for target in (0, 0, 0, 1, 2, 2)]
    classes = Classes(("a", "b", "c"), (True, False, False), 3)
    config = tiny.config(classifier__class_weights="balanced")
    assert stage.class_weights(config, classes, rows) == (6 / 9, 6 / 3, 6 / 6)
