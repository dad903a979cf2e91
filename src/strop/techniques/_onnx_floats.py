"""Layers in float between int8 ones: ONNX Runtime would round their weights unasked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx


def keep_floats(graph: onnx.GraphProto) -> None:
    """Give what layers in float read from int8 ones a scale for each channel, all of them the same.

    A layer that reads values of one scale, and whose output is quantized, ONNX Runtime takes for one whose weights were
    forgotten, and rounds these to int8, with one scale for all (`WeightBiasQuantization`, since 1.21). Where scales are
    told by channel it does not.

    Args:
        graph: In QDQ form, of opset 13 or later; changed.
    """
    from onnx import helper, numpy_helper

    stored = {tensor.name: tensor for tensor in graph.initializer}
    dequantized = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    wide, made, nodes = dict[str, np.ndarray[Any, Any]](), set[str](), list[Any]()
    for node in graph.node:
        read = dequantized.get(node.input[0]) if node.input else None
        if read is not None and (channels := _channels(node, stored)):
            axis = 0 if _transposed(node) else 1
            value, name = (f"{one}/{axis}/{channels}" for one in (read.output[0], read.name))
            told = {f"{one}/{channels}": one for one in read.input[1:]}
            if value not in made:
                made.add(value)
                wide |= {each: np.full(channels, numpy_helper.to_array(stored[one])) for each, one in told.items()}
                nodes.append(helper.make_node("DequantizeLinear", [read.input[0], *told], [value], name, axis=axis))
            node.input[0] = value
        nodes.append(type(node).FromString(node.SerializeToString()))
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in wide.items())


def _channels(node: onnx.NodeProto, stored: dict[str, onnx.TensorProto]) -> int:
    """How many the input of a layer with weights in float has, by these; 0 for what is none."""
    weights = stored.get(node.input[1]) if len(node.input) > 1 else None
    if weights is None:
        return 0
    told = {one.name: one.i for one in node.attribute}
    if node.op_type == "Conv":
        return int(weights.dims[1] * told.get("group", 1))
    if node.op_type == "ConvTranspose":
        return int(weights.dims[0])
    return int(weights.dims[1 if told.get("transB") else 0]) if node.op_type == "Gemm" else 0


def _transposed(node: onnx.NodeProto) -> bool:
    """Whether its input has channels in rows."""
    return node.op_type == "Gemm" and any(one.name == "transA" and one.i for one in node.attribute)
