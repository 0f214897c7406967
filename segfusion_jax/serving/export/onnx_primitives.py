"""JAX' primitives as ONNX' operators: a rule each. Only what the chain is made of has one."""

import string
from collections.abc import Sequence

import numpy as np
from jax import lax

from segfusion_jax.serving.export.onnx_control import CONTROL
from segfusion_jax.serving.export.onnx_graph import ELEMENTS, Graph, Rule, Symbol, Value


def _elementwise(operator: str) -> Rule:
    def rule(graph, equation, *values):
        return _apply(graph, equation, values, lambda *inputs: graph.add(operator, *inputs))

    return rule


def _apply(graph: Graph, equation, values: Sequence[Value], make) -> Value:
    """Applies `make` to values that ONNX repeats where sides are 1; where none is all there, nor is the result."""
    arrays = [value for value, variable in zip(values, equation.invars, strict=True) if variable.aval.shape]
    is_wide = arrays and all(isinstance(value, Symbol) and value.wide is not None for value in arrays)
    name = make(*values).name
    return Symbol(name, equation.outvars[0].aval.shape) if is_wide else Symbol(name)


def _ne(graph, equation, *values):
    return _apply(graph, equation, values, lambda *inputs: graph.add("Not", graph.add("Equal", *inputs)))


def _is_finite(graph, equation, *values):
    return _apply(graph, equation, values, lambda x: graph.add("Less", graph.add("Abs", x), np.float32(np.inf)))


def _rsqrt(graph, equation, *values):
    return _apply(graph, equation, values, lambda x: graph.add("Reciprocal", graph.add("Sqrt", x)))


def _square(graph, equation, *values):
    if equation.params.get("y", 2) != 2:
        raise NotImplementedError(f"integer_pow, y = {equation.params['y']}: only squares are translated")
    return _apply(graph, equation, values, lambda x: graph.add("Mul", x, x))


def _round(graph, equation, *values):
    if equation.params["rounding_method"] != lax.RoundingMethod.TO_NEAREST_EVEN:
        raise NotImplementedError(f"round, {equation.params['rounding_method']}: only to the nearest even number")
    return _apply(graph, equation, values, lambda x: graph.add("Round", x))


def _clamp(graph, equation, *values):
    return _apply(graph, equation, values, lambda low, x, high: graph.add("Min", graph.add("Max", x, low), high))


def _cast(graph, equation, *values):
    kind = ELEMENTS[str(equation.params["new_dtype"])]
    return _apply(graph, equation, values, lambda x: graph.add("Cast", x, to=kind))


def _select(graph, equation, chooser, *cases):
    if len(cases) != 2 or equation.invars[0].aval.dtype != bool:
        raise NotImplementedError(f"select_n of {len(cases)} cases: only two, chosen by a bool")
    if isinstance(chooser, np.ndarray) and chooser.size and (chooser.all() or not chooser.any()):
        return cases[int(chooser.all())]
    return _apply(graph, equation, (chooser, *cases), lambda c, no, yes: graph.add("Where", c, yes, no))


def _same(graph, equation, value):
    return value


def _broadcast(graph, equation, value):
    """Gives sides of 1 where there were none; they are repeated when somebody needs all of it."""
    shape, places = equation.params["shape"], equation.params["broadcast_dimensions"]
    new = [axis for axis in range(len(shape)) if axis not in places]
    kept = value if not new else graph.unsqueeze(value, new)
    before = equation.invars[0].aval.shape
    same = [side for side, _ in zip(before, places, strict=True)] == [shape[place] for place in places]
    is_full = same and all(isinstance(shape[axis], int) and shape[axis] == 1 for axis in new)
    name = graph.name(kept)
    still_wide = isinstance(kept, Symbol) and isinstance(value, Symbol) and value.wide is not None
    return Symbol(name) if is_full and not still_wide else Symbol(name, tuple(shape))


def _reshape(graph, equation, value):
    value = graph.whole(value)
    sizes = equation.params["new_sizes"]
    symbolic = [axis for axis, side in enumerate(sizes) if not isinstance(side, int)]
    if len(symbolic) > 1:
        return graph.add("Reshape", value, graph.shape(sizes))
    target = [-1 if axis in symbolic else side for axis, side in enumerate(sizes)]
    return graph.add("Reshape", value, np.array(target, np.int64))


def _squeeze(graph, equation, value):
    return graph.add("Squeeze", graph.whole(value), np.array(equation.params["dimensions"], np.int64))


def _transpose(graph, equation, value):
    return graph.add("Transpose", graph.whole(value), perm=list(equation.params["permutation"]))


def _concatenate(graph, equation, *values):
    return graph.add("Concat", *map(graph.whole, values), axis=equation.params["dimension"])


def _stack(graph, equation, *values):
    axis = equation.params["axis"]
    return graph.add("Concat", *(graph.unsqueeze(graph.whole(value), [axis]) for value in values), axis=axis)


def _slice(graph, equation, value):
    starts, stops, steps = (equation.params[name] for name in ("start_indices", "limit_indices", "strides"))
    shape = equation.invars[0].aval.shape
    steps = steps or (1,) * len(shape)
    cut = [a for a, side in enumerate(shape) if (starts[a], steps[a]) != (0, 1) or stops[a] != side]
    return _sliced(graph, value, cut, [starts[a] for a in cut], [stops[a] for a in cut], [steps[a] for a in cut])


def _sliced(graph, value, axes, starts, stops, steps):
    numbers = (np.array(list(part), np.int64) for part in (starts, stops, axes, steps))
    return graph.add("Slice", graph.whole(value), *numbers) if axes else value


def _reverse(graph, equation, value):
    axes = equation.params["dimensions"]
    everything = np.iinfo(np.int64).min
    return _sliced(graph, value, axes, [-1] * len(axes), [everything] * len(axes), [-1] * len(axes))


def _pad(graph, equation, value, filling):
    config = equation.params["padding_config"]
    if any(inner for _, _, inner in config):
        raise NotImplementedError(f"pad, padding_config = {config}: none between the values")
    added = [max(low, 0) for low, _, _ in config] + [max(high, 0) for _, high, _ in config]
    value = graph.add("Pad", graph.whole(value), np.array(added, np.int64), filling)
    cut = [axis for axis, (low, high, _) in enumerate(config) if min(low, high) < 0]
    starts = [max(-config[axis][0], 0) for axis in cut]
    stops = [min(config[axis][1], 0) or np.iinfo(np.int64).max for axis in cut]
    return _sliced(graph, value, cut, starts, stops, [1] * len(cut))


def _iota(graph, equation):
    shape, axis = equation.params["shape"], equation.params["dimension"]
    length = graph.add("Squeeze", graph.side(shape[axis]), np.array([0], np.int64))
    numbers = graph.add("Range", np.array(0, np.int64), length, np.array(1, np.int64))
    numbers = graph.add("Cast", numbers, to=ELEMENTS[str(equation.params["dtype"])])
    others = [other for other in range(len(shape)) if other != axis]
    return Symbol(graph.unsqueeze(numbers, others).name, tuple(shape)) if others else numbers


def _dimension(graph, equation):
    side = graph.side(equation.params["dim"])
    return graph.add("Cast", graph.add("Squeeze", side, np.array([0], np.int64)), to=ELEMENTS["int32"])


def _reduction(operator: str) -> Rule:
    def rule(graph, equation, value):
        return _reduced(graph, operator, graph.whole(value), equation.params["axes"])

    return rule


def _reduced(graph, operator, value, axes):
    return graph.add(operator, value, np.array(axes, np.int64), keepdims=0)


def _any(graph, equation, value):
    numbers = graph.add("Cast", graph.whole(value), to=ELEMENTS["int32"])
    return graph.add("Cast", _reduced(graph, "ReduceMax", numbers, equation.params["axes"]), to=ELEMENTS["bool"])


def _all(graph, equation, value):
    numbers = graph.add("Cast", graph.whole(value), to=ELEMENTS["int32"])
    return graph.add("Cast", _reduced(graph, "ReduceMin", numbers, equation.params["axes"]), to=ELEMENTS["bool"])


def _dot(graph, equation, left, right):
    """Writes a matrix product where one has the last axis; anything else as `Einsum`."""
    left, right = graph.whole(left), graph.whole(right)
    (contract_left, contract_right), (batch_left, batch_right) = equation.params["dimension_numbers"]
    ranks = [len(variable.aval.shape) for variable in equation.invars]
    if (tuple(contract_left), tuple(contract_right)) == ((ranks[0] - 1,), (0,)) and ranks[1] == 2 and not batch_left:
        return graph.add("MatMul", left, right)
    letters = iter(string.ascii_lowercase)
    of_left = [next(letters) for _ in range(ranks[0])]
    of_right = [next(letters) for _ in range(ranks[1])]
    for a, b in zip((*contract_left, *batch_left), (*contract_right, *batch_right), strict=True):
        of_right[b] = of_left[a]
    shared = [of_left[axis] for axis in batch_left]
    used = {of_left[axis] for axis in contract_left} | set(shared)
    free = [letter for letter in (*of_left, *of_right) if letter not in used]
    text = f"{''.join(of_left)},{''.join(of_right)}->{''.join(shared + free)}"
    return graph.add("Einsum", left, right, equation=text)


def _conv(graph, equation, image, kernel):
    params = equation.params
    if {*params["lhs_dilation"], params["batch_group_count"]} != {1}:
        raise NotImplementedError(f"conv_general_dilated, lhs_dilation = {params['lhs_dilation']}: must be 1")
    numbers = params["dimension_numbers"]
    image = graph.add("Transpose", graph.whole(image), perm=list(numbers.lhs_spec))
    kernel = graph.whole(kernel)
    turned = (
        np.ascontiguousarray(kernel.transpose(numbers.rhs_spec))
        if isinstance(kernel, np.ndarray)
        else graph.add("Transpose", kernel, perm=list(numbers.rhs_spec))
    )
    result = graph.add(
        "Conv",
        image,
        turned,
        strides=list(params["window_strides"]),
        dilations=list(params["rhs_dilation"]),
        pads=[low for low, _ in params["padding"]] + [high for _, high in params["padding"]],
        group=params["feature_group_count"],
    )
    return graph.add("Transpose", result, perm=np.argsort(numbers.out_spec).tolist())


def _gather(graph, equation, value, indices):
    """Takes of each row its own elements (`take_along_axis`), or one slice whose start is known."""
    numbers, shape = equation.params["dimension_numbers"], equation.invars[0].aval.shape
    axes, sizes = tuple(numbers.start_index_map), tuple(equation.params["slice_sizes"])
    if (tuple(numbers.operand_batching_dims), axes, sizes, len(shape)) == ((0,), (1,), (1, 1), 2):
        places = graph.add("Squeeze", graph.whole(indices), np.array([2], np.int64))
        return graph.add("GatherElements", graph.whole(value), places, axis=1)
    if not isinstance(indices, np.ndarray) or indices.ndim != 1:
        raise NotImplementedError(f"gather, {numbers}: of each row its own elements, or one slice whose start is known")
    starts = [int(start) for start in indices]
    stops = [start + sizes[axis] for axis, start in zip(axes, starts, strict=True)]
    part = _sliced(graph, value, axes, starts, stops, [1] * len(axes))
    dropped = numbers.collapsed_slice_dims
    return graph.add("Squeeze", part, np.array(dropped, np.int64)) if dropped else part


def _scatter_add(graph, equation, value, indices, updates):
    numbers = equation.params["dimension_numbers"]
    found = [tuple(map(int, part)) for part in (numbers.operand_batching_dims, numbers.scatter_dims_to_operand_dims)]
    if found != [(0,), (1,)] or len(equation.invars[0].aval.shape) != 2 or numbers.update_window_dims:
        raise NotImplementedError(f"scatter-add, {numbers}: only single values into rows of their own")
    places = graph.add("Squeeze", graph.whole(indices), np.array([2], np.int64))
    return graph.add("ScatterElements", graph.whole(value), places, graph.whole(updates), axis=1, reduction="add")


RULES: dict[str, Rule] = {
    **CONTROL,
    **{
        name: _elementwise(operator)
        for name, operator in {
            "abs": "Abs",
            "add": "Add",
            "add_any": "Add",
            "and": "And",
            "div": "Div",
            "eq": "Equal",
            "exp": "Exp",
            "floor": "Floor",
            "ge": "GreaterOrEqual",
            "gt": "Greater",
            "le": "LessOrEqual",
            "log": "Log",
            "logistic": "Sigmoid",
            "lt": "Less",
            "max": "Max",
            "min": "Min",
            "mul": "Mul",
            "neg": "Neg",
            "not": "Not",
            "or": "Or",
            "sign": "Sign",
            "sqrt": "Sqrt",
            "sub": "Sub",
        }.items()
    },
    **dict.fromkeys(("copy", "copy_p", "stop_gradient", "optimization_barrier"), _same),
    "broadcast_in_dim": _broadcast,
    "clamp": _clamp,
    "concatenate": _concatenate,
    "conv_general_dilated": _conv,
    "convert_element_type": _cast,
    "dim_as_value": _dimension,
    "dot_general": _dot,
    "gather": _gather,
    "integer_pow": _square,
    "iota": _iota,
    "is_finite": _is_finite,
    "ne": _ne,
    "pad": _pad,
    "reduce_and": _all,
    "reduce_max": _reduction("ReduceMax"),
    "reduce_min": _reduction("ReduceMin"),
    "reduce_or": _any,
    "reduce_sum": _reduction("ReduceSum"),
    "reshape": _reshape,
    "rev": _reverse,
    "round": _round,
    "rsqrt": _rsqrt,
    "scatter-add": _scatter_add,
    "select_n": _select,
    "slice": _slice,
    "square": _square,
    "squeeze": _squeeze,
    "stack": _stack,
    "transpose": _transpose,
}
