"""A traced JAX function as a graph of ONNX operators, each primitive by its rule in `onnx_primitives`.

What does not depend on the input is computed here, by JAX, and becomes a constant: kernels with the batch norm in them,
grids, discs. Loops of a fixed length are unrolled; `while_loop` becomes `Loop`.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxprs_in_params

OPSET = 18
"""Version of ONNX' operators: the first whose reductions take their axes as an input."""


@dataclasses.dataclass(frozen=True)
class Symbol:
    """A value that is known when the graph runs.

    Attributes:
      name: in the graph.
      wide: its shape, where what is in the graph has 1 for some sides, which ONNX' element by element operators repeat;
        None where it is all there.
    """

    name: str
    wide: tuple[Any, ...] | None = None


Value = np.ndarray | Symbol
"""What a variable stands for: known now, or when the graph runs."""

Rule = Callable[..., Value | Sequence[Value]]
"""`(graph, equation, *values) -> value or values`."""


class Graph:
    """Nodes that are added one by one, and the constants that they take; in it, the graphs of loops.

    Args:
      outer: the graph that this one's loop is in.
    """

    def __init__(self, outer: "Graph | None" = None):
        self.nodes: list[Any] = []
        self.dimensions: dict[str, Symbol] = outer.dimensions if outer else {}
        self.constants: dict[tuple, tuple[str, np.ndarray]] = outer.constants if outer else {}
        self._numbers: Iterator[int] | Any = outer._numbers if outer else iter(range(10**9))

    def new_name(self, kind: str) -> str:
        """A name that nothing else has."""
        return f"{kind}_{next(self._numbers)}"

    def name(self, value: Value) -> str:
        """By which nodes take a value; what is known becomes a constant, equal ones the same."""
        if isinstance(value, Symbol):
            return value.name
        array = np.asarray(value)
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self.constants:
            self.constants[key] = self.new_name("constant"), array
        return self.constants[key][0]

    def add(self, operator: str, *values: Value, outputs: int = 1, **attributes: Any) -> Any:
        """A new node's output, or outputs."""
        from onnx import helper  # of the extra [onnx]

        names = [self.new_name(operator) for _ in range(outputs)]
        self.nodes.append(helper.make_node(operator, [self.name(v) for v in values], names, **attributes))
        return Symbol(names[0]) if outputs == 1 else [Symbol(name) for name in names]

    def side(self, length: Any) -> Value:
        """A side of a shape, int64 [1]."""
        if isinstance(length, int):
            return np.array([length], np.int64)
        if str(length) not in self.dimensions:
            raise NotImplementedError(f"side = {length}: must be one of {', '.join(self.dimensions)}")
        return self.dimensions[str(length)]

    def shape(self, sides: Sequence[Any]) -> Value:
        """A shape, int64 [rank]."""
        parts = [self.side(side) for side in sides]
        if all(isinstance(part, np.ndarray) for part in parts):
            return np.concatenate([np.zeros(0, np.int64), *parts])  # pyright: ignore[reportArgumentType]
        return self.add("Concat", *parts, axis=0)

    def whole(self, value: Value) -> Value:
        """The value with its sides as long as its shape says."""
        if isinstance(value, np.ndarray) or value.wide is None:
            return value
        return self.add("Expand", value, self.shape(value.wide))


def translate(graph: Graph, closed: ClosedJaxpr, values: Sequence[Value], rules: dict[str, Rule]) -> list[Value]:
    """Adds what a traced function does to the graph.

    Args:
      graph: that it is added to.
      closed: the function.
      values: its arguments.
      rules: of the primitives, by their names.

    Returns:
      The function's results.

    Raises:
      NotImplementedError: names a primitive that has no rule.
    """
    jaxpr: Jaxpr = closed.jaxpr
    environment: dict[Any, Value] = dict(zip(jaxpr.constvars, map(np.asarray, closed.consts), strict=True))
    environment |= dict(zip(jaxpr.invars, values, strict=True))

    def read(atom) -> Value:
        return np.asarray(atom.val, atom.aval.dtype) if isinstance(atom, Literal) else environment[atom]

    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name not in rules:
            raise NotImplementedError(f"primitive {name!r}: there is no rule to translate it to ONNX")
        arguments = [read(atom) for atom in equation.invars]
        results = _known(equation, arguments) or rules[name](graph, equation, *arguments)
        results = results if isinstance(results, list | tuple) else [results]
        environment |= dict(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _known(equation, arguments) -> list[Value]:
    """What the equation makes of arguments that are all known; nothing where one is not, or a shape is symbolic."""
    shapes = [side for variable in equation.outvars for side in variable.aval.shape]
    if not all(isinstance(a, np.ndarray) for a in arguments) or not all(isinstance(side, int) for side in shapes):
        return []
    holds_functions = any(True for _ in jaxprs_in_params(equation.params))
    if equation.primitive.name in ("dim_as_value", "platform_index") or holds_functions:
        return []
    results = equation.primitive.bind(*arguments, **equation.params)
    return [np.asarray(result) for result in (results if equation.primitive.multiple_results else [results])]
