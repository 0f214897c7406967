"""A traced JAX function as a graph of ONNX operators, each primitive by its rule in `onnx_primitives`.

What does not depend on the input is computed here, by JAX, and becomes a constant: kernels with the batch norm in them,
grids, discs. Loops of a fixed length are unrolled; `while_loop` becomes `Loop`.
"""

import copy
import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxprs_in_params

OPSET = 18
"""Version of ONNX' operators: the first whose reductions take their axes as an input."""


@dataclasses.dataclass(frozen=True)
class Symbol:
    """A value that is known when the graph runs.

    Attributes:
      name: its name in the graph.
      wide: its shape, where what is in the graph has 1 for some sides, which ONNX' element by element operators repeat;
        None where it is all there.
    """

    name: str
    wide: tuple[Any, ...] | None = None


Value = np.ndarray | Symbol
"""What a variable stands for: known now, or when the graph runs."""

Rule = Callable[..., Any]
"""`(graph, equation, *values) -> value or values`."""

ELEMENTS = {"float32": 1, "uint8": 2, "int32": 6, "int64": 7, "bool": 9}
"""Numbers of dtypes in onnx.TensorProto."""


class Graph:
    """Nodes that are added one by one, and the constants that they take; in it, the graphs of loops.

    Args:
      rules: rule of each primitive, by its name.

    Attributes:
      rules: rule of each primitive, by its name.
      nodes: nodes of this graph alone.
      dimensions: values of symbolic sides, int64 [1], by their names.
      constants: names and arrays.
    """

    def __init__(self, rules: Mapping[str, Rule]):
        self.rules = rules
        self.nodes: list[Any] = []
        self.dimensions: dict[str, Symbol] = {}
        self.constants: dict[tuple, tuple[str, np.ndarray]] = {}
        self._numbers = itertools.count()

    def inner(self) -> "Graph":
        """Returns the graph of a loop in this one, which shares all but the nodes."""
        graph = copy.copy(self)
        graph.nodes = []
        return graph

    def new_name(self, kind: str) -> str:
        """Returns a name that nothing else has."""
        return f"{kind}_{next(self._numbers)}"

    def name(self, value: Value) -> str:
        """Returns the name by which nodes take a value; what is known becomes a constant, equal ones the same."""
        if isinstance(value, Symbol):
            return value.name
        array = np.asarray(value)
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self.constants:
            self.constants[key] = self.new_name("constant"), array
        return self.constants[key][0]

    def add(self, operator: str, *values: Value, outputs: int = 1, **attributes: Any) -> Any:
        """Adds a node and returns its output, or outputs."""
        from onnx import helper  # of the extra [export]

        names = [self.new_name(operator) for _ in range(outputs)]
        self.nodes.append(helper.make_node(operator, [self.name(v) for v in values], names, **attributes))
        return Symbol(names[0]) if outputs == 1 else [Symbol(name) for name in names]

    def side(self, length: Any) -> Value:
        """Returns a side of a shape, int64 [1]."""
        if isinstance(length, int):
            return np.array([length], np.int64)
        if str(length) not in self.dimensions:
            raise NotImplementedError(f"side = {length}: must be one of {', '.join(self.dimensions)}")
        return self.dimensions[str(length)]

    def shape(self, sides: Sequence[Any]) -> Value:
        """Returns a shape, int64 [rank]."""
        parts = [self.side(side) for side in sides]
        known = [part for part in parts if isinstance(part, np.ndarray)]
        if len(known) == len(parts):
            return np.concatenate([np.zeros(0, np.int64), *known])
        return self.add("Concat", *parts, axis=0)

    def unsqueeze(self, value: Value, axes: Sequence[int]) -> Value:
        """Adds sides of 1 at these axes of the result."""
        if isinstance(value, np.ndarray):
            return np.expand_dims(value, tuple(axes))
        return self.add("Unsqueeze", value, np.array(axes, np.int64))

    def whole(self, value: Value) -> Value:
        """Returns the value with its sides as long as its shape says."""
        if isinstance(value, np.ndarray) or value.wide is None:
            return value
        return self.add("Expand", value, self.shape(value.wide))


def translate(graph: Graph, closed: ClosedJaxpr, values: Sequence[Value]) -> list[Value]:
    """Adds what a traced function does to the graph.

    Args:
      graph: the graph that it is added to.
      closed: the function.
      values: arguments of the jaxpr.

    Returns:
      The function's results.

    Raises:
      NotImplementedError: names a primitive that has no rule.
    """
    jaxpr: Jaxpr = closed.jaxpr
    environment: dict[Any, Value] = dict(zip(jaxpr.constvars, map(np.asarray, closed.consts), strict=True))
    environment |= dict(zip(jaxpr.invars, values, strict=True))

    def read(atom) -> Value:
        return (
            np.asarray(atom.val, getattr(atom.aval, "dtype", None)) if isinstance(atom, Literal) else environment[atom]
        )

    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name not in graph.rules:
            raise NotImplementedError(f"primitive {name!r}: there is no rule to translate it to ONNX")
        arguments = [read(atom) for atom in equation.invars]
        results = _known(equation, arguments) or graph.rules[name](graph, equation, *arguments)
        results = results if isinstance(results, list | tuple) else [results]
        environment |= dict(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _known(equation, arguments) -> list[Value]:
    """Returns what the equation makes of arguments that are all known; nothing where one is not, or a shape is
    symbolic.
    """
    shapes = [side for variable in equation.outvars for side in variable.aval.shape]
    if not all(isinstance(a, np.ndarray) for a in arguments) or not all(isinstance(side, int) for side in shapes):
        return []
    holds_functions = any(True for _ in jaxprs_in_params(equation.params))
    if equation.primitive.name in ("dim_as_value", "platform_index") or holds_functions:
        return []
    results = equation.primitive.bind(*arguments, **equation.params)
    return [np.asarray(result) for result in (results if equation.primitive.multiple_results else [results])]
