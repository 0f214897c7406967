"""Pickles read opcode by opcode: only those that torch's savers emit, on values that nothing is asked of.

Python's own unpickler calls, hashes and compares what a pickle holds. Here nothing is called but what the caller lends,
keys are texts and whole numbers, no other value is ever hashed, and how much there may be of all is bounded.
"""

import pickle
import pickletools
from collections.abc import Callable, Mapping
from typing import IO, Any

_OPCODES = 1 << 21
_MARKS = 1000
_TUPLES = 32  # in each other
_KEY = 1000  # characters

Globals = Mapping[tuple[str, str], Any]
"""What stands for the globals that a pickle may name: values, or `Lent`."""


class Lent:
    """What an allowed global stands for; a pickle can call it but not change it, as it could a function or a class."""

    def __init__(self, call: Callable):
        self.call = call


class Inert:
    """What stands beside weights: made by any call and filled with anything, of which it keeps nothing."""

    def __init__(self, *_: object):
        pass


INERT = Lent(Inert)
"""Stands for a global whose instances are inert; they alone are also made by `__new__`."""


class StateDict(dict):
    """An OrderedDict, the attributes of which, `_metadata`, are left out."""


class _Tuple(tuple):
    depth = 1


class Machine:
    """Reads one pickle.

    Args:
      stream: stands at its start, and afterwards behind its end.
      known: globals that it may name.
      persistent: gets a persistent id and returns what it stands for.
    """

    def __init__(self, stream: IO[bytes], known: Globals, persistent: Callable[[object], object]):
        self._stream, self._known, self._persistent = stream, known, persistent
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def load(self) -> object:
        """Returns what it holds.

        Raises:
          pickle.UnpicklingError, and what damaged opcodes lead to.
        """
        for number, (opcode, argument, position) in enumerate(pickletools.genops(self._stream)):
            if number > _OPCODES:
                raise pickle.UnpicklingError(f"more than {_OPCODES} opcodes")
            name = opcode.name
            if name == "STOP":
                break
            if name in _VALUES:
                self._stack.append(argument)
            elif name in _CONSTANTS:
                self._stack.append(_CONSTANTS[name])
            elif name in _PUTS:
                self._put(argument, position or 0)
            elif name in _NEW:
                self._stack.append(_NEW[name]())
            elif name in _TUPLE_SIZES:
                self._tuple(self._popped(_TUPLE_SIZES[name]))
            elif name in _ACTIONS:
                _ACTIONS[name](self, argument)
            elif name not in ("PROTO", "FRAME"):
                raise pickle.UnpicklingError(f"the opcode {name}, which torch does not write")
        return self._stack.pop()

    def _put(self, index: int | None, position: int) -> None:
        index = len(self._memo) if index is None else index
        if index > position:
            raise pickle.UnpicklingError(f"a memo index of {index}")
        self._memo[index] = self._stack[-1]

    def _get(self, index: int) -> None:
        self._stack.append(self._memo[index])

    def _mark(self, _: object) -> None:
        if len(self._marks) == _MARKS:
            raise pickle.UnpicklingError(f"more than {_MARKS} values in each other")
        self._marks.append(len(self._stack))

    def _marked(self) -> list[Any]:
        return self._popped(len(self._stack) - self._marks.pop())

    def _popped(self, count: int) -> list[Any]:
        start = len(self._stack) - count
        if start < 0 or count < 0 or (self._marks and start < self._marks[-1]):
            raise pickle.UnpicklingError("an opcode without its values")
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _tuple(self, values: list[Any]) -> None:
        made = _Tuple(values)
        made.depth = 1 + max((getattr(value, "depth", 0) for value in values if type(value) is _Tuple), default=0)
        if made.depth > _TUPLES:
            raise pickle.UnpicklingError(f"more than {_TUPLES} tuples in each other")
        self._stack.append(made)

    def _extend(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is list:
            target.extend(values)
        elif type(target) is not Inert:
            raise pickle.UnpicklingError("it appends to what is no list")

    def _update(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is Inert:
            return
        if type(target) not in (dict, StateDict) or len(values) % 2:
            raise pickle.UnpicklingError("it sets items of what is no dict")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[_checked_key(key)] = value

    def _global(self, argument: str) -> None:
        self._find(*argument.split(" ", 1))

    def _stack_global(self, _: object) -> None:
        self._find(*map(str, self._popped(2)))

    def _find(self, module: str, name: str) -> None:
        if (module, name) not in self._known:
            raise pickle.UnpicklingError(
                f"{module[:100]}.{name[:100]} has no place in a state dict and was not run; "
                "save the state dict alone, torch.save(model.state_dict(), path)"
            )
        self._stack.append(self._known[module, name])

    def _reduce(self, _: object) -> None:
        function, arguments = self._popped(2)
        if type(function) is not Lent or type(arguments) is not _Tuple:
            raise pickle.UnpicklingError("it calls what cannot be called")
        self._stack.append(function.call(*arguments))

    def _new(self, _: object) -> None:
        if self._popped(2)[0] is not INERT:
            raise pickle.UnpicklingError("it makes an object of a class that torch does not make so")
        self._stack.append(Inert())

    def _build(self, _: object) -> None:
        self._popped(1)
        if type(self._stack[-1]) not in (Inert, StateDict):
            raise pickle.UnpicklingError("it changes what is given to it")

    def _persist(self, _: object) -> None:
        self._stack.append(self._persistent(self._popped(1)[0]))

    def _bytes(self, argument: str) -> None:
        self._stack.append(argument.encode("latin-1").decode())  # Python 2 wrote its names as bytes

    def _inert(self, _: object) -> None:
        self._marked()
        self._stack.append(Inert())


def state_dict(pairs: object = ()) -> StateDict:
    """Returns the OrderedDict of pairs in a list, as Python 2 wrote it."""
    made = StateDict()
    if not isinstance(pairs, list | tuple):
        raise pickle.UnpicklingError("an OrderedDict of what is no list of pairs")
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise pickle.UnpicklingError("an OrderedDict of what is no list of pairs")
        made[_checked_key(pair[0])] = pair[1]
    return made


def _checked_key(key: object) -> str | int:
    if type(key) is int or (type(key) is str and len(key) <= _KEY):
        return key
    raise pickle.UnpicklingError(f"a key that is neither a text of at most {_KEY} characters nor a whole number")


_VALUES = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_PUTS = {"BINPUT", "LONG_BINPUT", "MEMOIZE"}
_NEW: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": _Tuple, "EMPTY_SET": Inert}
_TUPLE_SIZES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_ACTIONS: dict[str, Callable[[Machine, Any], None]] = {
    "MARK": Machine._mark,
    "TUPLE": lambda machine, _: machine._tuple(machine._marked()),
    "APPEND": lambda machine, _: machine._extend(machine._popped(1)),
    "APPENDS": lambda machine, _: machine._extend(machine._marked()),
    "SETITEM": lambda machine, _: machine._update(machine._popped(2)),
    "SETITEMS": lambda machine, _: machine._update(machine._marked()),
    "ADDITEMS": lambda machine, _: machine._extend(machine._marked()),
    "FROZENSET": Machine._inert,
    "BINGET": Machine._get,
    "LONG_BINGET": Machine._get,
    "GLOBAL": Machine._global,
    "INST": Machine._global,  # refused by its name, if not for that it leaves a mark
    "STACK_GLOBAL": Machine._stack_global,
    "REDUCE": Machine._reduce,
    "NEWOBJ": Machine._new,
    "BUILD": Machine._build,
    "BINPERSID": Machine._persist,
    "BINSTRING": Machine._bytes,
    "SHORT_BINSTRING": Machine._bytes,
}
