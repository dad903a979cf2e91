"""Inside an ONNX graph: operators with the precision they compute in, and graphs with values in between laid open."""

from __future__ import annotations

import ast
import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .._lazy import lazy
from ..dataflow import Dataflow, Operator, Stored
from ..model import Tensor
from ._onnx_tensors import tensor_bytes
from .onnx_graph import opset

if TYPE_CHECKING:
    import onnx
else:
    onnx = lazy("onnx")

ROUND, RESTORE = "QuantizeLinear", "DequantizeLinear"
INTEGER = frozenset({
    "MatMulInteger", "ConvInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "DynamicQuantizeLSTM",
    "QAttention",
})  # fmt: skip
"""Operators that take integers of activations, which are mostly rounded as they run."""
STATIC = frozenset({"QLinearConv", "QLinearMatMul", "QLinearAdd", "QGemm", "QLinearGlobalAveragePool", "QLinearConcat"})
FLOATS = {"float16": "f16", "float32": "f32", "float64": "f64", "bfloat16": "bf16"}
BETWEEN = frozenset({
    "Add", "ArgMax", "AveragePool", "Concat", "Conv", "ConvTranspose", "Expand", "Flatten", "Gather", "Gemm",
    "GlobalAveragePool", "LeakyRelu", "MatMul", "MaxPool", "Mul", "Pad", "Reshape", "Resize", "Sigmoid", "Slice",
    "Softmax", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Where",
})  # fmt: skip
"""What ONNX Runtime computes in int8 where inputs and output are rounded; all else is restored to floats first."""
OPEN_ENDED = frozenset({"Gemm", "MatMul"})
"""Of these, the ones whose output need not be rounded."""
CAST_LIKE = 15
"""The first opset that has it."""
_WEIGHTS = (".weight", ".w_0", "/kernel")
_SCOPES = "pkg.torch.onnx.name_scopes"


def dataflow_of(proto: onnx.ModelProto) -> Dataflow:
    """What a graph computes, whose nodes have names of their own; those within control flow are not looked into."""
    graph = proto.graph
    stored = {tensor.name: _stored(tensor) for tensor in graph.initializer}
    stored |= {sparse.values.name: _stored(sparse.values) for sparse in graph.sparse_initializer}
    nodes = []
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            stored[node.output[0]] = _constant(node)
        else:
            nodes.append(node)
    makers = {output: node for node in nodes for output in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for value in _reads(node):
            readers.setdefault(value, []).append(node)
    results = {value.name for value in graph.output}
    seen_as = {
        value: restored
        for value, users in readers.items()
        if value not in results and value not in stored and (restored := _restored(users, readers))
    }
    operators = tuple(
        Operator(
            node.name, node.op_type, tuple(_reads(node)), tuple(filter(None, node.output)),
            _precision(node, makers, readers, stored), _place(node),
        )
        for node in nodes
    )  # fmt: skip
    opaque = tuple(one.name for one, node in zip(operators, nodes, strict=True) if any(_within(node)))
    inputs = tuple(value.name for value in graph.input if value.name not in stored)
    return Dataflow(operators, stored, inputs, tuple(value.name for value in graph.output), seen_as, opaque=opaque)


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


def _restored(users: Sequence[onnx.NodeProto], readers: Mapping[str, Sequence[onnx.NodeProto]]) -> str:
    """What is read in place of a value: where all that do first round and then restore it."""
    if len(users) != 1 or users[0].op_type != ROUND:
        return ""
    restoring = readers.get(users[0].output[0], ())
    return restoring[0].output[0] if restoring and all(node.op_type == RESTORE for node in restoring) else ""


def _precision(
    node: onnx.NodeProto,
    makers: Mapping[str, onnx.NodeProto],
    readers: Mapping[str, Sequence[onnx.NodeProto]],
    stored: Mapping[str, Stored],
) -> str:
    if node.op_type in INTEGER:
        return "dynamic int8"
    if node.op_type in STATIC:
        return "int8"
    if node.op_type == "MatMulNBits":
        return f"int{next((a.i for a in node.attribute if a.name == 'bits'), 4)} weights"
    if node.op_type == "Gather" and node.input[0] in stored and stored[node.input[0]].dtype in ("int8", "uint8"):
        return "int8 weights"
    rounded = [value for value in node.input if (maker := makers.get(value)) and maker.op_type == RESTORE]
    weights = {value for value in rounded if makers[value].input[0] in stored}
    if rounded and node.op_type not in (ROUND, RESTORE):
        moving = [value for value in node.input if value and value not in stored and value not in weights]
        closed = node.op_type in OPEN_ENDED or any(user.op_type == ROUND for user in readers.get(node.output[0], ()))
        if moving and all(value in rounded for value in moving) and closed and node.op_type in BETWEEN:
            return "int8"
        if any(stored[makers[value].input[0]].bytes > 4 for value in weights):
            return f"{stored[makers[next(iter(weights))].input[0]].dtype.removeprefix('u')} weights"
    floats = [stored[value].dtype for value in node.input if value in stored and stored[value].dtype in FLOATS]
    return FLOATS[floats[0]] if floats else "f32"


def _place(node: onnx.NodeProto) -> str:
    """Where an operator came from: the layer that its weights are named after, or the module that was exported."""
    for value in node.input:
        for end in _WEIGHTS:
            if value.endswith(end) and value != end:
                return value.removesuffix(end)
    scopes: object = None
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
                scopes = ast.literal_eval(entry.value)
    inner = [scope for scope in scopes[:-1] if isinstance(scope, str) and scope] if isinstance(scopes, list) else []
    return inner[-1] if inner else ""


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """All values that a node reads, those that graphs within it take from around it included."""
    yield from filter(None, node.input)
    for graph in _within(node):
        made = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        made |= {output for inner in graph.node for output in inner.output}
        yield from dict.fromkeys(value for inner in graph.node for value in _reads(inner) if value not in made)


def _within(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _stored(tensor: onnx.TensorProto) -> Stored:
    dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    packed = dtype in ("int4", "uint4")  # two lie in a byte
    return Stored(dtype, (math.prod(tensor.dims) + 1) // 2 if packed else tensor_bytes(tensor))


def _constant(node: onnx.NodeProto) -> Stored:
    attribute = node.attribute[0] if node.attribute else None
    if attribute is not None and attribute.HasField("t"):
        return _stored(attribute.t)
    count = max(1, len(attribute.floats) + len(attribute.ints)) if attribute is not None else 0
    whole = attribute is not None and attribute.name in ("value_int", "value_ints")
    return Stored("int64", 8 * count) if whole else Stored("float32", 4 * count)
