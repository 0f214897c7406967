"""The config that a command line names: shipped ones by name, others by path, and fields that it sets."""

import dataclasses
import difflib
import importlib.util
import inspect
import pathlib
import sys
from collections.abc import Iterable, Sequence

import ml_collections
from absl import flags
from ml_collections import config_flags

import segfusion_jax
from segfusion_jax.config import Config, Source, fields, flatten, reading

_MOVED = ("data.mask_collection", "data.mask_root")  # fields of the version before that are several fields now
_PACKAGE = pathlib.Path(segfusion_jax.__file__).parent


def folder() -> pathlib.Path:
    """Returns the folder of the shipped configs: in the installed package, or beside it in a checkout."""
    inside = _PACKAGE / "configs"
    return inside if inside.exists() else _PACKAGE.parent / "configs"


def load(named: str, changes: Sequence[str] = ()) -> Config:
    """Makes the config that a command line asks for.

    Args:
      named: "NAME" of a shipped config or the path of a file, with ":VARIANT" where it has such.
      changes: "FIELD=VALUE" each, of which the last one of a field counts; FIELD alone sets a bool.

    Raises:
      FileNotFoundError: there is no such config.
      ValueError: the config, or a change, is not accepted.
    """
    texts = _new_names(changes)
    values = _with_room(Config.from_config_dict(_get_config(named)), texts)
    for name, text in texts.items():
        _set(values, name, text)
    return Config.from_config_dict(values)


def _with_room(config: Config, names: Iterable[str]) -> ml_collections.ConfigDict:
    """Returns all fields, with those of `names` that a config need not have: of further collections, and moved ones."""
    values = dataclasses.asdict(config)
    for name in names:
        section, _, field = name.rpartition(".")
        if name in _MOVED:
            values["data"][field] = ""
        elif section.startswith("data.collections."):
            values["data"]["collections"].setdefault(section.split(".", 2)[2], dataclasses.asdict(Source()))
    return ml_collections.ConfigDict(values)


def _get_config(named: str) -> ml_collections.ConfigDict:
    name, _, variant = named.partition(":")
    path = _find(name)
    make = _module(path).get_config
    if variant and not inspect.signature(make).parameters:
        raise ValueError(f"--config = {named!r}: must be without :{variant}, since {path.name} has no variants")
    return make(variant) if variant else make()


def _find(name: str) -> pathlib.Path:
    if name.endswith(".py") or "/" in name:
        path = pathlib.Path(name).expanduser().absolute()
        if not path.is_file():
            raise FileNotFoundError(f"--config = {name!r}: no such file; shipped are {', '.join(_shipped())}")
        return path
    if name not in _shipped():
        near = difflib.get_close_matches(name, _shipped(), n=1)
        question = f" (did you mean {near[0]}?)" if near else ""
        raise FileNotFoundError(
            f"--config = {name!r}: must be one of {', '.join(_shipped())}{question}, or a path that ends in .py"
        )
    return folder() / f"{name}.py"


def _shipped() -> list[str]:
    return sorted(path.stem for path in folder().glob("*.py"))


def _module(path: pathlib.Path):
    """Runs the file, as a module that what it defines can be found in."""
    spec = importlib.util.spec_from_file_location(f"config_of_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _new_names(changes: Sequence[str]) -> dict[str, str | None]:
    """Returns field to text, None where a field stands alone; fields by the names of today."""
    texts: dict[str, str | None] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        texts[name] = text if equals else None
    for old, new in fields.old_names(Config()).items():
        if old in texts:
            text = texts.pop(old)
            if texts.get(new, text) != text:
                raise ValueError(f"config.{old} = {text!r}: is config.{new} now, which is {texts[new]!r}: give one")
            texts[new] = text
            reading.tell_old_name(f"config.{old}", f"config.{new}")
    return texts


def _set(values: ml_collections.ConfigDict, name: str, text: str | None) -> None:
    """Sets a field to the value that `text` means to ml-collections, whose flags tell by the type of the old value."""
    known = flatten(values.to_dict())
    if name not in known:
        raise ValueError(reading.unknown("config", name, text, known, "'segfusion train --help' lists all"))
    words = ["", f"--config.{name}" if text is None else f"--config.{name}={text}"]
    own_flags = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict("config", values, flag_values=own_flags, sys_argv=words)
        own_flags(words)
    except (flags.Error, ValueError, TypeError, SyntaxError):
        kind = type(known[name])
        accepted = "(height, width), two whole numbers" if kind is tuple else f"of type {kind.__name__}"
        raise ValueError(f"config.{name} = {text!r}: must be {accepted}") from None
