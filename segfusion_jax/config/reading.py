"""Reading of nested dicts, as files and the command line make them, to sections that are checked."""

import dataclasses
import difflib
import logging
import types
from collections.abc import Iterable, Mapping
from typing import Any

from segfusion_jax.config.fields import Named


def flatten(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Returns the fields of a config, or of a part of it, as nested dicts, by their dotted names."""
    flat = {}
    for name, value in values.items():
        flat |= flatten(value, f"{path}{name}.") if isinstance(value, dict) else {f"{path}{name}": value}
    return flat


def completed(default: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Returns `values`, nested, with what they lack taken from `default`."""
    parts = {
        name: completed(section, values[name])
        for name, section in default.items()
        if isinstance(section, dict) and isinstance(values.get(name), dict)
    }
    return default | values | parts


def from_dict(cls: Any, values: dict[str, Any], path: str, *, warn: bool) -> Any:
    """Makes a section of its fields, which may have the names of the version before.

    Args:
      cls: the section's class.
      values: all its fields, nested.
      path: its name in messages.
      warn: whether old names are told to the log.

    Raises:
      ValueError: names the field, its value and what is accepted.
    """

    def tell(old: str, new: str) -> None:
        if warn:
            tell_old_name(f"{path}.{old}", f"{path}.{new}")

    fields = {field.name: field for field in dataclasses.fields(cls)}
    values = cls.renewed(values, tell)
    values = _with_new_names(fields, values, path, warn=warn)
    for name in sorted(set(values) - set(fields)):
        raise ValueError(unknown(path, name, values[name], fields, f"accepted are {', '.join(fields)}"))
    for name in sorted(set(fields) - set(values)):
        raise ValueError(f"{path}.{name} is missing")
    converted = {
        name: _convert(field.type, values[name], f"{path}.{name}", warn=warn) for name, field in fields.items()
    }
    try:
        return cls(**converted)
    except ValueError as error:
        raise ValueError(f"{path}.{error}") from None


def unknown(path: str, name: str, value: Any, names: Iterable[str], accepted: str) -> str:
    """Says that a field is unknown, which of `names`, dotted as `name`, is probably meant, and what is accepted."""
    meant = [one for one in names if one.endswith(f".{name}")] or difflib.get_close_matches(name, list(names), n=1)
    question = f" (did you mean {' or '.join(meant)}?)" if meant else ""
    return f"{path}.{name} = {value!r}: unknown field{question}; {accepted}"


def tell_old_name(old: str, new: str) -> None:
    """Warns in the log that a field has another name now."""
    logging.getLogger(__name__).warning("%s is called %s now: the next version does not know the old name", old, new)


def _with_new_names(
    fields: Mapping[str, dataclasses.Field], values: dict[str, Any], path: str, *, warn: bool
) -> dict[str, Any]:
    values = dict(values)
    for name, field in fields.items():
        old = field.metadata.get("was")
        if not old or old not in values:
            continue
        value = values.pop(old)
        if values.get(name, value) not in (value, field.default):
            raise ValueError(f"{path}.{old} = {value!r}: is {path}.{name} now, which is {values[name]!r}: give one")
        values[name] = value
        if warn:
            tell_old_name(f"{path}.{old}", f"{path}.{name}")
    return values


def _convert(kind: Any, value: Any, path: str, *, warn: bool) -> Any:
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ValueError(f"{path} = {value!r}: must be a section of fields")
        return from_dict(kind, value, path, warn=warn)
    if isinstance(kind, types.GenericAlias) and kind.__origin__ is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{path} = {value!r}: must be of type dict")
        return _sections(kind.__args__[1], value, path, warn=warn)
    if isinstance(kind, types.GenericAlias):
        if isinstance(value, list | tuple) and len(value) == 2 and all(type(v) is int for v in value):
            return tuple(value)
        raise ValueError(f"{path} = {value!r}: must be (height, width), two whole numbers")
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{path} = {value!r}: must be of type {kind.__name__}")
    return value


def _sections(kind: Any, values: Mapping[str, Any], path: str, *, warn: bool) -> dict[str, Any]:
    """Makes sections of their fields by name, in the order of the names; fields that one lacks get their defaults."""
    default = dataclasses.asdict(kind())
    given = {name: default | value if isinstance(value, dict) else value for name, value in sorted(values.items())}
    return Named({name: _convert(kind, value, f"{path}.{name}", warn=warn) for name, value in given.items()})
