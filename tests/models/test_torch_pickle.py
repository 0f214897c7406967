"""PyTorch files, written here opcode by opcode: sound ones, damaged ones, and ones that would run code."""

import io
import pickle
import struct
import zipfile
from typing import NamedTuple

import ml_dtypes
import numpy as np
import pytest

from segfusion_jax.models import torch_pickle


class Global(NamedTuple):
    module: str
    name: str


class Call(NamedTuple):
    function: object
    arguments: tuple


class Build(NamedTuple):
    target: object
    state: object


class Persistent(NamedTuple):
    identity: object


class Raw(NamedTuple):
    opcodes: bytes


def opcodes(value) -> bytes:
    """Protocol 2, as torch.save writes it, of a value that may hold what could not be pickled without torch."""

    def join(values):
        return b"".join(map(opcodes, values))

    match value:
        case Raw(content):
            return content
        case Global(module, name):
            return f"c{module}\n{name}\n".encode()
        case Call(function, arguments):
            return opcodes(function) + opcodes(arguments) + b"R"
        case Build(target, state):
            return opcodes(target) + opcodes(state) + b"b"
        case Persistent(identity):
            return opcodes(identity) + b"Q"
        case tuple():
            return b"(" + join(value) + b"t"
        case list():
            return b"](" + join(value) + b"e"
        case dict():
            return b"}(" + join(part for item in value.items() for part in item) + b"u"
        case _:
            return pickle.dumps(value, 2)[2:-1]


def dumps(value) -> bytes:
    return b"\x80\x02" + opcodes(value) + b"."


ORDERED = Global("collections", "OrderedDict")
REBUILD = Global("torch._utils", "_rebuild_tensor_v2")
TYPES = {
    "f4": "Float",
    "f8": "Double",
    "f2": "Half",
    "i8": "Long",
    "i4": "Int",
    "i2": "Short",
    "i1": "Char",
    "u1": "Byte",
}
TYPES |= {"?": "Bool", "bfloat16": "BFloat16"}


def storage(key: str, kind: str, size: object, *view: object) -> Persistent:
    return Persistent(("storage", Global("torch", f"{kind}Storage"), key, "cpu", size, *view))


def tensor(
    key="0", size: object = 6, shape: object = (2, 3), strides: object = (3, 1), offset: object = 0, kind="Float"
):
    return Call(REBUILD, (storage(key, kind, size), offset, shape, strides, False, Call(ORDERED, ())))


def zipped(value, contents: dict[str, bytes], **members: bytes) -> bytes:
    """A file of torch 1.6 or newer."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("net/data.pkl", dumps(value))
        for name, content in {"byteorder": b"little", "version": b"3\n", **members}.items():
            archive.writestr(f"net/{name}", content)
        for key, content in contents.items():
            archive.writestr(f"net/data/{key}", content)
    return file.getvalue()


def legacy(
    value, contents: dict[str, bytes], magic=0x1950A86A20F9469CFC6C, version=1001, little=True, width=4
) -> bytes:
    """A file of torch before 1.6, all its storages of one width."""
    parts = [dumps(part) for part in (magic, version, {"little_endian": little}, value, list(contents))]
    parts += [struct.pack("<q", len(content) // width) + content for content in contents.values()]
    return b"".join(parts)


def read(content: bytes) -> dict[str, np.ndarray]:
    if content.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return torch_pickle.read_zip(archive)
    return torch_pickle.read_legacy(content)


both = pytest.mark.parametrize("write", [zipped, legacy])
NUMBERS = np.arange(6, dtype="<f4") * 1.5
CONTENTS = {"0": NUMBERS.tobytes()}


@both
def test_tensors_are_views_of_their_storages(write):
    value = {
        "plain": tensor(),
        "transposed": tensor(shape=(3, 2), strides=(1, 3)),
        "part": tensor(shape=(2,), strides=(2,), offset=3),
        "scalar": tensor(shape=(), strides=(), offset=5),
        "empty": tensor(shape=(0, 3), strides=(3, 1)),
        "other": tensor("94", 2, (2,), (1,)),
    }
    arrays = read(write(value, CONTENTS | {"94": np.array([7, -8], "<f4").tobytes()}))
    assert list(arrays) == list(value)
    np.testing.assert_array_equal(arrays["plain"], [[0, 1.5, 3], [4.5, 6, 7.5]])
    np.testing.assert_array_equal(arrays["transposed"], [[0, 4.5], [1.5, 6], [3, 7.5]])
    np.testing.assert_array_equal(arrays["part"], [4.5, 7.5])
    np.testing.assert_array_equal(arrays["scalar"], 7.5)
    assert arrays["empty"].shape == (0, 3)
    np.testing.assert_array_equal(arrays["other"], [7, -8])


@pytest.mark.parametrize("name", TYPES)
@both
def test_numbers_of_every_type(write, name):
    dtype = np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else f"<{name}")
    numbers = np.array([1, 0, 5], dtype)
    options = {"width": dtype.itemsize} if write is legacy else {}
    arrays = read(write({"x": tensor("0", 3, (3,), (1,), kind=TYPES[name])}, {"0": numbers.tobytes()}, **options))
    assert arrays["x"].dtype == dtype
    np.testing.assert_array_equal(arrays["x"], numbers)


@both
def test_what_surrounds_tensors_in_real_files(write):
    parameter = Call(Global("torch._utils", "_rebuild_parameter"), (tensor(), True, Call(ORDERED, ())))
    old = Call(Global("torch._utils", "_rebuild_tensor"), (storage("0", "Float", 6), 0, (6,), (1,)))
    pairs = Call(ORDERED, ([("weight", parameter), ("old", old)],))  # as Python 2 wrote it
    arrays = read(write(Build(pairs, {"_metadata": Call(ORDERED, ()), "items": REBUILD, "get": REBUILD}), CONTENTS))
    np.testing.assert_array_equal(arrays["weight"], NUMBERS.reshape(2, 3))
    np.testing.assert_array_equal(arrays["old"], NUMBERS)


def test_bytes_names_of_python_2_and_views_of_none_in_legacy_files():
    name = Raw(b"U\x06weight")
    value = Raw(b"}" + opcodes(name) + opcodes(Call(REBUILD, (storage("0", "Float", 6, None), 0, (6,), (1,)))) + b"s")
    np.testing.assert_array_equal(read(legacy(value, CONTENTS))["weight"], NUMBERS)


GLOBALS = [
    ("os", "mkdir"),
    ("posix", "system"),
    ("builtins", "eval"),
    ("builtins", "getattr"),
    ("__builtin__", "eval"),
    ("functools", "partial"),
    ("numpy", "load"),
    ("argparse", "ArgumentParser"),
    ("argparse", "Namespace.__init__"),
    ("collections", "OrderedDict.fromkeys"),
    ("torch", "load"),
    ("torch._utils", "_rebuild_sparse_tensor"),
    ("segfusion_jax.models.torch_pickle", "_tensor"),
]


@pytest.mark.parametrize("name", GLOBALS, ids=".".join)
@pytest.mark.parametrize("how", ["GLOBAL", "STACK_GLOBAL", "INST"])
@both
def test_a_global_that_is_no_part_of_a_state_dict_is_refused_by_name(write, how, name, tmp_path):
    made = tmp_path / "made"
    argument = opcodes(str(made))
    attack = {
        "GLOBAL": opcodes(Global(*name)) + b"(" + argument + b"tR",
        "STACK_GLOBAL": opcodes(name[0]) + opcodes(name[1]) + b"\x93(" + argument + b"tR",
        "INST": b"(" + argument + f"i{name[0]}\n{name[1]}\n".encode(),
    }[how]
    if name == ("os", "mkdir"):
        pickle.loads(b"\x80\x04" + attack + b".")
        assert made.is_dir(), "the attack itself does not work"
        made.rmdir()
    content = write({"a": tensor(), "b": Raw(attack)}, CONTENTS)
    with pytest.raises(ValueError, match=".".join(name).replace(".", r"\.") + " has no place in a state dict"):
        read(content)
    assert not made.exists()


@pytest.mark.parametrize("state", [{"_call": 1}, (None, {"_call": 1}), (None, {"__class__": 1})], ids=repr)
@pytest.mark.parametrize(
    "target", [REBUILD, ORDERED, Global("torch", "FloatStorage"), tensor(), storage("0", "Float", 6)]
)
def test_a_pickle_cannot_change_what_it_is_given(target, state):
    with pytest.raises(ValueError, match="cannot be read as a state dict"):
        read(zipped({"a": Build(target, state)}, CONTENTS))
    np.testing.assert_array_equal(read(zipped({"a": tensor()}, CONTENTS))["a"], NUMBERS.reshape(2, 3))


@pytest.mark.parametrize(
    "attack",
    [
        Raw(opcodes(Global("torch", "FloatStorage")) + b")\x81"),  # NEWOBJ
        Raw(opcodes(ORDERED) + b")\x81"),
        Raw(b"\x82\x01"),  # EXT1
        Raw(opcodes(tensor()) + opcodes(("a", 1)) + b"R"),
        Call(storage("0", "Float", 6), ()),
        Raw(opcodes(tensor()) + opcodes("a") + b"a"),  # APPEND
    ],
)
def test_other_ways_to_call_are_refused(attack):
    with pytest.raises(ValueError, match="cannot be read as a state dict"):
        read(zipped({"a": attack}, CONTENTS))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (tensor(shape=(2, 4), strides=(4, 1)), r"x, of shape \(2, 4\), is not within its storage of 6 elements"),
        (tensor(offset=1), "is not within its storage"),
        (tensor(strides=(4, 1)), "is not within its storage"),
        (tensor(shape=(2**40,), strides=(0,)), "is not within its storage"),
        (tensor(shape=(7,), strides=(0,)), "is not within its storage"),
        (tensor(shape=(2**63, 2**63), strides=(1, 1)), "is not within its storage"),
        (tensor(shape=(1,) * 65, strides=(1,) * 65), "maximum supported dimension"),
        (tensor(strides=(-3, 1), offset=5), "of x are not whole numbers >= 0"),
        (tensor(offset=-1), "of x are not whole numbers >= 0"),
        (tensor(shape=(-2, -3)), "of x are not whole numbers >= 0"),
        (tensor(shape=(2, 3.0)), "of x are not whole numbers >= 0"),
        (tensor(shape=[2, 3]), "of x are not whole numbers >= 0"),
        (tensor(strides=(1,)), "of x are not whole numbers >= 0"),
        (tensor(offset=None), "of x are not whole numbers >= 0"),
        (tensor(size=-6), "a persistent id that is no whole storage"),
        (tensor(size="6"), "a persistent id that is no whole storage"),
        (Persistent("0"), "a persistent id that is no whole storage"),
        (Persistent(("module", "net", "net.py", "")), "a persistent id that is no whole storage"),
        (Call(REBUILD, (storage("0", "Float", 6, ("1", 0, 2)), 0, (2,), (1,))), "no whole storage"),
        (Call(REBUILD, ("0", 0, (6,), (1,))), "a tensor without a storage"),
        (Call(REBUILD, (storage("0", "Float", 6), 0, (6,), (1,), False, None, {"neg": True})), "conjugated or negated"),
        (tensor(kind="Int"), "storage 0 has two types or sizes"),
        (tensor(size=5), "storage 0 has two types or sizes"),
        (tensor(kind="ComplexFloat"), "torch.ComplexFloatStorage has no place"),
        (Raw(b"N" + b"r" + struct.pack("<I", 2**31)), "a memo index of 2147483648"),
        (Raw(b"\x8e" + struct.pack("<Q", 2**50)), "cannot be read as a state dict"),
    ],
)
@both
def test_a_tensor_that_is_not_sound_is_refused(write, bad, message):
    with pytest.raises(ValueError, match=message):
        read(write({"sound": tensor(), "x": bad}, CONTENTS))


@pytest.mark.parametrize("value", [[tensor()], tensor(), None, {0: tensor()}, {"state_dict": [tensor()]}])
@both
def test_what_is_no_state_dict_is_refused(write, value):
    with pytest.raises(ValueError, match="it holds"):
        read(write(value, CONTENTS))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped({"x": tensor()}, {"0": NUMBERS[:5].tobytes()}), "storage 0 has 20 bytes, not 24"),
        (zipped({"x": tensor()}, {"0": bytes(28)}), "storage 0 has 28 bytes, not 24"),
        (zipped({"x": tensor()}, CONTENTS, byteorder=b"big"), "not little-endian"),
        (zipped({"x": tensor()}, CONTENTS, **{"data/data.pkl": b""}), "2 members data.pkl, not one"),
        (legacy({"x": tensor()}, {"0": NUMBERS[:5].tobytes()}), "storage 0 has 5 elements, not 6"),
        (legacy({"x": tensor()}, CONTENTS, little=False), "not little-endian"),
        (legacy({"x": tensor()}, CONTENTS, magic=3), "not one that torch.save has written"),
        (legacy({"x": tensor()}, CONTENTS, version=1002), "not one that torch.save has written"),
        (legacy({"x": tensor()}, {}), "its list of storages is not that of its tensors"),
        (legacy({"x": tensor()}, CONTENTS | {"1": b""}), "its list of storages is not that of its tensors"),
        (legacy({"x": tensor(size=2**50)}, {"0": b""}), "storage 0 has 0 elements, not"),
        (pickle.dumps(np.zeros(3)), "has no place in a state dict"),
    ],
)
def test_a_file_that_is_not_sound_is_refused(content, message):
    with pytest.raises(ValueError, match=message):
        read(content)


def test_a_missing_storage_is_refused():
    with pytest.raises(KeyError, match="net/data/0"):
        read(zipped({"x": tensor()}, {}))


def test_a_legacy_file_cut_anywhere_is_refused():
    content = legacy({"x": tensor(), "y": tensor("1", 1, (1,), (1,))}, CONTENTS | {"1": b"\0" * 4})
    assert set(read(content)) == {"x", "y"}
    for end in range(len(content)):
        with pytest.raises(ValueError, match="cannot be read|ends within|elements, not"):
            read(content[:end])


def test_a_legacy_storage_longer_than_the_file_is_refused_without_taking_its_memory():
    content = legacy({"x": tensor(size=2**50)}, {})
    end = dumps([])
    content = content.removesuffix(end) + dumps(["0"]) + struct.pack("<q", 2**50)
    with pytest.raises(ValueError, match="the file ends within storage 0"):
        read(content)


@pytest.mark.parity
@pytest.mark.parametrize("zip_format", [True, False])
def test_state_dicts_that_torch_saves(tmp_path, zip_format):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Linear(8, 2).bfloat16())
    expected = net.state_dict() | {
        "transposed": torch.arange(6.0).reshape(2, 3).T,
        "part": torch.arange(10)[3:9:2],
        "half": torch.arange(3).half(),
        "flags": torch.tensor([True, False]),
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "empty": torch.zeros(0, 4),
        "parameter": torch.nn.Parameter(torch.arange(3.0)),
    }
    for value in (expected, {"epoch": 1, "state_dict": expected}):
        path = tmp_path / "net.pth"
        torch.save(value, path, _use_new_zipfile_serialization=zip_format)
        arrays = read(path.read_bytes())
        assert list(arrays) == list(expected)
        for name, array in arrays.items():
            assert array.shape == tuple(expected[name].shape)
            np.testing.assert_array_equal(array.astype(np.float64), expected[name].detach().double().numpy())


@pytest.mark.parity
@pytest.mark.parametrize("zip_format", [True, False])
def test_a_checkpoint_that_timm_could_save(tmp_path, zip_format):
    torch = pytest.importorskip("torch")
    timm = pytest.importorskip("tests.parity.torch_peers").timm  # it makes torchvision, which timm imports, importable
    net = timm.create_model("mobilenetv3_small_050", pretrained=False)
    adam = torch.optim.Adam(net.parameters())
    net(torch.zeros(2, 3, 32, 32)).sum().backward()
    adam.step()
    value = {"epoch": 0, "state_dict": net.state_dict(), "optimizer": adam.state_dict()}
    torch.save(value, tmp_path / "net.pth", _use_new_zipfile_serialization=zip_format)
    arrays = read((tmp_path / "net.pth").read_bytes())
    assert list(arrays) == list(net.state_dict())
    for name, expected in net.state_dict().items():
        np.testing.assert_array_equal(arrays[name], expected.numpy())


@pytest.mark.parity
def test_a_whole_pickled_model_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "net.pth")
    with pytest.raises(ValueError, match="torch.nn.modules.linear.Linear has no place in a state dict"):
        read((tmp_path / "net.pth").read_bytes())
