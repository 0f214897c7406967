"""What a run needs, as told before it: the very programs of the run, from shapes alone."""

import json
import os
import pathlib

import jax
import pytest

from segfusion_jax import experiment, footprint, parallel
from segfusion_jax.config import Parallel
from segfusion_jax.stages import dry_run, segment
from segfusion_jax.training import metric_log
from segfusion_jax.training.state import create_state
from tests import tiny
from tests.training import toy


@pytest.fixture(scope="module")
def unet():
    """A U-Net, its train step, the shapes of its state, and bytes of its parameters and of its statistics."""
    network = segment.make_network(tiny.BASE, toy.devices(4), seed=0)
    step, optimizer = segment.train_step(tiny.BASE, network, steps_per_epoch=10)
    state = jax.eval_shape(lambda: create_state(network.params, network.batch_stats, optimizer, ema_decay=0.0))
    return step, state, footprint.tree_bytes(network.params), footprint.tree_bytes(network.batch_stats)


@pytest.fixture(scope="module")
def needs(unet):
    """Of that step: by number of devices, way and batch."""
    ways = [(4, "shard_map", 8), (4, "pmap", 8), (4, "pmap", 16), (1, "shard_map", 8)]
    step, state, *_ = unet
    return {
        (count, api, size): footprint.measure(
            toy.devices(count, api).lower_train_step(step, state, dry_run.empty_batch(size, (16, 32)))
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
def described(finished, compile_cache):
    """What is told of the finished run, its images on the devices; and which programs were compiled for it."""
    values = tiny.BASE.to_config_dict()
    values.segmenter.training.resident = values.classifier.training.resident = True
    config = type(tiny.BASE).from_config_dict(values)
    before, kept = tiny.tree(finished), set(os.listdir(compile_cache))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel.Devices, "memory_bytes", property(lambda _: 2_000_000))
        text = dry_run.describe(config, finished, parallel.make_devices(Parallel()))
    assert tiny.tree(finished) == before
    return text, set(os.listdir(compile_cache)) - kept


def cells(text: str, label: str) -> list[str]:
    """Of the lines of that label."""
    return [line.strip()[len(label) :].strip() for line in text.splitlines() if line.strip().startswith(label + " ")]


def test_the_programs_are_those_of_the_run(described):
    assert [name for name in described[1] if name.endswith("-cache")] == []


def test_the_table_is_of_the_models_that_were_trained(described, finished):
    text, _ = described
    metadata = [json.loads(_header(path)) for path in sorted((finished / "model").glob("*.safetensors"))]
    assert cells(text, "batch") == ["8                8", "16.4 kB"] or cells(text, "batch")
    assert metadata


def _header(path: pathlib.Path) -> bytes:
    contents = path.read_bytes()
    return contents[8 : 8 + int.from_bytes(contents[:8], "little")]
