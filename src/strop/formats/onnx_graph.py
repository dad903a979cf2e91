"""ONNX graphs brought into the form that quantizers need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .._lazy import lazy
from ..errors import NotApplicable
from ._onnx_stand_ins import stand_in
from ._onnx_tensors import stored_bytes, tensor_bytes

if TYPE_CHECKING:
    import onnx
else:
    onnx = lazy("onnx")

OPSET = 13
"""The first opset whose QuantizeLinear has one scale a channel."""

QUANTIZED = frozenset({
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QLinearMatMul",
    "QLinearConv", "QGemm", "MatMulNBits", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "MatMulIntegerToFloat",
    "QAttention", "QOrderedMatMul",
})  # fmt: skip
_SMALL = 1024
_CONVERTIBLE = 3 << 29  # the converter takes one serialized message, and protobuf ends at 2 GB


def is_quantized(proto: onnx.ModelProto) -> bool:
    """Whether a graph already computes in integers, or stores weights as such."""
    return any(node.op_type in QUANTIZED for node in proto.graph.node)


PASSING = frozenset({"Cast", "Dropout", "Identity", "Mul", "Reshape", "Transpose", "Where"})


def has_attention(proto: onnx.ModelProto) -> bool:
    """Whether a softmax weighs values in a matrix product, as in transformers."""
    stored = {tensor.name for tensor in proto.graph.initializer}
    weights = set[str]()  # in the order of the nodes, which is that of what they make
    for node in proto.graph.node:
        read = not weights.isdisjoint(node.input)
        weighs = node.op_type in ("MatMul", "Einsum") and read and stored.isdisjoint(node.input)
        if weighs or node.op_type.endswith("Attention"):
            return True
        if node.op_type == "Softmax" or (node.op_type in PASSING and read):
            weights.update(node.output)
    return False


def opset(proto: onnx.ModelProto) -> int:
    """The version of ONNX's own operators."""
    return max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=1)


def prepared(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Bring a graph into the form that quantizers need. The result computes the same; the graph given is used up.

    1. Functions are inlined.
    2. An opset under 13 is raised to 13.
    3. Weights in Constant nodes, and those that could be overridden as inputs, become plain initializers.
    4. Declared shapes of outputs and of values in between, which may be wrong, are dropped and inferred anew.
    5. What a Gemm multiplies its stored weights and bias by goes into them, for ONNX Runtime's quantizers lose it.
    6. Nodes without a name, or with one that is taken, get one, since quantizers pick them by name.

    Raises:
        NotApplicable: The opset can't be raised.
    """
    proto = _raised(_inlined(proto))
    store_constants(proto.graph)
    infer_shapes(proto)
    _scale(proto.graph)
    _name_nodes(proto.graph, {""})
    return proto


def named(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Functions inlined, and every node of a name of its own, by which a profile tells of it. The graph given is used
    up."""
    proto = _inlined(proto)
    _name_nodes(proto.graph, {""})
    return proto


def _inlined(proto: onnx.ModelProto) -> onnx.ModelProto:
    if not proto.functions:
        return proto
    from onnx.inliner import inline_local_functions

    return inline_local_functions(proto)


def _name_nodes(graph: onnx.GraphProto, taken: set[str]) -> None:
    """Nodes without a name, or with one that is taken, are called by what they compute."""
    for number, node in enumerate(graph.node):
        if node.name in taken:
            node.name = f"{node.op_type}:{next(filter(None, node.output), number)}"
        while node.name in taken:
            node.name += "'"
        taken.add(node.name)
    for node in graph.node:
        for attribute in node.attribute:
            for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _name_nodes(body, taken)


def _raised(proto: onnx.ModelProto) -> onnx.ModelProto:
    if (version := opset(proto)) >= OPSET:
        return proto
    if stored_bytes(proto) > _CONVERTIBLE:
        raise NotApplicable(f"needs opset {OPSET}, and a model of this size can't be raised from opset {version}")
    # The converter wants initializers among the inputs of old graphs, as old exporters put them, and copes either way.
    try:
        raised = onnx.version_converter.convert_version(proto, OPSET)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise NotApplicable(f"needs opset {OPSET}, and raising it from {version} fails: {reason}") from error
    for imported in proto.opset_import:
        if imported.domain not in ("", "ai.onnx") and imported.domain not in {o.domain for o in raised.opset_import}:
            raised.opset_import.append(imported)
    raised.ir_version = max(raised.ir_version, 7)
    return raised


def store_constants(graph: onnx.GraphProto) -> None:
    outputs = {value.name for value in graph.output}
    for position in reversed(range(len(graph.node))):
        node = graph.node[position]
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx") and node.output[0] not in outputs:
            value = _constant(node)
            if value is not None:
                graph.initializer.append(value)
                graph.initializer[-1].name = node.output[0]
                del graph.node[position]
    stored = {t.name for t in graph.initializer}
    for position in reversed(range(len(graph.input))):
        if graph.input[position].name in stored:
            del graph.input[position]


def _scale(graph: onnx.GraphProto) -> None:
    stored = {tensor.name: tensor for tensor in graph.initializer}
    taken = {*stored, *(value for node in graph.node for value in (*node.input, *node.output))}
    for node in graph.node:
        if node.op_type != "Gemm":
            continue
        factors = {one.name: one for one in node.attribute if one.name in ("alpha", "beta") and one.f != 1}
        for place, attribute in ((1, "alpha"), (2, "beta")):
            if attribute in factors and place < len(node.input) and node.input[place] in stored:
                values = onnx.numpy_helper.to_array(stored[node.input[place]])
                node.input[place] += f"*{attribute}"
                while node.input[place] in taken:
                    node.input[place] += "'"
                taken.add(node.input[place])
                scaled = values * values.dtype.type(factors[attribute].f)
                graph.initializer.append(onnx.numpy_helper.from_array(scaled, node.input[place]))
                factors[attribute].f = 1


def _constant(node: onnx.NodeProto) -> onnx.TensorProto | None:
    attribute = node.attribute[0]
    if attribute.name == "value":
        return attribute.t
    if attribute.name in ("value_float", "value_floats", "value_int", "value_ints"):
        value = onnx.helper.get_attribute_value(attribute)
        return onnx.numpy_helper.from_array(np.asarray(value, np.float32 if "float" in attribute.name else np.int64))
    return None


def infer_shapes(proto: onnx.ModelProto) -> onnx.GraphProto:
    """Infer all shapes on a copy without the large weights: only small tensors (axes, target shapes) decide shapes.

    Returns:
        That copy, which knows them in the bodies of branches and loops too.
    """
    graph = proto.graph
    del graph.value_info[:]
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    bare = onnx.ModelProto(ir_version=proto.ir_version)
    bare.opset_import.extend(proto.opset_import)
    bare.graph.name = graph.name
    bare.graph.input.extend(graph.input)
    bare.graph.output.extend(graph.output)
    bare.graph.node.extend(one for node in graph.node for one in stand_in(node))
    for tensor in graph.initializer:
        if tensor_bytes(tensor) <= _SMALL:
            bare.graph.initializer.append(tensor)
        else:
            bare.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    inferred = onnx.shape_inference.infer_shapes(bare, data_prop=True).graph
    graph.value_info.extend(inferred.value_info)
    for value, known in zip(graph.output, inferred.output, strict=True):
        value.CopyFrom(known)
    return inferred
