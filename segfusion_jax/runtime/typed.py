"""JSON that others wrote, field by field: each has a type and bounds, and nothing is taken unchecked."""

import json
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from segfusion_jax.runtime import regular

LONGEST = 1000
"""Characters of the longest text that is taken where no other limit is named."""


def parse(content: bytes, what: object) -> dict[str, Any]:
    """Returns the JSON object that `content` is; `what` is its name in messages.

    Raises:
      ValueError: no JSON object in UTF-8, one key twice, or a number that is not finite.
    """
    try:
        values = json.loads(content, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} is not JSON that can be read: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{what} is not JSON of named fields")
    return values


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no finite number")


def _finite(text: str) -> float:
    return float(text) if math.isfinite(float(text)) else _refuse(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return values


class Fields:
    """The fields of a JSON object; every method returns one of them, checked, or raises ValueError that names it.

    Args:
      values: the object.
      where: its name in messages, such as a path.
    """

    def __init__(self, values: Mapping[str, Any], where: object):
        self.values, self.where = values, where

    def text(self, name: str, longest: int = LONGEST, *, shortest: int = 1) -> str:
        """Returns a text of `shortest` to `longest` characters."""
        accepted = f"a text of {shortest} to {longest} characters"
        return self._checked(name, accepted, lambda value: _is_text(value, longest, shortest))

    def number(self, name: str, low: float, high: float) -> float:
        """Returns a number in [low, high]."""
        return float(self._checked(name, f"a number in [{low:g}, {high:g}]", lambda one: _is_number(one, low, high)))

    def whole(self, name: str, low: int, high: int) -> int:
        """Returns a whole number in [low, high]."""
        return self._checked(
            name, f"a whole number in [{low}, {high}]", lambda one: type(one) is int and low <= one <= high
        )

    def texts(self, name: str, low: int, high: int, longest: int = LONGEST) -> tuple[str, ...]:
        """Returns `low` to `high` texts, all different, none empty."""

        def fits(value: Any) -> bool:
            if not isinstance(value, list) or not low <= len(value) <= high:
                return False
            return all(_is_text(one, longest) for one in value) and len(set(value)) == len(value)

        accepted = f"{low} to {high} different texts of 1 to {longest} characters"
        return tuple(self._checked(name, accepted, fits))

    def numbers(self, name: str, count: int, low: float, high: float) -> tuple[float, ...]:
        """Returns `count` numbers, each in [low, high]."""

        def fits(value: Any) -> bool:
            is_list = isinstance(value, list) and len(value) == count
            return is_list and all(_is_number(one, low, high) for one in value)

        return tuple(map(float, self._checked(name, f"{count} numbers in [{low:g}, {high:g}]", fits)))

    def section(self, name: str) -> "Fields":
        """Returns the fields of an object in it."""
        return Fields(
            self._checked(name, "named fields", lambda value: isinstance(value, dict)), f"{self.where}: {name}"
        )

    def sections(self, name: str, most: int) -> list["Fields"]:
        """Returns the fields of each of at most `most` objects in a list."""

        def fits(value: Any) -> bool:
            return isinstance(value, list) and len(value) <= most and all(isinstance(one, dict) for one in value)

        return [Fields(one, f"{self.where}: {name}") for one in self._checked(name, f"at most {most} objects", fits)]

    def _checked(self, name: str, accepted: str, fits: Callable[[Any], bool]) -> Any:
        if name not in self.values:
            raise ValueError(f"{self.where}: {name} is missing: must be {accepted}")
        if not fits(self.values[name]):
            shown = repr(self.values[name])
            shown = shown if len(shown) <= 100 else f"{shown[:100]}..."
            raise ValueError(f"{self.where}: {name} = {shown}: must be {accepted}")
        return self.values[name]


def read(path: pathlib.Path, limit: int) -> dict[str, Any]:
    """Returns the JSON object in a file of at most `limit` bytes.

    Raises:
      OSError: it cannot be opened.
      ValueError: as `parse`, or no regular file, or a larger one.
    """
    return parse(regular.read(path, limit), path)


def _is_text(value: Any, longest: int, shortest: int = 1) -> bool:
    return isinstance(value, str) and shortest <= len(value) <= longest


def _is_number(value: Any, low: float, high: float) -> bool:
    return type(value) in (int, float) and low <= value <= high  # false for NaN too
