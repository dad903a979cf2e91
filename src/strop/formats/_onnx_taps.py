"""Taps: an ONNX graph whose values in between are laid open, given, or added to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .._lazy import lazy
from ..model import Tensor
from ._onnx_inside import RESTORE, ROUND, dataflow_of
from .onnx_graph import opset

if TYPE_CHECKING:
    import onnx
else:
    onnx = lazy("onnx")

CAST_LIKE = 15
"""The first opset that has it."""


def tap(proto: onnx.ModelProto, values: Sequence[str], given: Sequence[Tensor] | None) -> tuple[str, ...]:
    """Make values outputs of a graph; of those that are given, make inputs too.

    Returns:
        The names of the new outputs, in the order of the values.
    """
    graph, flow = proto.graph, dataflow_of(proto)
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    rounding = {node.input[0]: node for node in graph.node if node.op_type == ROUND}
    restoring = {node.output[0]: node for node in graph.node if node.op_type == RESTORE}
    own = {tensor.name: _free(f"{tensor.name}/own", taken) for tensor in given or ()}
    for node in graph.node:
        for at, output in enumerate(node.output):
            node.output[at] = own.get(output, output)
    if given is not None:
        del graph.output[:]
        for tensor in given:
            kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, kind, [None] * len(tensor.shape)))
    known, found = {value.name for value in graph.output}, []
    for value in values:
        source = own.get(value, value)
        if value in flow.seen_as:
            rounded, restored = rounding[value], restoring[flow.seen_as[value]]
            if value in own:
                source = _within_range(graph, rounded, source, taken)
            else:
                source = _copy(graph, restored, rounded.output[0], taken)
        elif source in known and given is None:
            (source,) = _identity(graph, source, taken)
        known.add(source)
        graph.output.add().name = source
        found.append(source)
    return tuple(found)


def shift(proto: onnx.ModelProto, values: Sequence[str]) -> tuple[str, ...]:
    """Add something to values before anything reads them, results included.

    Returns:
        The names of the new inputs, float32, in the order of the values.
    """
    graph = proto.graph
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    own = {value: _free(f"{value}/own", taken) for value in values}
    for node in graph.node:
        for at, output in enumerate(node.output):
            node.output[at] = own.get(output, output)
    nodes, added = list(graph.node), []
    for value in values:
        added.append(_free(f"{value}/shift", taken))
        graph.input.append(onnx.helper.make_tensor_value_info(added[-1], onnx.TensorProto.FLOAT, None))
    sums = {own[value]: _sum(proto, own[value], extra, value) for value, extra in zip(values, added, strict=True)}
    del graph.node[:]
    for node in nodes:
        graph.node.append(node)
        for output in node.output:
            graph.node.extend(sums.get(output, ()))
    return tuple(added)


def _sum(proto: onnx.ModelProto, first: str, second: str, result: str) -> list[onnx.NodeProto]:
    """Nodes that add what is float32 to what may be a float of another width."""
    if opset(proto) < CAST_LIKE:
        return [onnx.helper.make_node("Add", [first, second], [result], f"{second}/add")]
    cast = onnx.helper.make_node("CastLike", [second, first], [f"{second}/cast"], f"{second}/cast")
    return [cast, onnx.helper.make_node("Add", [first, f"{second}/cast"], [result], f"{second}/add")]


def _copy(graph: onnx.GraphProto, node: onnx.NodeProto, source: str, taken: set[str]) -> str:
    """The same node once more, reading another value."""
    made = graph.node.add()
    made.CopyFrom(node)
    made.name = _free(f"{node.name}/inner", taken)
    made.input[0], made.output[0] = source, _free(f"{node.output[0]}/inner", taken)
    return made.output[0]


def _within_range(graph: onnx.GraphProto, rounding: onnx.NodeProto, source: str, taken: set[str]) -> str:
    """A value before it is rounded, cut where its range begins at 0: quantizers leave out a Relu there."""
    known = {tensor.name: tensor for tensor in graph.initializer}
    scale, zero = (known.get(name) for name in (*rounding.input, "", "")[1:3])
    if scale is None or zero is None or math.prod(scale.dims) != 1:
        return source
    least, step = onnx.numpy_helper.to_array(zero), onnx.numpy_helper.to_array(scale)
    if least.dtype.kind not in "iu" or int(least.item()) != np.iinfo(least.dtype).min:
        return source
    most = np.array((np.iinfo(least.dtype).max - int(least.item())) * float(step.item()), step.dtype)
    bounds = [_free(f"{source}/{end}", taken) for end in ("least", "most")]
    for name, bound in zip(bounds, (np.zeros((), step.dtype), most), strict=True):
        graph.initializer.append(onnx.numpy_helper.from_array(bound, name))
    made = _free(f"{source}/inner", taken)
    graph.node.append(onnx.helper.make_node("Clip", [source, *bounds], [made], made))
    return made


def _identity(graph: onnx.GraphProto, source: str, taken: set[str]) -> tuple[str]:
    made = _free(f"{source}/inner", taken)
    graph.node.append(onnx.helper.make_node("Identity", [source], [made], made))
    return (made,)


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
