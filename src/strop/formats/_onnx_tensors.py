"""The stored tensors of an ONNX graph, and how much they take."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    import onnx
else:
    onnx = lazy("onnx")


def tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every stored tensor of a graph and its subgraphs: initializers, and those in attributes."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from attribute_tensors(node)


def stored_bytes(proto: onnx.ModelProto) -> int:
    """Bytes of all weights, by their shapes: protobuf's own ByteSize would serialize them in memory."""
    return sum(tensor_bytes(tensor) for tensor in tensors(proto.graph))


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of one stored tensor, by its shape."""
    return math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def attribute_tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from tensors(graph)
