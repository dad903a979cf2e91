"""Products of ONNX Runtime's whose weights are in 8 or 4 bits, block by block, and are multiplied in int8."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..formats._onnx_inside import reads

if TYPE_CHECKING:
    import onnx

Array: TypeAlias = np.ndarray[Any, Any]

PRODUCTS = frozenset({"MatMul", "Gemm"})
IN_INT8 = 4  # MatMulNBits' `accuracy_level`: what is multiplied with the weights is rounded to int8, block by block
BLOCK = 32
KINDS = {4: "quantize_matmul_4bits", 8: "quantize_matmul_8bits"}


FEW = 32  # rows of a call, with which reading a product's weights takes longer than computing with them


def stored_weights(graph: onnx.GraphProto, names: Collection[str] | None = None) -> dict[str, Array]:
    """By product of float32 weights that are stored, these: [depth, width].

    Args:
        graph: With the products.
        names: Of those that are asked for; None for all.
    """
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in graph.initializer}
    found = {}
    for node in graph.node:
        if (names is None or node.name in names) and fits(node) and plain(stored.get(node.input[1])):
            values = numpy_helper.to_array(stored[node.input[1]])
            found[node.name] = values.T if _flag(node, "transB") else values
    return found


def fits(node: onnx.NodeProto) -> bool:
    """Whether it is a product that such a one can stand for, if its weights are `plain`."""
    scaled = any(one.name in ("alpha", "beta") and one.f != 1 for one in node.attribute)
    return node.op_type in PRODUCTS and not _flag(node, "transA") and not scaled


def plain(weights: onnx.TensorProto | None) -> bool:
    """Whether weights are stored, a matrix of float32."""
    return weights is not None and len(weights.dims) == 2 and weights.data_type == weights.FLOAT


def few(value: onnx.ValueInfoProto | None) -> bool:
    """Whether what a product reads has few rows, as far as is known: dimensions whose sizes are free count as one."""
    sizes = [] if value is None else [one.dim_value or 1 for one in value.type.tensor_type.shape.dim]
    return math.prod(sizes[:-1]) <= FEW


def exchange(model: onnx.ModelProto, bits: Mapping[str, int], block: int) -> None:
    """Put products of rounded weights in the place of those of stored ones; what is no longer read goes.

    Args:
        model: Changed.
        bits: Of the weights of a product, by its name (see `stored_weights`).
        block: Weights of a column that share a scale and a zero point.
    """
    from onnx import helper, numpy_helper

    if not bits:
        return
    graph, straight = model.graph, stored_weights(model.graph, bits)
    taken = {value for node in graph.node for value in (*reads(node), *node.output)}
    taken |= {tensor.name for tensor in graph.initializer}

    def free(name: str) -> str:
        while name in taken:
            name += "'"
        taken.add(name)
        return name

    nodes = []
    for node in graph.node:
        if node.name not in bits:
            nodes.append(node)
            continue
        depth, width = straight[node.name].shape
        parts = _rounded(straight[node.name], bits[node.name], block)
        names = [free(f"{node.name}/{part}") for part in ("weights", "scales", "zeros")]
        graph.initializer.extend(map(numpy_helper.from_array, parts, names))
        bias = node.input[2] if len(node.input) > 2 else ""
        result = free(f"{node.name}/product") if bias else node.output[0]
        nodes.append(helper.make_node(
            "MatMulNBits", [node.input[0], *names], [result], node.name, domain="com.microsoft",
            K=depth, N=width, bits=bits[node.name], block_size=block, accuracy_level=IN_INT8,
        ))  # fmt: skip
        if bias:
            nodes.append(helper.make_node("Add", [result, bias], node.output, f"{node.name}/bias"))
    nodes = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(nodes)
    read = {value for node in graph.node for value in reads(node)} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    if not any(domain.domain == "com.microsoft" for domain in model.opset_import):
        model.opset_import.add(domain="com.microsoft", version=1)


def _flag(node: onnx.NodeProto, name: str) -> bool:
    return any(one.name == name and one.i for one in node.attribute)


def _rounded(weights: Array, bits: int, block: int) -> tuple[Array, Array, Array]:
    """Integers, scales and zero points of weights [depth, width], block by block of a column, as MatMulNBits reads them
    (uint8 [width, blocks, bytes], float32 [width, blocks], uint8 [width, bytes])."""
    from onnxruntime.capi import _pybind_state

    depth, width = weights.shape
    blocks, packed = -(-depth // block), 8 // bits
    padded = np.zeros((blocks * block, width), np.float32)
    padded[:depth] = weights
    integers = np.zeros((width, blocks, block // packed), np.uint8)
    scales, zeros = np.zeros((width, blocks), np.float32), np.zeros((width, -(-blocks // packed)), np.uint8)
    getattr(_pybind_state, KINDS[bits])(integers, padded, scales, zeros, block, width, depth, False)
    return integers, scales, zeros
