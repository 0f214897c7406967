"""Checkpoints of PyTorch: weights among options, metrics and optimizers, none of which is made."""

import numpy as np
import pytest

from tests.models.test_torch_pickle import (
    CONTENTS,
    NUMBERS,
    Build,
    Call,
    Global,
    Raw,
    both,
    opcodes,
    read,
    tensor,
    zipped,
)


@both
def test_tensors_of_nested_dicts_are_called_by_all_their_keys_and_what_is_none_is_left_out(write):
    optimizer = {"state": {0: {"step": 3, "mean": tensor("1", 2, (2,), (1,))}}, "lr": [0.1, None, True]}
    contents = CONTENTS | {"1": b"\0" * 8}
    arrays = read(write({"epoch": 3, "optimizer": optimizer, "net": {"a.weight": tensor()}}, contents))
    assert list(arrays) == ["net.a.weight"]
    np.testing.assert_array_equal(arrays["net.a.weight"], NUMBERS.reshape(2, 3))


def test_a_dict_in_itself_or_too_deep_ends():
    loop = Raw(b"}q\x00" + opcodes("x") + opcodes(tensor()) + b"s" + opcodes("again") + b"h\x00s")
    assert list(read(zipped({"a": loop}, CONTENTS))) == ["a.x"]
    deep: dict = {"x": tensor()}
    for _ in range(200):
        deep = {"d": deep}
    with pytest.raises(ValueError, match="no tensors by names"):
        read(zipped(deep, CONTENTS))


def test_two_tensors_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two of its tensors are called a.b"):
        read(zipped({"a.b": tensor(), "a": {"b": tensor()}}, CONTENTS))


OPTIONS = [
    Build(Raw(opcodes(Global("argparse", "Namespace")) + b")\x81"), {"lr": 0.1, "out": [1]}),
    Call(Global("pathlib", "PosixPath"), ("out", "run")),
    Call(Global("numpy.core.multiarray", "scalar"), (Build(Call(Global("numpy", "dtype"), ("f8",)), (3, "<")), "x")),
    Call(Global("torch", "device"), ("cuda", 0)),
    Raw(opcodes(Global("lightning.fabric.utilities.data", "AttributeDict")) + b")\x81(" + opcodes("a") + b"K\x01u"),
]


@pytest.mark.parametrize("beside", OPTIONS)
@both
def test_options_and_metrics_beside_the_weights_are_left_out(write, beside):
    assert list(read(write({"state_dict": {"a": tensor()}, "args": beside}, CONTENTS))) == ["state_dict.a"]


@pytest.mark.parametrize("name", [("argparse", "Namespace"), ("pathlib", "PosixPath"), ("torch", "device")])
def test_what_is_left_out_cannot_be_changed(name):
    for state in ({"__init__": 1}, (None, {"__class__": 1})):
        with pytest.raises(ValueError, match="cannot be read as a state dict"):
            read(zipped({"a": Build(Global(*name), state)}, CONTENTS))


def test_nothing_is_run_for_what_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.PosixPath.__init__", lambda *_: (tmp_path / "made").mkdir())
    monkeypatch.setattr("argparse.Namespace.__init__", lambda *_: (tmp_path / "made").mkdir())
    for option in OPTIONS:
        read(zipped({"a": tensor(), "b": option}, CONTENTS))
    assert not list(tmp_path.iterdir())
