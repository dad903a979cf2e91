"""What shapes the values of an ONNX graph have once those of its inputs are known."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .._lazy import lazy
from .onnx_graph import infer_shapes, store_constants

if TYPE_CHECKING:
    import onnx
    from onnx import numpy_helper, reference
else:
    onnx = lazy("onnx")
    numpy_helper = lazy("onnx.numpy_helper")
    reference = lazy("onnx.reference")

ROUNDS = 12  # of inferring shapes and computing what others follow from, at the most
SMALL = 1024  # bytes of a value that shapes may follow from


@dataclass(frozen=True)
class Shaped:
    """A value: its sizes, and the type of its elements as ONNX numbers it."""

    sizes: tuple[int, ...]
    type: int

    @property
    def cells(self) -> int:
        return math.prod(self.sizes)

    @property
    def bytes(self) -> int:
        return self.cells * itemsize(self.type)


def shapes(proto: onnx.ModelProto, fed: Mapping[str, tuple[int, ...]]) -> dict[str, Shaped]:
    """The values whose sizes can be told, by name; those in the bodies of branches and loops too.

    Shapes that are computed on the way (of `Shape`, then a few operators, into `Reshape`) are computed here.

    Args:
        proto: Its weights need not be there; it is changed.
        fed: Shapes of inputs.
    """
    graph = proto.graph
    proto.ir_version = max(proto.ir_version, 8)  # before 4, weights had to be inputs too
    store_constants(graph)
    _forget(graph)
    for value in graph.input:
        if value.name in fed:
            _fix(value, fed[value.name])
    found: dict[str, Shaped] = {}
    for _ in range(ROUNDS):
        try:
            found = dict(_known(infer_shapes(proto)))
        except (RuntimeError, ValueError):  # it is odd; a runtime may take it all the same
            return found
        if not _compute(proto, found):
            break
    return found


def itemsize(kind: int) -> int:
    """Bytes of an element; 0 for one that has no size of its own (text)."""
    return int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize) if kind != onnx.TensorProto.STRING else 0


def _fix(value: onnx.ValueInfoProto, sizes: tuple[int, ...]) -> None:
    shape = value.type.tensor_type.shape
    del shape.dim[:]
    for size in sizes:
        shape.dim.add().dim_value = size


def _forget(graph: onnx.GraphProto) -> None:
    """Drop the shapes that bodies declare: they name sizes that are known here."""
    for body in bodies(graph):
        del body.value_info[:]
        for value in body.output:
            value.type.tensor_type.ClearField("shape")
        _forget(body)


def _known(graph: onnx.GraphProto) -> Iterator[tuple[str, Shaped]]:
    for tensor in graph.initializer:
        yield tensor.name, Shaped(tuple(tensor.dims), tensor.data_type)
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(size.HasField("dim_value") for size in kind.shape.dim):
            yield value.name, Shaped(tuple(size.dim_value for size in kind.shape.dim), kind.elem_type)
    for body in bodies(graph):
        yield from _known(body)


def bodies(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graphs within the nodes of a graph: branches, and what loops repeat."""
    for node in graph.node:
        yield from bodies_of(node)


def bodies_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _compute(proto: onnx.ModelProto, known: Mapping[str, Shaped]) -> bool:
    """Make constants of the small values that follow from known shapes and other constants; whether there were any."""
    graph = proto.graph
    values: dict[str, Any] = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if Shaped(tuple(tensor.dims), tensor.data_type).bytes <= SMALL
        and tensor.data_location != onnx.TensorProto.EXTERNAL
    }
    outputs = {value.name for value in graph.output}
    left, changed = [], False
    for node in graph.node:
        made = None if outputs & set(node.output) else _value(node, values, known, proto)
        if made is None:
            left.append(node)
            continue
        changed = True
        values[node.output[0]] = made
        graph.initializer.append(numpy_helper.from_array(made, node.output[0]))
    if changed:
        kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in left]
        del graph.node[:]
        graph.node.extend(kept)
    return changed


def _value(
    node: onnx.NodeProto, values: Mapping[str, Any], known: Mapping[str, Shaped], proto: onnx.ModelProto
) -> np.ndarray[Any, Any] | None:
    if node.domain not in ("", "ai.onnx") or len(node.output) != 1 or any(bodies_of(node)):
        return None
    if node.op_type == "Shape" and node.input[0] in known and not node.attribute:
        return np.array(known[node.input[0]].sizes, np.int64)
    if not node.input or not all(name in values for name in node.input if name):
        return None
    result = known.get(node.output[0])
    if result is not None and result.bytes > SMALL:
        return None
    try:
        alone = onnx.helper.make_graph(
            [node], "alone", [], [onnx.helper.make_empty_tensor_value_info(node.output[0])],
            [numpy_helper.from_array(values[name], name) for name in dict.fromkeys(node.input) if name],
        )  # fmt: skip
        model = onnx.helper.make_model(alone, opset_imports=proto.opset_import, ir_version=proto.ir_version)
        (made,) = reference.ReferenceEvaluator(model).run(None, {})
    except Exception:  # whatever the evaluator makes of an odd node: its shape is then not told
        return None
    return np.asarray(made) if isinstance(made, (np.ndarray, np.generic)) and np.asarray(made).nbytes <= SMALL else None
