"""What a field of a config is: a default, a meaning with its unit, and the values that it accepts."""

import ast
import dataclasses
import functools
import inspect
import itertools
import re
import sys
import typing
from collections.abc import Callable, Iterator
from typing import Any

_PLUGIN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@dataclasses.dataclass(frozen=True)
class Accepted:
    """The values that a field takes.

    Attributes:
      text: what they are, as it goes after "must be".
      holds: whether a value is one of them.
    """

    text: str
    holds: Callable[[Any], bool]


class Named(dict[str, Any]):
    """Sections by name, as a field of a section, which can be hashed as all of a config can."""

    def __hash__(self):
        return hash(frozenset(self.items()))


@dataclasses.dataclass(frozen=True)
class Description:
    """A field as help and documentation show it.

    Attributes:
      name: dotted, such as "classifier.training.epochs".
      default: its value where nobody sets it.
      meaning: what it does, with its unit.
      accepted: which values it takes; "" = any of the default's type.
    """

    name: str
    default: Any
    meaning: str
    accepted: str


def one_of(*choices: str | int) -> Accepted:
    """Accepts these values."""
    return Accepted("one of " + ", ".join(map(repr, choices)), lambda value: value in choices)


def plugin(*choices: str | int) -> Accepted:
    """Accepts these values, and the name of somebody's own part, see `is_plugin`."""
    listed = ", ".join(map(repr, choices))
    return Accepted(
        f"one of {listed}, or 'package.module:name' of your own", lambda value: value in choices or is_plugin(value)
    )


def is_plugin(value: object) -> bool:
    """Returns whether a value names a part that somebody else wrote, by "package.module:name".

    >>> is_plugin("mine.losses:asymmetric"), is_plugin("focal")
    (True, False)
    """
    return isinstance(value, str) and bool(_PLUGIN.fullmatch(value))


def in_range(low: float, high: float) -> Accepted:
    """Accepts numbers from `low` to `high`."""
    return Accepted(f"in [{low:g}, {high:g}]", lambda value: low <= value <= high)  # false for NaN too


def at_least(low: float) -> Accepted:
    """Accepts `low` and more."""
    return Accepted(f"at least {low:g}", lambda value: value >= low)


def sides(low: int) -> Accepted:
    """Accepts sizes of images whose sides are at least `low` pixels."""
    return Accepted(f"(height, width), each at least {low}", lambda size: all(side >= low for side in size))


def field(default: Any, accepted: Accepted | None = None, *, was: str = "") -> Any:
    """Defines a field of a section, whose meaning stands in a docstring below it.

    A `default` of {} is that of sections by name. `was` is a name in the version before, which is still read.
    """
    given: Any = {"default_factory": Named} if default == {} else {"default": default}
    return dataclasses.field(**given, metadata={"accepted": accepted, "was": was})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """Fields that belong together. Each is checked by itself when a section is made.

    Raises:
      ValueError: names a field, its value and what is accepted.
    """

    def __post_init__(self):
        for one in dataclasses.fields(self):
            accepted = one.metadata.get("accepted")
            if accepted and not accepted.holds(getattr(self, one.name)):
                refuse(self, one.name, accepted.text)

    @classmethod
    def renewed(cls, values: dict[str, Any], tell: Callable[[str, str], None]) -> dict[str, Any]:
        """Returns fields in the form of today, which may be in that of the version before.

        Args:
          values: the fields, nested.
          tell: is called with the old and the new name of each field that has moved.
        """
        del tell
        return values


def refuse(section: Any, name: str, accepted: str) -> None:
    """Raises ValueError for the value that a section's field has."""
    raise ValueError(f"{name} = {getattr(section, name)!r}: must be {accepted}")


def sections(section: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields a section after its dotted name, then those within it; of sections by name, one that is called NAME."""
    yield path, section
    for one in dataclasses.fields(section):
        value, name = getattr(section, one.name), f"{path}.{one.name}" if path else one.name
        if dataclasses.is_dataclass(value):
            yield from sections(value, name)
        elif isinstance(value, dict):
            yield from sections(typing.get_args(one.type)[1](), f"{name}.NAME")


def describe(section: Any, path: str = "") -> list[Description]:
    """Describes a section's own fields, without those of the sections within it; `path` is its dotted name."""
    meanings = _meanings(type(section))
    return [
        Description(
            name=f"{path}.{one.name}" if path else one.name,
            default=getattr(section, one.name),
            meaning=meanings[one.name],
            accepted=one.metadata["accepted"].text if one.metadata["accepted"] else "",
        )
        for one in dataclasses.fields(section)
        if one.metadata
    ]


def old_names(section: Any) -> dict[str, str]:
    """Returns the names of the version before, dotted, with those of today."""
    return {
        f"{path}.{one.metadata['was']}": f"{path}.{one.name}"
        for path, part in sections(section)
        for one in dataclasses.fields(part)
        if one.metadata.get("was")
    }


def _meanings(section: type) -> dict[str, str]:
    """Returns what the docstrings below the fields of a section say, which Python keeps in the source only."""
    definition = next(node for node in _definitions(section.__module__) if node.name == section.__name__)
    return {
        ast.unparse(field.target): " ".join(ast.literal_eval(below.value).split()).removesuffix(".")
        for field, below in itertools.pairwise(definition.body)
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr)
    }


@functools.cache
def _definitions(module: str) -> list[ast.ClassDef]:
    source = inspect.getsource(sys.modules[module])
    return [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
