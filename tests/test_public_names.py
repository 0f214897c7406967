"""What other code may import: it is listed, documented and typed, and a change of it is one that somebody wrote down.

`tests/public_names.txt` has every public name with its signature. Where the test says that it differs: write into
CHANGELOG.md what changed for users, then `python -m tests.test_public_names`.
"""

import ast
import importlib
import inspect
import pathlib
import re
import types
from collections.abc import Iterator
from typing import Any

import pytest

import segfusion_jax as sf

ROOT = pathlib.Path(__file__).parents[1]
LISTED = ROOT / "tests/public_names.txt"


def documented() -> list[str]:
    """The dotted names on the page of Python names."""
    return re.findall(r"^::: (\S+)$", (ROOT / "docs/reference/names.md").read_text(), flags=re.MULTILINE)


def resolved(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, last = name.rpartition(".")
        return getattr(importlib.import_module(module), last)


def public() -> dict[str, Any]:
    """Every public object by the name under which it is told."""
    return {f"segfusion_jax.{name}": getattr(sf, name) for name in sf.__all__} | {
        name: resolved(name) for name in documented()
    }


def node(thing: Any) -> ast.FunctionDef | ast.ClassDef:
    return ast.parse(inspect.cleandoc("\n" + inspect.getsource(thing))).body[0]  # pyright: ignore[reportReturnType]


def functions(thing: Any) -> Iterator[tuple[str, ast.FunctionDef]]:
    """The functions of a public object, with their names below it: its own, or those of a class or a module."""
    if isinstance(thing, types.ModuleType):
        members = [one for one in vars(thing).values() if getattr(one, "__module__", "") == thing.__name__]
        for one in members:
            if (inspect.isfunction(one) or inspect.isclass(one)) and not one.__name__.startswith("_"):
                yield from ((f".{one.__name__}{below}", function) for below, function in functions(one))
    elif inspect.isclass(thing):
        for part in node(thing).body:
            if isinstance(part, ast.FunctionDef) and (
                not part.name.startswith("_") or part.name in ("__init__", "__call__")
            ):
                yield f".{part.name}", part
    elif inspect.isfunction(thing):
        yield "", node(thing)  # pyright: ignore[reportReturnType]


def lines() -> list[str]:
    """Every public name: fields of classes with their types, functions with their signatures."""
    told = []
    for name, thing in public().items():
        if inspect.isclass(thing):
            fields = [part for part in node(thing).body if isinstance(part, ast.AnnAssign)]
            told += [f"{name}.{ast.unparse(part.target)}: {ast.unparse(part.annotation)}" for part in fields]
        for below, function in functions(thing):
            returns = f" -> {ast.unparse(function.returns)}" if function.returns else ""
            told.append(f"{name}{below}({ast.unparse(function.args)}){returns}")
    return sorted(told)


def test_public_names_are_those_that_are_listed():
    listed, found = LISTED.read_text().splitlines(), lines()
    went, came = sorted(set(listed) - set(found)), sorted(set(found) - set(listed))
    assert not went and not came, (
        "public names changed: say so in CHANGELOG.md, then python -m tests.test_public_names\n"
        + "\n".join([*(f"- {line}" for line in went), *(f"+ {line}" for line in came)])
    )


@pytest.mark.parametrize("name", public())
def test_public_names_are_documented_and_typed(name):
    thing = public()[name]
    assert inspect.getdoc(thing), f"{name} has no docstring"
    for below, function in functions(thing):
        if "property" in map(ast.unparse, function.decorator_list):
            assert function.returns, f"{name}{below} does not say what it returns"
        named = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        untyped = [one.arg for one in named if one.annotation is None and one.arg not in ("self", "cls")]
        assert not untyped, f"{name}{below} says no type of {', '.join(untyped)}"
        assert function.returns or below.endswith("__init__"), f"{name}{below} does not say what it returns"
        assert ast.get_docstring(function) or below.endswith("__init__"), f"{name}{below} has no docstring"


def test_the_page_of_names_has_what_is_imported_at_the_top():
    there = {name.rpartition(".")[2] for name in documented()}
    lacking = set(sf._MODULES) - there - {"Config", "train"}
    assert not lacking, f"docs/reference/names.md lacks {', '.join(sorted(lacking))}"


if __name__ == "__main__":
    LISTED.write_text("\n".join(lines()) + "\n")
