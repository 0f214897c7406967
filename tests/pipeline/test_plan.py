"""What a run needs, as told before it: the very programs of the run, from shapes alone."""

import pathlib
import re

import jax
import pytest
import safetensors.numpy
from jax import monitoring

from segfusion_jax.pipeline import plan
from segfusion_jax.pipeline.networks import Networks
from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.stages import segment
from segfusion_jax.pipeline.timing import Pace, estimate, store_sample
from segfusion_jax.pipeline.workload import Workload, workload
from segfusion_jax.runtime import footprint
from segfusion_jax.runtime.devices import Devices
from segfusion_jax.serving.ensembles import Classes
from segfusion_jax.training import metric_log
from segfusion_jax.training.state import create_state
from tests import shallow, tiny
from tests.training import toy


@pytest.fixture(scope="module")
def unet():
    """The train step of a U-Net of two levels, the shapes of its state, bytes of its parameters and its statistics."""
    with pytest.MonkeyPatch.context() as patch:
        shallow.patch(patch.setattr)
        network = Networks(tiny.BASE, toy.devices(4)).random_unet(0)
    phase = segment.make_phase(tiny.BASE, network, steps_per_epoch=10)
    state = jax.eval_shape(lambda: create_state(network.params, network.batch_stats, phase.optimizer, ema_decay=0.0))
    return phase.train_step, state, footprint.tree_bytes(network.params), footprint.tree_bytes(network.batch_stats)


@pytest.fixture(scope="module")
def needs(unet):
    """Of that step: by number of devices, way and batch."""
    ways = [(4, "shard_map", 8), (4, "pmap", 8), (4, "pmap", 16), (1, "shard_map", 8)]
    step, state, *_ = unet
    with pytest.MonkeyPatch.context() as patch:
        shallow.patch(patch.setattr)
        return {
            (count, api, size): footprint.measure(
                toy.devices(count, api).lower_train_step(step, state, plan.empty_batch(size, (16, 32)))
            )
            for count, api, size in ways
        }


@pytest.mark.parametrize("api", ["shard_map", "pmap"])
def test_gradients_are_all_reduced_once_and_moments_twice(unet, needs, api):
    *_, params, statistics = unet
    found = needs[4, api, 8].collectives
    assert {one.kind for one in found} == {"all-reduce"}
    total = sum(one.times * one.num_bytes for one in found)
    # of a bias before a batch norm the gradient is zero, and not sent: as many numbers as half the statistics
    loss_and_weight = 8
    assert total == params + 3 * statistics + loss_and_weight - statistics // 2
    assert total >= params


def test_one_device_exchanges_nothing(needs):
    assert needs[1, "shard_map", 8].collectives == []


def test_half_the_batch_needs_less_memory(needs):
    half, whole = needs[4, "pmap", 8], needs[4, "pmap", 16]
    assert half.temporary < 0.7 * whole.temporary and half.memory < whole.memory
    unread = 4 * 2  # a U-Net's step reads no labels
    assert whole.arguments - half.arguments == 2 * (16 * 32 * 4 + 8) - unread
    assert needs[1, "shard_map", 8].temporary > 2 * needs[4, "shard_map", 8].temporary


def test_only_a_jitted_step_writes_over_its_state(unet, needs):
    state = footprint.tree_bytes(unet[1])
    assert needs[4, "pmap", 8].aliased == 0
    assert needs[4, "shard_map", 8].aliased == state
    for one in needs.values():
        assert 0 <= one.outputs - state < 4096  # the metrics, and a table of what the results are


@pytest.fixture(scope="module")
def described(finished):
    """What is told of the finished run, its images on the devices; and which programs were compiled for it."""
    values = tiny.BASE.to_config_dict()
    values.segmenter.training.on_device_data = values.classifier.training.on_device_data = True
    config = type(tiny.BASE).from_config_dict(values)
    before = tiny.tree(finished)
    missed = []  # not the folder's new files: other processes write there meanwhile
    monitoring.register_event_listener(
        lambda event, **_: missed.append(event) if event.endswith("cache_misses") else None
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Devices, "memory_bytes", property(lambda _: 2_000_000))
        text = plan.plan(Run(config, finished))
    assert tiny.tree(finished) == before
    return text, list(missed)


def cells(text: str, heading: str, label: str) -> list[str]:
    """The two cells of a line of the table, under a heading that stands alone or on the line itself."""
    current = ""
    for line in text.splitlines():
        current = current if line.startswith("  ") else re.split(r"  +", line)[0]
        found, *both = re.split(r"  +", line.strip())
        if (current, found) == (heading, label):
            return both
    raise AssertionError(f"no line {label!r} of {heading!r} in\n{text}")


def test_the_programs_are_those_of_the_run(described):
    assert described[1] == []  # all were found in the cache


def test_the_parameters_are_those_of_the_trained_models(described, finished):
    files = [finished / name / "weights.safetensors" for name in ("segment/fold_0", "classify")]
    for place, path in enumerate(files):
        arrays = safetensors.numpy.load_file(path)
        moving = {name: array for name, array in arrays.items() if name.rpartition(".")[2] in ("mean", "var")}
        number = sum(array.size for array in arrays.values()) - sum(array.size for array in moving.values())
        assert cells(described[0], "parameters", "parameters")[place] == f"{number:,}"


def test_steps_and_classes_are_those_of_the_prepared_data(described, finished):
    rows = tiny.table(finished / "prepare/splits.csv")
    train = [row for row in rows if row["split"] == "train"]
    annotated = sum(row["has_mask"] == "1" for row in train)
    steps = 2 * annotated // 3 // 8, len(train) // 8  # a U-Net of three folds is trained on two
    assert f"2 classes; steps an epoch: {steps[0]} (U-Net), {steps[1]} (classifier)\n" in described[0]
    for folder, steps_per_epoch in zip(("segment/fold_0", "classify/all"), steps, strict=True):
        last = metric_log.read(finished / folder / "metrics.jsonl")[-1]
        assert last["step"] == last["epoch"] * steps_per_epoch


def test_members_of_an_ensemble_take_the_steps_of_an_average_one(finished):
    config = tiny.config(classifier__fold_ensemble=True)
    work = workload(Run(config, finished))
    folds = [row["fold"] for row in tiny.table(finished / "prepare/splits.csv") if row["fold"] != "-1"]
    assert plan._classifier_steps(config, work) == len(folds) * 2 // 3 // 8
    assert max(work.classifier_training) == max(len(folds) - folds.count(fold) for fold in "012")


def test_what_is_not_prepared_is_counted_in_its_files(finished, tmp_path):
    listed, dealt = workload(Run(tiny.BASE, tmp_path)), workload(Run(tiny.BASE, finished))
    assert not any(tmp_path.iterdir()) and listed.origin != dealt.origin
    assert (listed.stored, listed.masked, listed.classes) == (dealt.stored, dealt.masked, dealt.classes)
    for name in ("tests", "annotated_tests"):
        assert getattr(listed, name) == pytest.approx(getattr(dealt, name), rel=0.4), name
    for name in ("unet_training", "unet_validation", "classifier_training", "classifier_validation"):
        assert len(getattr(listed, name)) == len(getattr(dealt, name))
        assert sum(getattr(listed, name)) == pytest.approx(sum(getattr(dealt, name)), rel=0.4), name


def test_reading_is_timed_on_images_stored_as_prepare_stores_them(finished):
    sample, seconds = store_sample(tiny.BASE)
    run = Run(tiny.BASE, finished)
    stored = {row.image_id: row for row in run.prepared.rows}
    assert seconds > 0 and len(sample.rows) == 8
    for row in sample.rows:
        theirs = stored[row.image_id]
        assert sample.read(row.position) == run.prepared.read(theirs.position)
        assert (row.has_mask, row.width, row.diagnosis) == (theirs.has_mask, theirs.width, theirs.diagnosis)


def test_without_the_files_it_says_what_it_takes_them_for(tmp_path):
    config = tiny.config("ham10000", data__target="diagnosis", data__root=str(tmp_path / "nowhere"))
    run = Run(config, tmp_path / "new")
    assert workload(run) is None and plan._unread(config).num_logits == 2
    text = plan.plan(run)
    assert "not found: taken for 2 classes and 1,000 steps an epoch" in text and "time of each stage" not in text


def test_the_time_of_each_stage_is_told_and_that_of_done_ones_is_not(finished, tmp_path):
    for name in ("prepare", "records"):
        (tmp_path / name).symlink_to(finished / name)
    lines = plan.plan(Run(tiny.BASE, tmp_path)).splitlines()
    stages = dict(line.split(maxsplit=1) for line in lines[-7:-1])
    assert list(stages) == ["prepare", "segment", "score", "bridge", "classify", "evaluate"]
    assert stages.pop("prepare") == "done" and all(text.startswith("about ") for text in stages.values())
    assert lines[-1].split(maxsplit=2)[:2] == ["in", "all"]


def test_times_are_those_of_steps_and_batches_by_hand():
    config = tiny.config(segmenter__training__epochs=2, classifier__training__epochs=3, classifier__frozen_epochs=1)
    numbers = dict(stored=100, masked=90, annotated_tests=8, tests=17)
    trained = dict(unet_training=(40, 44, 36), unet_validation=(9, 8, 1), classifier_training=(64,))
    classes = Classes(("benign", "malignant"), (False, True), 1)
    work = Workload("by hand", classes, **numbers, **trained, classifier_validation=(10,))
    found = estimate(Run(config, pathlib.Path("x")), work, Pace(5, 1, 10), Pace(7, 2, 100), storing=0.5)
    # U-Nets: 40 images on average are 5 steps of 8; 2 + 1 + 1 batches validate; the classifier: 8 steps, 2 batches
    assert found["prepare"] == 50
    assert found["segment"] == 5 + 2 * (3 * 5 * 1 + (2 + 1 + 1) * 10)
    assert found["score"] == 3 * 1 * 10
    assert found["bridge"] == 10 * 10 + 3 * 3 * 10  # 73 images by one U-Net, 17 by three
    assert found["classify"] == 7 + (1 + 3) * (8 * 2 + 2 * 100)
    assert found["evaluate"] == 100 * -(-(3 * 17 + 2 * 10 + 64) // 8)


def test_the_table_adds_up(described):
    text = described[0]
    for place, size in enumerate((16 * 32, 32 * 32)):
        assert cells(text, "batch", "batch")[place] == "8" and cells(text, "batch", "a device")[place] == "2"
        assert cells(text, "memory of a device", "batch")[place] == f"{2 * (4 * size + 8) / 1000:.2f} kB"
        state = [number(cells(text, "state", part)[place]) for part in ("parameters", "batch-norm statistics")]
        assert number(cells(text, "state", "optimiser")[place]) == pytest.approx(2 * state[0], rel=0.01)  # Adam
        average = sum(state) if place else 0  # the classifier's only
        assert number(cells(text, "state", "moving average")[place]) == pytest.approx(average, rel=0.01)
        total = sum(state) + 2 * state[0] + average
        assert number(cells(text, "memory of a device", "state")[place]) == pytest.approx(total, rel=0.01)


def number(quantity: str) -> float:
    """1.5 kB is 1500."""
    value, unit = quantity.split(" ")
    return float(value) * {"B": 1, "kB": 1e3, "MB": 1e6}[unit]


def test_remarks(described):
    remarks = described[0].split("\n\n")[2].splitlines()
    for section, size in (("segmenter", 16 * 32), ("classifier", 32 * 32)):
        (line,) = (line for line in remarks if line.startswith(f"config.{section}.training.on_device_data: "))
        assert f"the images, {(4 * size + 8) / 1000:.2f} kB each, " in line
    (warning,) = (line for line in remarks if line.startswith("WARNING"))  # a U-Net's step needs less than 2 MB
    assert "the step of the classifier needs 4." in warning and "MB of a device that has 2.00 MB" in warning
    assert "set config.classifier.training.remat or .microbatches, lower .batch_size" in warning


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (9996, "10.0 kB"),
        (99_960, "100 kB"),
        (999_600, "1.00 MB"),
        (2.5e12, "2.50 TB"),
        (None, "-"),
    ],
)
def test_quantities_have_three_digits(value, text):
    assert plan._quantity(value, "B") == text
