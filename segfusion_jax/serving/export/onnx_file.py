"""The chain as an ONNX model."""

import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax import export

from segfusion_jax.ops import native
from segfusion_jax.serving.export.chain import Chain
from segfusion_jax.serving.export.onnx_graph import ELEMENTS, OPSET, Graph, Symbol, translate
from segfusion_jax.serving.export.onnx_primitives import RULES


def save_onnx(chain: Chain, shape: tuple[Any, ...], path: pathlib.Path, metadata: Mapping[str, str]) -> None:
    """Writes the chain as an ONNX model with one input, `images`, and the chain's outputs by their names.

    Args:
      chain: the function that is written.
      shape: shape of the images, [batch, height, width, 3]; sides may be symbols, see `symbolic_shape`.
      path: path of the file.
      metadata: goes into the model's `metadata_props`.

    Raises:
      NotImplementedError: the chain has what no rule translates.
      ModuleNotFoundError: the package `onnx` is not installed.
    """
    import onnx  # of the extra [export]
    from onnx import helper, numpy_helper

    with native.disabled():
        traced = jax.jit(chain).trace(jax.ShapeDtypeStruct(shape, np.uint8))
    graph, images = Graph(RULES), Symbol("images")
    batch = graph.add("Shape", images, start=0, end=1)
    never_empty = _with_one_if_empty(graph, images, batch) if export.is_symbolic_dim(shape[0]) else images
    _add_dimensions(graph, never_empty, shape)
    outputs = dict(zip(sorted(traced.out_info), translate(graph, traced.jaxpr, [never_empty]), strict=True))
    for name, value in outputs.items():
        value, sides = graph.whole(value), [str(side) for side in traced.out_info[name].shape]
        if str(shape[0]) in sides and never_empty is not images:
            axis = np.array([sides.index(str(shape[0]))], np.int64)
            value = graph.add("Slice", value, np.zeros(1, np.int64), batch, axis)
        graph.nodes.append(helper.make_node("Identity", [graph.name(value)], [name]))
    taken = set(_inputs(graph.nodes))
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "segfusion",
            [helper.make_tensor_value_info("images", ELEMENTS["uint8"], _sides(shape))],
            [
                helper.make_tensor_value_info(name, ELEMENTS[str(info.dtype)], _sides(info.shape))
                for name, info in sorted(traced.out_info.items())
            ],
            [numpy_helper.from_array(array, name) for name, array in graph.constants.values() if name in taken],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="segfusion_jax",
    )
    model.ir_version = IR_VERSION
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    onnx.save_model(model, str(path))


IR_VERSION = 8
"""Version of the file's format: the one that came with the operators' version, which old runtimes read."""


def _with_one_if_empty(graph: Graph, images: Symbol, batch: Symbol) -> Symbol:
    """Returns the images, or one black image in place of none: of an empty batch runtimes hang, or end the process."""
    lacking = graph.add("Sub", np.ones(1, np.int64), graph.add("Min", batch, np.ones(1, np.int64)))
    sides = graph.add("Concat", lacking, graph.add("Shape", images, start=1), axis=0)
    return graph.add("Concat", images, graph.add("Expand", np.zeros((1, 1, 1, 1), np.uint8), sides), axis=0)


def _add_dimensions(graph: Graph, images: Symbol, shape: tuple[Any, ...]) -> None:
    """Makes the images' symbolic sides known to the graph."""
    for axis, side in enumerate(shape):
        if export.is_symbolic_dim(side):
            graph.dimensions[str(side)] = graph.add("Shape", images, start=axis, end=axis + 1)


def _inputs(nodes: Iterable[Any]) -> Iterator[str]:
    """Names of all that nodes take, those in loops too."""
    for node in nodes:
        yield from node.input
        for attribute in node.attribute:
            yield from _inputs(attribute.g.node)


def _sides(shape: tuple[Any, ...]) -> list[int | str]:
    return [str(side) if export.is_symbolic_dim(side) else int(side) for side in shape]
