import contextlib
import dataclasses
import logging
import re
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segfusion_jax.config import Augmentation, Checkpointing, Input
from segfusion_jax.input.loader import TrainStream
from segfusion_jax.runtime import interruption
from segfusion_jax.training import metric_log, steps
from segfusion_jax.training.checkpoint import Checkpoints
from segfusion_jax.training.choice import told
from segfusion_jax.training.fit import fit
from segfusion_jax.training.state import create_state
from segfusion_jax.training.task import Task
from tests.training import toy

OPTIMIZER = optax.adam(1e-2)
STEPS = 4
EACH_EPOCH_SAVED = Checkpointing()
EVERY_STEP_SAVED = Checkpointing(seconds=0.0)
EVERY_STEP = Input(num_threads=2, log_seconds=0.0)
DEVICES = toy.devices(4)
TRAIN_STEP = DEVICES.compile_train_step(steps.make_train_step(toy.objective, OPTIMIZER, seed=1, ema_decay=0.5))


@dataclasses.dataclass
class Validation:
    """Scores epochs by a list, and keeps what it was given; stops the training in the middle of `stops_at`."""

    scores: tuple[float, ...] = (0.1, 0.2, 0.3)
    losses: tuple[float, ...] = (1.0, 1.0, 1.0)
    stops_at: int = -1
    seen: list = dataclasses.field(default_factory=list)

    def __call__(self, params, batch_stats):
        if len(self.seen) == self.stops_at:
            raise KeyboardInterrupt
        self.seen.append(jax.device_get((params, batch_stats)))
        return {"auc": self.scores[len(self.seen) - 1], "loss": self.losses[len(self.seen) - 1]}


def task(folder, validate=None, **changes) -> Task:
    """Three epochs of four steps over 16 toy pictures."""
    stream = TrainStream(toy.examples(16), Augmentation(), batch_size=4, seed=3)
    validate = validate or Validation()
    standard = Task("toy", folder, TRAIN_STEP, stream, validate, "auc", epochs=3, steps_per_epoch=STEPS)
    return dataclasses.replace(standard, **changes)


def fresh():
    return create_state(*toy.variables(), OPTIMIZER, ema_decay=0.5)


def train(a_task: Task, checkpointing: Checkpointing = EACH_EPOCH_SAVED):
    return fit(a_task, fresh(), DEVICES, EVERY_STEP, checkpointing)


def saved(folder, keep=2):
    """The newest checkpoint: state, best params and batch_stats, facts."""
    with contextlib.closing(Checkpoints(folder / "checkpoints", DEVICES, keep=keep)) as opened:
        like = fresh()
        arrays, facts = opened.restore({"state": DEVICES.replicate(like), "best": jax.device_get(like.evaluated)})
        return jax.device_get(arrays["state"]), arrays["best"], facts


def equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def lines(folder) -> list[dict]:
    return metric_log.read(folder / "metrics.jsonl")


def poisoned(at: int):
    """The train step, its loss not a number from the step `at` on."""

    def step(state, batch):
        if int(state.step) >= at:
            batch = batch | {"weight": np.full_like(batch["weight"], np.nan)}
        return TRAIN_STEP(state, batch)

    return step


def failing(at: int):
    """The train step, which stops the training instead of making the step `at`, counted from 1."""

    def step(state, batch):
        if int(state.step) == at - 1:
            raise KeyboardInterrupt
        return TRAIN_STEP(state, batch)

    return step


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Folder and last state of a training without interruption."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, train(task(folder))


def test_a_training_learns_and_writes_every_step(undisturbed):
    folder, (params, _) = undisturbed
    expected = [(step + 1, "train") for step in range(3 * STEPS)]
    for epoch in (3, 2, 1):
        expected.insert(epoch * STEPS, (epoch * STEPS, "validation"))
    assert [(line["step"], line["split"]) for line in lines(folder)] == expected
    assert [line["epoch"] for line in lines(folder)[:5]] == [0.25, 0.5, 0.75, 1.0, 1]
    assert lines(folder)[-1]["auc"] == 0.3
    losses = [line["loss"] for line in lines(folder) if line["split"] == "train"]
    assert np.mean(losses[-STEPS:]) < np.mean(losses[:STEPS])
    assert float(np.abs(params["weight"]).max()) > 0


def test_every_step_takes_the_batch_that_the_stream_has_for_it(tmp_path):
    still = Augmentation(rotation=0, shift_height=0, shift_width=0, zoom=0, flip_horizontal=False, flip_vertical=False)
    stream = dataclasses.replace(task(tmp_path).stream, augmentation=still)
    seen = []

    def step(state, batch):
        seen.append(batch["image"].tobytes())
        return TRAIN_STEP(state, batch)

    train(task(tmp_path, stream=stream, train_step=step))
    position = {row.image_id: row.position for row in stream.examples.rows}
    ids = [stream.image_ids(number) for number in range(3 * STEPS)]
    assert seen == [b"".join(stream.examples[position[i]]["image"].tobytes() for i in names) for names in ids]
    for epoch in range(3):
        names = ids[epoch * STEPS : (epoch + 1) * STEPS]
        assert sorted(sum(names, [])) == sorted(position)
    assert len({tuple(names) for names in ids}) == 3 * STEPS


def test_the_input_is_opened_once_for_all_epochs_and_closed(tmp_path, monkeypatch):
    opened, closed = [], []
    batches = TrainStream.batches

    def recorded(stream, start, stop, *args, **share):
        opened.append((start, stop))
        try:
            yield from batches(stream, start, stop, *args, **share)
        finally:
            closed.append(start)

    monkeypatch.setattr(TrainStream, "batches", recorded)
    train(task(tmp_path))
    assert (opened, closed) == ([(0, 3 * STEPS)], [0])


@pytest.mark.parametrize("stops_at", [0, 1, 2])
def test_a_stopped_training_goes_on_as_if_nothing_had_been(tmp_path, undisturbed, stops_at):
    folder, expected = undisturbed
    with pytest.raises(KeyboardInterrupt):
        train(task(tmp_path, Validation(stops_at=stops_at)))
    assert len(lines(tmp_path)) == stops_at * (STEPS + 1) + STEPS  # of which the last four will be done again
    equal(train(task(tmp_path, Validation(scores=(0.1, 0.2, 0.3)[stops_at:]))), expected)
    assert (tmp_path / "metrics.jsonl").read_bytes() == (folder / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("at", [1, STEPS - 1, STEPS, STEPS + 1, 3 * STEPS])
def test_a_training_that_fails_between_checkpoints_goes_on_from_the_last(tmp_path, undisturbed, at):
    folder, expected = undisturbed
    step = failing(at)
    with pytest.raises(KeyboardInterrupt):
        train(task(tmp_path, train_step=step), EVERY_STEP_SAVED)
    assert (saved(tmp_path)[0].step if at > 1 else 0) == at - 1
    made = []

    def counted(state, batch):
        made.append(int(state.step))
        return TRAIN_STEP(state, batch)

    equal(train(task(tmp_path, Validation((0.1, 0.2, 0.3)[max(at - 2, 0) // STEPS :]), train_step=counted)), expected)
    assert made == list(range(at - 1, 3 * STEPS))
    assert (tmp_path / "metrics.jsonl").read_bytes() == (folder / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("at", [1, STEPS - 1, STEPS, 2 * STEPS + 1])
def test_a_training_that_is_asked_to_stop_saves_at_that_step(tmp_path, undisturbed, monkeypatch, at):
    folder, expected = undisturbed

    def step(state, batch):
        if int(state.step) == at - 1:
            monkeypatch.setattr(interruption._Asked, "number", signal.SIGTERM)
        return TRAIN_STEP(state, batch)

    with pytest.raises(interruption.Stopped) as stopped:
        train(task(tmp_path, train_step=step))
    assert stopped.value.status == 75
    assert saved(tmp_path)[0].step == at and [line["step"] for line in lines(tmp_path)][-1] == at
    monkeypatch.setattr(interruption._Asked, "number", 0)
    equal(train(task(tmp_path, Validation((0.1, 0.2, 0.3)[(at - 1) // STEPS :]))), expected)
    assert (tmp_path / "metrics.jsonl").read_bytes() == (folder / "metrics.jsonl").read_bytes()


def test_checkpoints_are_written_as_often_as_asked(tmp_path, monkeypatch):
    steps, save = [], Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", lambda self, step, *rest: (steps.append(step), save(self, step, *rest)))
    train(task(tmp_path / "each"), EVERY_STEP_SAVED)
    assert steps == list(range(1, 3 * STEPS + 1))
    steps.clear()
    train(task(tmp_path / "epochs"))
    assert steps == [STEPS, 2 * STEPS, 3 * STEPS]


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(tmp_path, undisturbed, caplog):
    folder, expected = undisturbed
    with pytest.raises(KeyboardInterrupt):
        train(task(tmp_path, Validation(stops_at=2)))
    newest = tmp_path / f"checkpoints/{3 * STEPS}"
    for file in newest.rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    equal(train(task(tmp_path, Validation((0.2, 0.3)))), expected)
    (warning,) = [record.getMessage() for record in caplog.records if "is damaged" in record.getMessage()]
    assert "the checkpoint of step 12 is damaged" in warning and "going on from the one of step 8" in warning
    assert (tmp_path / "metrics.jsonl").read_bytes() == (folder / "metrics.jsonl").read_bytes()
    assert saved(tmp_path)[0].step == 3 * STEPS


def test_a_finished_training_is_not_repeated(tmp_path):
    best = train(task(tmp_path, Validation(scores=(0.2, 0.9, 0.5))))
    before = (tmp_path / "metrics.jsonl").read_bytes()

    def never(*_):
        raise AssertionError("called")

    equal(train(task(tmp_path, Validation(scores=(0.5,)), train_step=never)), best)  # but for its last validation
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_the_best_epoch_is_returned(tmp_path):
    validate = Validation(scores=(0.2, 0.9, 0.5))
    best = train(task(tmp_path, validate))
    equal(best, validate.seen[1])
    state, kept, facts = saved(tmp_path)
    equal(state.evaluated, validate.seen[2])  # validation sees the average, which is not the weights
    assert float(np.abs(state.average[0]["weight"] - state.params["weight"]).max()) > 0
    equal(kept, best)
    assert facts["best"] == {"step": 2 * STEPS, "auc": 0.9, "loss": 1.0}
    assert float(np.abs(validate.seen[2][0]["weight"] - validate.seen[1][0]["weight"]).max()) > 0


@pytest.mark.parametrize(
    ("metric", "scores", "losses", "kept"),
    [
        ("auc", (1.0, 1.0, 1.0), (0.9, 0.1, 0.2), 1),  # the score is equal: the lower loss
        ("auc", (0.5, 1.0, 1.0), (0.1, 0.3, 0.3), 2),  # the loss is equal too: the later epoch
        ("auc", (0.9, 0.8, 0.7), (0.9, 0.1, 0.2), 0),  # the score comes first
        ("loss", (0.9, 0.8, 0.7), (0.9, 0.1, 0.2), 1),
    ],
)
def test_of_equal_epochs_the_one_of_lower_loss_is_kept_and_then_the_later(tmp_path, metric, scores, losses, kept):
    validate = Validation(scores, losses)
    equal(train(task(tmp_path, validate, best_metric=metric)), validate.seen[kept])
    assert f"epoch {kept + 1} of 3 is kept" in told(metric_log.read(tmp_path / "metrics.jsonl"), metric)


def test_a_loss_that_is_not_a_number_stops_and_leaves_the_last_good_checkpoint(tmp_path, undisturbed):
    folder, expected = undisturbed
    broken = task(tmp_path, train_step=poisoned(at=STEPS + 1))
    with pytest.raises(FloatingPointError) as error:
        train(broken)
    text = str(error.value)
    assert text.startswith("toy: ") and "is nan at step 6; the checkpoint of step 4 is good; images: " in text
    images = text.partition("images: ")[2].split(", ")
    assert images == broken.stream.image_ids(5) and len(images) == 4
    batch = next(iter(broken.stream.batches(5, 6, EVERY_STEP)))
    label = {row.image_id: row.target for row in broken.stream.examples.rows}
    assert [label[image_id] for image_id in images] == batch["label"].tolist()

    kept = saved(tmp_path)[0]
    assert kept.step == STEPS and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(kept))
    equal(train(task(tmp_path, Validation())), expected)
    assert lines(tmp_path) == lines(folder)


SKIPPING = DEVICES.compile_train_step(
    steps.make_train_step(toy.objective, OPTIMIZER, seed=1, ema_decay=0.5, skip_nonfinite=True)
)


def skipping(bad: tuple[int, ...]):
    """A train step that skips, whose loss is not a number at the steps `bad`, counted from 1."""

    def step(state, batch):
        if int(state.step) + 1 in bad:
            batch = batch | {"weight": np.full_like(batch["weight"], np.nan)}
        return SKIPPING(state, batch)

    return step


def test_skipped_steps_are_counted_and_logged(tmp_path, caplog):
    train(task(tmp_path, train_step=skipping(bad=(2, 5, 6))))
    trained = [line for line in lines(tmp_path) if line["split"] == "train"]
    assert [line["step"] for line in trained if line["skipped"]] == [2, 5, 6]
    assert {"loss" in line for line in trained if line["skipped"]} == {False}
    assert {"loss" in line for line in trained if not line["skipped"]} == {True}
    messages = [record.getMessage() for record in caplog.records if "skipped" in record.getMessage()]
    assert messages[-1] == "toy: 3 steps skipped up to step 6: loss or gradient was not finite"


def test_an_epoch_of_skipped_steps_stops_the_training(tmp_path):
    with pytest.raises(FloatingPointError, match="toy: the 10 steps up to step 12 were all skipped"):
        train(task(tmp_path, train_step=skipping(bad=tuple(range(3, 13)))))


def test_a_loss_that_is_not_a_number_in_the_first_epoch(tmp_path):
    quiet = Input(num_threads=2, log_seconds=1e9)  # looks at the end of the epoch only
    with pytest.raises(FloatingPointError, match="is nan at step 2; there is no checkpoint yet; images: TOY_"):
        fit(task(tmp_path, train_step=poisoned(at=1)), fresh(), DEVICES, quiet, Checkpointing())
    assert lines(tmp_path) == []


@pytest.mark.parametrize(
    "changes",
    [{"examples": toy.examples(15)}, {"examples": toy.examples(16, prefix="ISIC")}, {"batch_size": 8}, {"seed": 4}],
)
def test_a_checkpoint_of_other_images_is_refused(tmp_path, changes):
    with pytest.raises(KeyboardInterrupt):
        train(task(tmp_path, Validation(stops_at=1)))
    before = lines(tmp_path)
    other = task(tmp_path)
    with pytest.raises(ValueError, match=f"{tmp_path}: the checkpoint's input position .* is not of these images"):
        train(dataclasses.replace(other, stream=dataclasses.replace(other.stream, **changes)))
    assert lines(tmp_path) == before


def test_progress_says_how_far_and_how_fast(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="segfusion_jax"):
        train(task(tmp_path, epochs=1))
    messages = [record.getMessage() for record in caplog.records if record.getMessage().startswith("toy: ")]
    assert messages[-1] == "toy: epoch 1 of 1: validation auc 0.1000, loss 1.0000"
    assert messages[0] == "toy: 4 steps of 4 images, 4 an epoch"
    assert re.fullmatch(r"toy: step 2 of 4, loss 0\.\d{4}, [\d.]+ images/s, \d+ s left", messages[2])
    rates = metric_log.read(tmp_path / "rates.jsonl")
    assert [line["step"] for line in rates] == [1, 2, 3, 4]
    assert all(line["images_per_second"] > 0 for line in rates[1:])  # the first step compiles


def test_only_float32_arrays_are_carried():
    assert {leaf.dtype for leaf in jax.tree.leaves(fresh())} == {jnp.dtype("float32"), jnp.dtype("int32")}
