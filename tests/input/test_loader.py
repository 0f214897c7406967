"""Streams of batches: what is in them, in which order, on how many processes."""

import gc
import itertools
import pickle
import time

import numpy as np
import pytest
from grain.multiprocessing import SharedMemoryArray

from segfusion_jax.config import Augmentation, Bridge, Input
from segfusion_jax.input import decode
from segfusion_jax.input.augment import recolour, warp
from segfusion_jax.input.examples import evaluation_batches
from segfusion_jax.input.loader import STEPS_PER_BLOCK, TrainStream, decode_all
from tests.input import fakes

THREADS = Input(num_threads=2)
COUNT, BATCH = 7, 4


def stream(*, seed: int = 3, **options) -> TrainStream:
    return TrainStream(
        **dict(
            examples=fakes.examples(COUNT),
            augmentation=Augmentation(),
            batch_size=BATCH,
            seed=seed,
        )
        | options
    )


def assert_equal(batches, expected):
    for batch, wanted in itertools.zip_longest(batches, expected):
        assert batch.keys() == wanted.keys()
        for name in wanted:
            assert batch[name].dtype == wanted[name].dtype
            np.testing.assert_array_equal(batch[name], wanted[name])


class TestExamples:
    def test_an_example_is_a_batch_without_its_first_axis(self):
        example = fakes.examples(COUNT)[3]
        np.testing.assert_array_equal(example["image"], np.full((*fakes.SIZE, 3), [30, 40, 50]))
        np.testing.assert_array_equal(example["mask"], fakes.mask(3)[..., None])
        assert (example["label"], example["label"].dtype) == (1, np.int32)
        assert (example["weight"], example["weight"].dtype) == (1.0, np.float32)

    def test_rows_say_which_records_are_read(self):
        rows = [fakes.Row(5, "a", 0), fakes.Row(2, "b", -1)]
        some = fakes.examples(COUNT, rows=rows)
        assert len(some) == 2
        assert [some[index]["image"][0, 0, 0] for index in (0, 1)] == [50, 20]
        assert some[1]["label"] == -1

    def test_everything_is_brought_to_the_asked_size(self):
        example = fakes.examples(COUNT, image_size=(8, 48))[3]
        assert example["image"].shape == (8, 48, 3)
        assert example["mask"].shape == (8, 48, 1)
        assert example["mask"].mean() == pytest.approx(fakes.mask(3).mean(), rel=0.01)

    def test_the_bridges_masks_take_the_place_of_the_annotated(self):
        example = fakes.examples(COUNT, masks=fakes.Masks())[3]
        np.testing.assert_array_equal(example["mask"], np.full((*fakes.SIZE, 1), 104))  # of id4

    def test_without_annotation_the_mask_is_empty(self):
        example = fakes.examples(COUNT, records=fakes.Records(annotated=False))[3]
        np.testing.assert_array_equal(example["mask"], np.zeros((*fakes.SIZE, 1)))

    def test_the_image_is_framed_before_it_is_resized(self):
        example = fakes.examples(COUNT, image_size=(16, 16), bridge=Bridge(mode="crop", margin=0.0))[3]
        np.testing.assert_array_equal(example["mask"], np.full((16, 16, 1), 255))

    @pytest.mark.parametrize(
        ("options", "as_large_as"),
        [
            (dict(), None),
            (dict(scaled_decoding=True), (16, 16)),
            (dict(scaled_decoding=True, bridge=Bridge(mode="dim")), (16, 16)),
            (dict(scaled_decoding=True, bridge=Bridge(mode="crop")), None),  # what is left may be small
        ],
    )
    def test_only_what_is_shown_whole_is_decoded_reduced(self, monkeypatch, options, as_large_as):
        asked, decode_image = [], decode.decode_image
        monkeypatch.setattr(decode, "decode_image", lambda content, size: asked.append(size) or decode_image(content))
        fakes.examples(COUNT, image_size=(16, 16), **options)[3]
        assert asked == [as_large_as]


class TestTrainStream:
    def test_shapes_and_dtypes(self):
        (batch,) = stream().batches(0, 1, THREADS)
        shapes = {name: (array.shape, array.dtype.name) for name, array in batch.items()}
        assert shapes == {
            "image": ((BATCH, *fakes.SIZE, 3), "uint8"),
            "mask": ((BATCH, *fakes.SIZE, 1), "uint8"),
            "label": ((BATCH,), "int32"),
            "weight": ((BATCH,), "float32"),
        }
        np.testing.assert_array_equal(batch["weight"], 1)

    def test_it_is_a_function_of_the_seed(self):
        assert_equal(stream().batches(0, 5, THREADS), list(stream().batches(0, 5, Input(num_threads=1))))
        orders = [[stream(seed=seed).image_ids(step) for step in range(5)] for seed in (3, 4)]
        assert orders[0] != orders[1]
        options = dict(augmentation=Augmentation(brightness=0.2), on_device=True)
        first, second = (next(stream(seed=seed, **options).batches(0, 1, THREADS)) for seed in (3, 4))
        assert all(np.abs(first[name] - second[name]).max() > 0.01 for name in ("matrix", "colours"))

    @pytest.mark.parametrize("start", [1, 2, 6])  # 7 examples, 4 a batch: epochs end inside of batches
    def test_it_resumes_anywhere(self, start):
        whole = list(stream().batches(0, 8, THREADS))
        assert len(whole) == 8
        assert_equal(stream().batches(start, 8, THREADS), whole[start:])

    def test_no_steps_are_no_batches(self):
        assert list(stream().batches(3, 3, THREADS)) == []

    def test_each_epoch_has_every_example_once_in_a_new_order(self):
        ids = [name for step in range(COUNT) for name in stream().image_ids(step)]
        epochs = [ids[start : start + COUNT] for start in range(0, len(ids), COUNT)]
        assert len(epochs) == BATCH
        assert all(len(set(epoch)) == COUNT for epoch in epochs)
        assert len(set(map(tuple, epochs))) == BATCH

    def test_image_ids_are_those_of_the_batch(self):
        for step, batch in enumerate(stream().batches(0, 9, THREADS)):
            assert stream().image_ids(step) == fakes.image_ids(batch, COUNT)

    def test_labels_and_masks_belong_to_their_images(self):
        still = Augmentation(
            rotation=0, shift_height=0, shift_width=0, zoom=0, flip_horizontal=False, flip_vertical=False
        )
        for batch in stream(augmentation=still).batches(0, 4, THREADS):
            positions = batch["image"][:, 0, 0, 0] // 10
            np.testing.assert_array_equal(batch["label"], positions % 2)
            np.testing.assert_array_equal(batch["mask"][..., 0], [fakes.mask(position) for position in positions])

    def test_an_example_is_augmented_anew_in_every_epoch(self):
        masks = [batch["mask"].tobytes() for batch in stream(batch_size=1).batches(0, 3 * COUNT, THREADS)]
        assert len(set(masks)) == 3 * COUNT

    @pytest.mark.parametrize("processes", [2, 4])  # with 4, batches of one example
    def test_processes_share_the_batches_of_one(self, processes):
        together = list(stream().batches(2, 6, THREADS))
        shares = [
            list(stream().batches(2, 6, THREADS, process=process, num_processes=processes))
            for process in range(processes)
        ]
        for step, batch in enumerate(together):
            parts = [share[step] for share in shares]
            assert all(len(part["label"]) == BATCH // processes for part in parts)
            for name in batch:
                joined = np.stack([part[name] for part in parts], 1).reshape(batch[name].shape)
                np.testing.assert_array_equal(joined, batch[name])

    def test_each_example_is_read_once(self):
        examples = fakes.examples(COUNT)
        batches = list(stream(examples=examples, batch_size=COUNT).batches(0, 3, THREADS))
        assert len(batches) == 3
        assert examples.records.reads == dict.fromkeys(range(COUNT), 3)

    def test_nothing_to_draw_from_is_an_error(self):
        with pytest.raises(ValueError, match="no training images"):
            stream(examples=fakes.examples(0))


class TestWeights:
    WEIGHTS = (0.0, 1.0, 2.0, 0.0, 4.0, 0.5, 0.25)

    def test_resuming_threads_workers_and_seeds(self):
        whole = list(stream(weights=self.WEIGHTS).batches(0, 8, THREADS))
        assert_equal(stream(weights=self.WEIGHTS).batches(3, 8, Input(num_workers=1)), whole[3:])
        orders = [[stream(weights=self.WEIGHTS, seed=seed).image_ids(step) for step in range(5)] for seed in (3, 4)]
        assert orders[0] != orders[1]

    def test_image_ids_are_those_of_the_batch_and_never_of_weight_0(self):
        seen = set()
        for step, batch in enumerate(stream(weights=self.WEIGHTS).batches(0, 50, THREADS)):
            assert stream(weights=self.WEIGHTS).image_ids(step) == fakes.image_ids(batch, COUNT)
            seen |= set(fakes.image_ids(batch, COUNT))
        assert seen == {f"id{COUNT - position}" for position in (1, 2, 4, 5, 6)}

    @pytest.mark.parametrize("on_device", [False, True])
    @pytest.mark.parametrize("processes", [2, 4])
    def test_processes_share_the_batches_of_one(self, processes, on_device):
        weighted = stream(weights=self.WEIGHTS, on_device=on_device)
        together = list(weighted.batches(2, 6, THREADS))
        shares = [
            list(weighted.batches(2, 6, THREADS, process=process, num_processes=processes))
            for process in range(processes)
        ]
        axis = 1 if on_device else 0
        for number, batch in enumerate(together):
            for name, array in batch.items():
                joined = np.stack([share[number][name] for share in shares], axis + 1).reshape(array.shape)
                np.testing.assert_array_equal(joined, array)

    def test_a_resident_stream_draws_the_same(self):
        (block,) = stream(weights=self.WEIGHTS, on_device=True).batches(0, 20, THREADS)
        ids = [[f"id{COUNT - index}" for index in step] for step in block["index"]]
        assert ids == [stream(weights=self.WEIGHTS).image_ids(step) for step in range(20)]

    def test_order_and_geometry_are_independent(self):
        # the same number must not choose the example and then its geometry
        (block, *_) = stream(weights=[1.0] * COUNT, on_device=True, batch_size=64).batches(0, STEPS_PER_BLOCK, THREADS)
        correlations = np.corrcoef(block["index"].ravel(), block["matrix"].reshape(-1, 6).T)[0, 1:]
        np.testing.assert_allclose(correlations, 0, atol=0.1)

    @pytest.mark.parametrize("weights", [(1.0,) * 6, ()])
    def test_one_weight_an_example(self, weights):
        with pytest.raises(ValueError, match=f"{len(weights)} weights for 7 training images"):
            stream(weights=weights)

    def test_bad_weights_are_refused_at_once(self):
        with pytest.raises(ValueError, match=r"weights\[2\] = -1.0"):
            stream(weights=(0.0, 1.0, -1.0, 0.0, 4.0, 0.5, 0.25))


class TestResidentStream:
    def test_it_draws_what_the_streaming_one_does(self):
        augmentation = Augmentation(saturation=0.5, hue=20.0)
        (block,) = stream(on_device=True, augmentation=augmentation).batches(2, 9, THREADS)
        assert {name: (array.shape, array.dtype.name) for name, array in block.items()} == {
            "index": ((7, BATCH), "int32"),
            "matrix": ((7, BATCH, 2, 3), "float32"),
            "colours": ((7, BATCH, 3, 4), "float32"),
        }
        ids = [[stream().examples.rows[index].image_id for index in step] for step in block["index"]]
        assert ids == [stream().image_ids(step) for step in range(2, 9)]

        for step, batch in enumerate(stream(augmentation=augmentation).batches(2, 9, THREADS)):
            for place in range(BATCH):
                index, matrix, colours = (block[name][step, place] for name in ("index", "matrix", "colours"))
                example = stream().examples[index]
                image, mask = warp(example["image"], example["mask"][..., 0], matrix)
                np.testing.assert_array_equal(batch["image"][place], recolour(image, colours))
                np.testing.assert_array_equal(batch["mask"][place, ..., 0], mask)
        assert len({matrix.tobytes() for matrix in block["matrix"].reshape(-1, 6)}) == 7 * BATCH

    def test_blocks_go_on_where_others_ended(self):
        ends = [3, 3 + STEPS_PER_BLOCK, 2 * STEPS_PER_BLOCK + 7]
        blocks = list(stream(on_device=True).batches(3, ends[-1], THREADS))
        assert [len(block["index"]) for block in blocks] == [STEPS_PER_BLOCK, STEPS_PER_BLOCK, 4]
        assert_equal(stream(on_device=True).batches(ends[1], ends[-1], THREADS), blocks[1:])

    def test_processes_share_the_draws_of_one(self):
        (together,) = stream(on_device=True).batches(0, 5, THREADS)
        shares = [next(stream(on_device=True).batches(0, 5, THREADS, process=p, num_processes=2)) for p in (0, 1)]
        for name, array in together.items():
            np.testing.assert_array_equal(np.stack([share[name] for share in shares], 2).reshape(array.shape), array)

    def test_all_examples_are_decoded_in_their_order(self):
        examples = fakes.examples(COUNT)
        decoded = decode_all(examples, THREADS, length=COUNT + 2)
        assert examples.records.reads == {0: 2} | dict.fromkeys(range(1, COUNT), 1)  # the first also for its shape
        for name, value in examples[0].items():
            assert decoded[name].shape == (COUNT + 2, *value.shape) and decoded[name].dtype == value.dtype
            np.testing.assert_array_equal(decoded[name][:COUNT], np.stack([examples[i][name] for i in range(COUNT)]))
            np.testing.assert_array_equal(decoded[name][COUNT:], 0)


class TestEvaluationBatches:
    @pytest.mark.parametrize(
        ("count", "batch_size", "batches"), [(7, 4, 2), (8, 4, 2), (3, 4, 1), (9, 2, 5), (0, 4, 0)]
    )
    def test_every_example_once_in_order_and_padding_of_weight_0(self, count, batch_size, batches):
        read = list(evaluation_batches(fakes.examples(count), batch_size, THREADS))
        assert [batch["image"].shape for batch in read] == batches * [(batch_size, *fakes.SIZE, 3)]
        weights = [weight for batch in read for weight in batch["weight"]]
        assert weights == count * [1] + (batches * batch_size - count) * [0]
        ids = [name for batch in read for name in fakes.image_ids(batch, count)]
        assert ids[:count] == [row.image_id for row in fakes.examples(count).rows]

    def test_processes_share_the_examples(self):
        shares = [
            list(evaluation_batches(fakes.examples(COUNT), BATCH, THREADS, process=process, num_processes=2))
            for process in (0, 1)
        ]
        assert [len(batch["label"]) for share in shares for batch in share] == 4 * [BATCH // 2]
        positions, weights = (
            [np.concatenate([values(batch) for batch in share]) for share in shares]
            for values in (lambda batch: batch["image"][:, 0, 0, 0] // 10, lambda batch: batch["weight"])
        )
        np.testing.assert_array_equal(positions[0], [0, 2, 4, 6])
        np.testing.assert_array_equal(positions[1][:3], [1, 3, 5])
        np.testing.assert_array_equal(weights, [[1, 1, 1, 1], [1, 1, 1, 0]])

    def test_each_example_is_read_once_but_the_first_also_for_padding(self):
        examples = fakes.examples(6)
        list(evaluation_batches(examples, BATCH, THREADS))
        assert examples.records.reads == {0: 3, 1: 1, 2: 1, 3: 1, 4: 1, 5: 1}


def test_another_process_reads_the_same_batches():
    assert pickle.loads(pickle.dumps(fakes.examples(COUNT)))[1]["label"] == 1
    workers = Input(num_workers=1)
    assert_equal(stream().batches(1, 4, workers), list(stream().batches(1, 4, THREADS)))
    examples = fakes.examples(COUNT)
    assert_equal(evaluation_batches(examples, BATCH, workers), list(evaluation_batches(examples, BATCH, THREADS)))


def test_nothing_in_shared_memory_outlives_its_last_use():
    """Else the garbage collector and Grain's own thread close it both, the later perhaps another file."""
    gc.disable()
    try:
        for _ in stream().batches(0, 4, Input(num_workers=1)):
            pass
        del _
        deadline = time.monotonic() + 10  # Grain's threads may be at their last batch
        while kept := [one for one in gc.get_objects() if isinstance(one, SharedMemoryArray)]:
            assert time.monotonic() < deadline, len(kept)
            del kept
            time.sleep(0.1)
    finally:
        gc.enable()
