"""What runs other functions, as ONNX: calls, branches and loops of JAX."""

from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr

from segfusion_jax.serving.export.onnx_graph import ELEMENTS, Rule, Symbol, translate


def _inlined(graph, equation, *values):
    closed = equation.params.get("jaxpr") or equation.params["call_jaxpr"]
    return translate(graph, closed, values)


def _platform(graph, equation):
    """Takes the branch that is not the CPU's: ONNX' runtimes have fast convolutions of their own."""
    platforms = equation.params["platforms"]
    return np.int32(platforms.index(None))


def _cond(graph, equation, index, *values):
    if not isinstance(index, np.ndarray | np.integer):
        raise NotImplementedError("cond: only on what is known when it is translated")
    return translate(graph, equation.params["branches"][int(index)], values)


def _scan(graph, equation, *values):
    """Unrolls a scan, so that what differs from round to round, such as weights, is constant."""
    params = equation.params
    carried, rows = params["num_consts"], params["num_consts"] + params["num_carry"]
    consts, state, outputs = values[:carried], list(values[carried:rows]), []
    order = range(params["length"])
    for step in reversed(order) if params["reverse"] else order:
        taken = [_row(graph, value, step) for value in values[rows:]]
        results = translate(graph, params["jaxpr"], [*consts, *state, *taken])
        state = results[: len(state)]
        outputs.append(results[len(state) :])
    if params["reverse"]:
        outputs.reverse()
    stacked = [_stacked(graph, column) for column in zip(*outputs, strict=True)]
    return [*state, *stacked]


def _row(graph, value, step):
    if isinstance(value, np.ndarray):
        return value[step]
    return graph.add("Gather", graph.whole(value), np.array(step, np.int64), axis=0)


def _stacked(graph, values):
    if all(isinstance(value, np.ndarray) for value in values):
        return np.stack(values)
    return graph.add("Concat", *(graph.unsqueeze(graph.whole(value), [0]) for value in values), axis=0)


_ROUNDS = 1024  # of a loop for each element of its first value; masks spread in far fewer


def _while(graph, equation, *values):
    """Makes a `Loop` that ends, whatever its condition says: see `most`."""
    from onnx import helper  # of the extra [export]

    params = equation.params
    of_condition, rest = values[: params["cond_nconsts"]], values[params["cond_nconsts"] :]
    of_body, state = rest[: params["body_nconsts"]], [graph.whole(v) for v in rest[params["body_nconsts"] :]]
    condition: ClosedJaxpr = params["cond_jaxpr"]
    (first,) = translate(graph, condition, [*of_condition, *state])

    body = graph.inner()
    inside: list[Any] = [Symbol(body.new_name("state")) for _ in state]
    kinds = [ELEMENTS[str(variable.aval.dtype)] for variable in params["body_jaxpr"].jaxpr.outvars]
    new = translate(body, params["body_jaxpr"], [*of_body, *inside])
    (again,) = translate(body, condition, [*of_condition, *new])
    # a subgraph's outputs are its own nodes', even where it hands on what it got
    results = [body.add("Identity", body.whole(value)) for value in (again, *new)]
    info, counted = helper.make_tensor_value_info, [(ELEMENTS["int64"], "round"), (ELEMENTS["bool"], "condition")]
    subgraph = helper.make_graph(
        body.nodes,
        body.new_name("body"),
        [
            *(info(body.new_name(name), kind, ()) for kind, name in counted),
            *(info(symbol.name, kind, None) for symbol, kind in zip(inside, kinds, strict=True)),
        ],
        [info(s.name, kind, None) for s, kind in zip(results, [ELEMENTS["bool"], *kinds], strict=True)],
    )
    most = graph.add("Mul", graph.add("Size", state[0]), np.array(_ROUNDS, np.int64))
    found = graph.add("Loop", most, first, *state, outputs=len(state), body=subgraph)
    return found if len(state) > 1 else [found]


CONTROL: dict[str, Rule] = {
    **dict.fromkeys(("jit", "pjit", "custom_jvp_call", "custom_vjp_call", "closed_call"), _inlined),
    "cond": _cond,
    "platform_index": _platform,
    "scan": _scan,
    "while": _while,
}
