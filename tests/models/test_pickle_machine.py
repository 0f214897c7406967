"""Pickles that are small and cost much, or that torch would not write."""

import struct

import pytest

from segfusion_jax.models import torch_pickle, weight_files
from tests.models.test_torch_pickle import CONTENTS, Raw, dumps, legacy, read, tensor, zipped

SHARED = b")" + b"".join(b"q\x00h\x00\x86" for _ in range(60))  # each holds the one before twice: 2^60 leaves
DEEP = b")" + b"\x85" * 100_000


@pytest.mark.parametrize("key", [SHARED, DEEP, b")", b"]", b"}", b"N", b"\x88", b"G" + bytes(8), b"C\x01a"])
@pytest.mark.parametrize("put", [b"Ns", b"Nu"])
def test_a_key_that_is_no_text_and_no_number_is_refused_and_never_hashed(key, put):
    pickled = b"\x80\x02}" + (b"(" if put == b"Nu" else b"") + key + put + b"."
    with pytest.raises(ValueError, match="cannot be read as a state dict: (a key|more than)"):
        torch_pickle.read_legacy(pickled)


@pytest.mark.parametrize("pairs", [SHARED + b"N\x86", b"]", b"N"])
def test_an_ordered_dict_of_odd_pairs_is_refused(pairs):
    made = b"\x80\x02ccollections\nOrderedDict\n](" + pairs + b"e\x85R."
    with pytest.raises(ValueError, match="cannot be read as a state dict"):
        torch_pickle.read_legacy(made)


def test_a_list_of_storages_is_not_hashed():
    content = legacy({"x": tensor()}, {}).removesuffix(dumps([])) + b"\x80\x02](]}e."
    with pytest.raises(ValueError, match="its list of storages is not that of its tensors"):
        torch_pickle.read_legacy(content)


@pytest.mark.parametrize(
    ("opcodes", "message"),
    [
        (b"N2\x86", "the opcode DUP, which torch does not write"),
        (b"(" * 2000, "more than 1000 values in each other"),
        (b"N0" * 3, "the opcode POP"),
        (b"N" * 3_000_000, "more than 2097152 opcodes"),
        (b"\x8a\xff" + b"\x7f" * 255 + b"\x8b" + struct.pack("<I", 4) + b"abcd", "the opcode LONG4"),
        (b"I1\n", "the opcode INT"),
        (b"Vabc\n", "the opcode UNICODE"),
        (b"}(Nu", "it sets items of what is no dict"),
        (b"N(e", "it appends to what is no list"),
        (b"h\x07", "cannot be read"),
        (b"e", "cannot be read"),
        (b"(t" + b"\x86", "without its values"),
    ],
)
def test_what_torch_does_not_write_is_refused(opcodes, message):
    with pytest.raises(ValueError, match=message):
        torch_pickle.read_legacy(b"\x80\x02" + opcodes + b".")


def test_values_of_a_mark_are_not_taken_by_what_comes_after_it():
    with pytest.raises(ValueError, match="without its values"):
        torch_pickle.read_legacy(b"\x80\x02N(N\x86.")


def test_a_checkpoint_of_newer_protocols_is_read():
    counted = b"\x8c\x05epochK\x03\x8c\x03setC\x01x\x8c\x05frame(K\x01K\x02\x91"
    value = Raw(b"}\x94(" + counted + b"\x8c\x01w" + dumps(tensor())[2:-1] + b"u")
    assert list(read(zipped(value, CONTENTS))) == ["w"]


def test_a_file_of_it_is_an_error_with_its_path(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"\x80\x02}" + SHARED + b"Ns.")
    with pytest.raises(ValueError, match="w.pth is not a readable weight file: its pickle cannot be read"):
        weight_files.read(tmp_path / "w.pth")
