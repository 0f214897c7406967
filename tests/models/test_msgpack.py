"""Weights as Flax writes them by itself."""

import ml_dtypes
import msgpack
import numpy as np
import pytest
from flax import serialization

from segfusion_jax.models import weight_files


def test_names_and_types_of_msgpack(tmp_path):
    half = np.full(2, 1.5, ml_dtypes.bfloat16)
    values = {"params": {"a": {"b": np.ones((2, 0, 1), np.int8)}, "c": half}, "step": 3}
    (tmp_path / "w.msgpack").write_bytes(serialization.msgpack_serialize(values))
    arrays = weight_files.read(tmp_path / "w.msgpack")
    assert {name: array.shape for name, array in arrays.items()} == {"params.a.b": (2, 0, 1), "params.c": (2,)}
    np.testing.assert_array_equal(arrays["params.c"], [1.5, 1.5])


@pytest.mark.parametrize(
    "packed",
    [((3,), "<f4", b"1234"), ((-1,), "<f4", b"1234"), ((1,), "O", bytes(8)), ((1,), "nothing", b"1"), (1,), 3],
    ids=repr,
)
def test_an_array_that_is_none_is_refused(tmp_path, packed):
    array = msgpack.ExtType(1, msgpack.packb(packed))
    (tmp_path / "w.msgpack").write_bytes(msgpack.packb({"a": array}))
    with pytest.raises(ValueError, match="is not a readable weight file"):
        weight_files.read(tmp_path / "w.msgpack")


@pytest.mark.parametrize("content", [msgpack.packb({"a": msgpack.ExtType(2, b"")}), b"\x81" * 5000, b"\x81\xa1a"])
def test_what_is_no_map_of_arrays_is_refused(tmp_path, content):
    (tmp_path / "w.msgpack").write_bytes(content)
    with pytest.raises(ValueError, match="is not a readable weight file"):
        weight_files.read(tmp_path / "w.msgpack")
