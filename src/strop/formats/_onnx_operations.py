"""How much an ONNX graph computes, as far as it can be told without running it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    import onnx
else:
    onnx = lazy("onnx")

_PRODUCTS, _CONVOLUTIONS = ("MatMul", "Gemm"), ("Conv", "ConvTranspose")
_OTHERS = ("LSTM", "GRU", "RNN", "Attention", "Einsum", "If", "Loop", "Scan")


def operations(proto: onnx.ModelProto, batched: bool) -> int | None:
    """Multiply-adds of matrix products and convolutions for one sample; None where a size is free or an operator hides
    them.

    Args:
        proto: The graph; weights in files of their own need not be loaded.
        batched: Whether axis 0 of what goes through it is samples.
    """
    stored = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    try:
        graph = onnx.shape_inference.infer_shapes(proto).graph
    except (RuntimeError, ValueError):
        return None  # it is odd; a runtime may take it all the same
    sizes = {value.name: _dims(value) for value in (*graph.value_info, *graph.output)}
    total = 0
    for node in proto.graph.node:
        if node.op_type in _OTHERS or proto.functions:
            return None
        if node.op_type not in (*_PRODUCTS, *_CONVOLUTIONS):
            continue
        weights = next((stored[name] for name in node.input if name in stored), None)
        found = sizes.get(node.output[0])
        if weights is None or not found:
            return None
        inner = found[2:] if node.op_type in _CONVOLUTIONS else found[int(batched and len(found) > 1) : -1]
        if not all(inner):
            return None
        total += math.prod(weights) * math.prod(inner)
    return total


def _dims(value: onnx.ValueInfoProto) -> list[int]:
    """The sizes of axes; 0 for one that is free."""
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]
