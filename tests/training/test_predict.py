import numpy as np
import pytest

from segfusion_jax.config import Input
from segfusion_jax.input.examples import evaluation_batches
from segfusion_jax.training.predict import predict
from tests.training import toy


def brightness(variables, batch):
    return {"sum": batch["image"].astype("float32").sum((1, 2, 3)) * variables["factor"], "label": batch["label"]}


@pytest.mark.parametrize(("count", "n", "batch_size"), [(1, 10, 4), (4, 10, 4), (4, 8, 8), (4, 3, 8)])
def test_every_example_comes_once_in_the_order_of_the_source(count, n, batch_size):
    source, devices = toy.examples(n), toy.devices(count)
    compiled = devices.compile_predict(brightness)
    options = {"batch_size": batch_size, "devices": devices, "config": Input(num_threads=2)}
    pairs = list(predict(compiled, {"factor": np.float32(2)}, source, **options))
    assert [row for row, _ in pairs] == list(source.rows)
    for index, (row, outputs) in enumerate(pairs):
        assert outputs["sum"] == pytest.approx(2 * source[index]["image"].sum(dtype=float))
        assert outputs["label"] == row.target


def test_outputs_of_two_processes_are_put_in_order():
    source, batch_size = toy.examples(11), 4
    others = evaluation_batches(source, batch_size, Input(), process=1, num_processes=2)

    class Devices:
        process, num_processes = 0, 2

        def replicate(self, tree):
            return tree

    def compiled(_, batch):
        """As on two machines: the outputs of all processes, by process."""
        return np.concatenate([b["image"].sum((1, 2, 3), dtype=float) for b in (batch, next(others))])

    options = {"batch_size": batch_size, "devices": Devices(), "config": Input()}
    sums = [total for _, total in predict(compiled, {}, source, **options)]
    assert sums == [source[i]["image"].sum(dtype=float) for i in range(11)]
