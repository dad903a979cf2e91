"""Inside an ONNX graph: operators, with the precision that they compute in."""

from __future__ import annotations

import ast
import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from .._lazy import lazy
from ..dataflow import Dataflow, Operator, Stored
from ._onnx_shapes import bodies_of
from ._onnx_tensors import tensor_bytes, tensors

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
_WEIGHTS = (".weight", ".w_0", "/kernel")
_ROUNDED = ("_DequantizeLinear_Output", "_quantized", "/float")
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
        for value in reads(node):
            readers.setdefault(value, []).append(node)
    results = {value.name for value in graph.output}
    seen_as = {
        value: restored
        for value, users in readers.items()
        if value not in results and value not in stored and (restored := _restored(users, readers))
    }
    operators = tuple(
        Operator(
            node.name, node.op_type, tuple(reads(node)), tuple(filter(None, node.output)),
            _precision(node, makers, readers, stored), place_of(node),
        )
        for node in nodes
    )  # fmt: skip
    opaque = {
        node.name: sum(tensor_bytes(tensor) for body in bodies_of(node) for tensor in tensors(body))
        for node in nodes
        if any(bodies_of(node))
    }
    inputs = tuple(value.name for value in graph.input if value.name not in stored)
    return Dataflow(operators, stored, inputs, tuple(value.name for value in graph.output), seen_as, opaque=opaque)


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


def place_of(node: onnx.NodeProto) -> str:
    """Where an operator came from: the layer that its weights are named after, or the module that was exported."""
    for value in node.input:
        for end in _WEIGHTS:
            if (weights := _named(value)).endswith(end) and weights != end:
                return weights.removesuffix(end)
    scopes: object = None
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
                scopes = ast.literal_eval(entry.value)
    inner = [scope for scope in scopes[:-1] if isinstance(scope, str) and scope] if isinstance(scopes, list) else []
    return inner[-1] if inner else ""


def _named(value: str) -> str:
    """What weights were called before a quantizer put its steps between, or a mix kept them."""
    for end in _ROUNDED:
        value = value.removesuffix(end)
    return value


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """All values that a node reads, those that graphs within it take from around it included; each once."""
    found = dict.fromkeys(filter(None, node.input))
    for graph in bodies_of(node):
        made = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        made |= {output for inner in graph.node for output in inner.output}
        read = [*(value for inner in graph.node for value in reads(inner)), *(value.name for value in graph.output)]
        found |= dict.fromkeys(value for value in read if value not in made)
    yield from found


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
