import dataclasses
import shutil
import types

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors.numpy
from scipy import special
from sklearn import metrics

from segfusion_jax.config import Training
from segfusion_jax.input.examples import Examples
from segfusion_jax.models.from_config import make_classifier
from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.stages import classify as stage
from segfusion_jax.serving.ensembles import Classes
from segfusion_jax.training import metric_log, trainer
from segfusion_jax.training.seeds import derive_seed
from tests import tiny


def trained(workdir, phase: str) -> dict:
    """The last state of a phase as it lies in its checkpoint."""
    folder = workdir / "classify" / phase / "checkpoints"
    last = max(int(path.name) for path in folder.iterdir() if path.is_dir())
    return ocp.StandardCheckpointer().restore(folder / str(last) / "arrays")["state"]


def initial():
    return make_classifier(
        tiny.BASE.classifier,
        tiny.BASE.bridge,
        seed=derive_seed(tiny.BASE.seed, "classify", "weights", tiny.BASE.classifier.seed),
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
        lines = metric_log.read(finished / "classify" / phase / "metrics.jsonl")
        validated = [line for line in lines if line["split"] == "validation"]
        assert [line["epoch"] for line in validated] == list(range(1, epochs + 1))
        assert all(0 <= line["roc_auc"] <= 1 and line["loss"] > 0 for line in validated)


def test_the_frozen_phase_draws_and_chooses_as_the_other_one():
    shared = dict(shares="origins", sampling="balanced", batch_size=7, microbatches=2, on_device_data=True)
    shared |= dict(nonfinite="skip", best_metric="loss")
    training = dataclasses.replace(tiny.BASE.classifier.training, **shared)
    classifier = dataclasses.replace(tiny.BASE.classifier, training=training, frozen_epochs=1)
    phases = stage._phases(dataclasses.replace(tiny.BASE, classifier=classifier))
    frozen, rest = (vars(phases[name]) for name in ("frozen", "all"))
    for name in shared:
        assert frozen[name] == rest[name] == getattr(training, name), name


def test_the_frozen_phase_has_its_own_learning_rate(finished):
    # Adam's steps are as long as the learning rate at most, here ten times that of the phase after
    state = trained(finished, "frozen")
    moved = np.abs(state["params"]["head"]["kernel"] - np.asarray(initial().params["head"]["kernel"])).max()
    config = tiny.BASE.classifier
    assert 2 * config.training.learning_rate < moved / int(state["step"]) < 1.1 * config.frozen_learning_rate


def test_images_of_training_validation_and_test_share_no_group(finished):
    run = Run(tiny.BASE, finished)
    ((_, validation),) = run.split.validation
    (train,) = run.split.training
    rows = {"train": train, "validation": validation, "test": run.split.classified("test")}
    groups = {split: {row.group for row in members} for split, members in rows.items()}
    assert not groups["train"] & groups["validation"]
    assert not groups["test"] & (groups["train"] | groups["validation"])
    table = tiny.table(finished / "prepare/splits.csv")
    for split, members in rows.items():
        assert [row.image_id for row in members] == [row["image_id"] for row in table if row["split"] == split]


def test_balanced_sampling_gives_both_classes_the_same_weight(finished):
    (rows,) = Run(tiny.BASE, finished).split.training
    labels = np.array([row.target for row in rows])
    balanced = trainer.sampling_weights(Training(sampling="balanced"), rows, tiny.BASE.data)
    assert balanced[labels == 1].sum() == pytest.approx(balanced[labels == 0].sum())
    assert trainer.sampling_weights(Training(), rows, tiny.BASE.data) is None


def test_balanced_class_weights_are_inverse_frequencies(finished):
    train = Run(tiny.BASE, finished).split.training
    labels = np.array([row.target for row in train[0]])
    assert 0 < labels.sum() < len(labels) / 2

    def weights(config):
        return np.array(stage.class_weights(config, classes, train))

    classes = Run(tiny.BASE, finished).classes
    balanced = weights(tiny.config(classifier__class_weights="balanced"))
    assert balanced[1] / balanced[0] == pytest.approx((labels == 0).sum() / labels.sum())
    assert balanced[labels].mean() == pytest.approx(1.0)
    assert weights(tiny.BASE).tolist() == [1.0, 1.0]


def test_balanced_weights_of_three_classes_by_hand():
    train = [[types.SimpleNamespace(target=target) for target in targets] for targets in ((0, 0, 0, 1), (2, 2))]
    classes = Classes(("a", "b", "c"), (True, False, False), 3)
    config = tiny.config(classifier__class_weights="balanced")
    assert stage.class_weights(config, classes, train) == (6 / 9, 6 / 3, 6 / 6)


COARSE = Classes(("a", "b", "c"), (True, False, False), 3, {"b or c": ("b", "c"), "a or b": ("a", "b")})


def test_balanced_weights_of_coarse_labels_by_hand():
    """Of 2 b and 1 c, three more are 2 and 1: 4 b and 2 c of 8 images, with 2 a."""
    rows = [types.SimpleNamespace(target=target) for target in (0, 0, 1, 1, 2, 3, 3, 3)]
    config = tiny.config(classifier__class_weights="balanced")
    expected = [8 / (3 * 2), 8 / (3 * 4), 8 / (3 * 2), 2 * 8 / (3 * 6), 2 * 8 / (3 * 6)]
    weights = stage.class_weights(config, COARSE, [rows])
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    drawn = trainer.sampling_weights(Training(sampling="balanced"), rows, tiny.BASE.data, COARSE.told.possible)
    np.testing.assert_allclose(3 / 8 * np.array([weights[row.target] for row in rows]), drawn)
    assert stage.class_weights(tiny.BASE, COARSE, [rows]) == (1.0,) * 5
    assert stage.coarse(COARSE) == ((False, True, True), (True, True, False))


def test_validation_scores_of_coarse_labels_by_hand():
    probabilities = np.array([[0.6, 0.2, 0.2], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4], [0.8, 0.1, 0.1]])
    rows = [types.SimpleNamespace(target=target) for target in (0, 1, 3, 4)]
    found = stage.score(zip(rows, np.log(probabilities), strict=True), COARSE)
    assert found["loss"] == pytest.approx(-np.log([0.6, 0.6, 0.7, 0.9]).mean())
    assert found["roc_auc"] == 1.0  # the last, which may be both, is not asked


def test_validation_loss_of_classes_is_scikit_learns():
    logits = np.random.default_rng(0).normal(0, 30, (50, 3))
    rows = [types.SimpleNamespace(target=number % 3) for number in range(50)]
    classes = Classes(("a", "b", "c"), (True, False, False), 3)
    expected = metrics.log_loss([row.target for row in rows], special.softmax(logits, axis=1), labels=range(3))
    assert stage.score(zip(rows, logits, strict=True), classes)["loss"] == expected


ENSEMBLE = tiny.config(classifier__fold_ensemble=True)
FOLDS = range(ENSEMBLE.splits.num_folds)


@pytest.fixture(scope="module")
def ensemble(finished, tmp_path_factory):
    """The workdir of an ensemble on the masks of `finished`, last layers drawn, and how its members were trained."""
    workdir, tasks, chosen = tmp_path_factory.mktemp("ensemble"), [], []
    for folder in ("prepare", "records", "bridge"):
        (workdir / folder).symlink_to(finished / folder)

    def fit(task, state, *_):
        task.folder.mkdir(parents=True)
        tasks.append(task)
        params, batch_stats = state.evaluated
        task.validate(params, batch_stats)
        rng = np.random.default_rng(len(tasks))
        return params | {"head": jax.tree.map(lambda array: rng.normal(size=array.shape), params["head"])}, batch_stats

    def predict(compiled, variables, source, **_):
        chosen.append(source.rows)
        return ((row, np.zeros(1, np.float32)) for row in source.rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "fit", fit)
        patch.setattr(trainer, "predict", predict)
        stage.classify(Run(ENSEMBLE, workdir))
    return workdir, tasks, chosen


def test_members_of_an_ensemble_are_trained_on_all_but_their_fold_and_chosen_on_it(finished, ensemble):
    workdir, tasks, chosen = ensemble
    table = tiny.table(finished / "prepare/splits.csv")
    for fold, task, rows in zip(FOLDS, tasks, chosen, strict=True):
        trained = task.stream.examples.rows
        assert task.folder == workdir / f"classify/fold_{fold}/all"
        assert [row.image_id for row in rows] == [row["image_id"] for row in table if row["fold"] == str(fold)]
        others = [row["image_id"] for row in table if row["fold"] not in (str(fold), "-1")]
        assert [row.image_id for row in trained] == others
        assert not {row.group for row in rows} & {row.group for row in trained}
    assert Run(ENSEMBLE, finished).split.validation == list(enumerate(chosen))
    assert {row.split for rows in chosen for row in rows} == {"train", "validation"}


def test_members_take_equally_many_steps_of_one_program_and_differ(ensemble):
    workdir, tasks, _ = ensemble
    assert len({task.train_step for task in tasks}) == len({task.steps_per_epoch for task in tasks}) == 1
    assert len({task.stream.seed for task in tasks}) == len(FOLDS)
    weights = Run(ENSEMBLE, workdir).classifier_weights
    expected = [workdir / f"classify/fold_{fold}/weights.safetensors" for fold in FOLDS]
    assert weights == expected
    stems = {safetensors.numpy.load_file(path)["stem.conv.kernel"].tobytes() for path in weights}
    assert len(stems) == len(FOLDS)  # each starts from its own weights


def test_members_that_are_done_are_not_trained_again(ensemble, tmp_path):
    workdir = shutil.copytree(ensemble[0], tmp_path / "workdir", symlinks=True)
    weights = Run(ENSEMBLE, workdir).classifier_weights
    before = [path.read_bytes() for path in weights]
    weights[1].unlink()
    trained = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "fit", lambda task, state, *_: trained.append(task.folder) or state.evaluated)
        stage.classify(Run(ENSEMBLE, workdir))
    assert trained == [workdir / "classify/fold_1/all"]
    assert [path.read_bytes() == old for path, old in zip(weights, before, strict=True)] == [True, False, True]


def test_members_are_averaged_or_asked_one_by_one(ensemble):
    run = Run(ENSEMBLE, ensemble[0])
    classifiers, weights, rows = run.classifiers, run.classifier_weights, run.split.classified("test")
    source = run.bridged(rows)
    # named as often as there are members, so that it is the program of all of them
    alone = [dict(classifiers.predict(source, [number] * len(FOLDS))) for number in FOLDS]
    assert list(alone[0]) == list(rows) and alone[0][rows[0]].shape == (1,) and alone[0][rows[0]].dtype == np.float64
    assert all(np.ptp([member[row] for member in alone]) > 1e-4 for row in rows)
    mean = dict(classifiers.predict(source))
    for row, logits in mean.items():
        np.testing.assert_allclose(logits, np.mean([member[row] for member in alone], axis=0), rtol=1e-4, atol=1e-6)

    bias = np.mean([safetensors.numpy.load_file(path)["head.bias"] for path in weights])
    for (_, evidence), logits in zip(classifiers.explain(source), mean.values(), strict=True):
        assert evidence.shape == (1, 1) and evidence.dtype == np.float32  # of 32 x 32 pixels
        np.testing.assert_allclose(evidence.sum() + bias, logits[0], rtol=1e-4, atol=1e-5)


def test_the_first_member_alone_describes_images(ensemble):
    run = Run(ENSEMBLE, ensemble[0])
    source = Examples(run.prepared, run.split.classified("test")[:4], run.classifiers.novelty_size)
    alone = run.classifiers
    expected = [features for _, features in alone._run(alone._describe, source, [0])]
    others = [features for _, features in alone._run(alone._describe, source, [1])]
    found = [features for _, features in alone.describe(source)]
    np.testing.assert_array_equal(found, expected)
    assert np.abs(np.array(found) - others).max() > 1e-3
