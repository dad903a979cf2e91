"""How many multiply-adds a node of an ONNX graph does, by the shapes of what goes in and out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._lazy import lazy
from ._onnx_shapes import Shaped, bodies_of

if TYPE_CHECKING:
    import onnx
else:
    onnx = lazy("onnx")

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
PRODUCTS = {
    "MatMul": (0, 1), "MatMulInteger": (0, 1), "QLinearMatMul": (0, 3), "FusedMatMul": (0, 1),
    "DynamicQuantizeMatMul": (0, 1), "MatMulIntegerToFloat": (0, 1), "MatMulBnb4": (0, 1),
}  # fmt: skip
"""Matrix products, and which inputs they multiply."""
CONVOLUTIONS = {"Conv": 1, "FusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}
"""Convolutions, and which input is their kernel: [out, in / groups, sizes...]."""


def multiply_adds(node: onnx.NodeProto, known: Mapping[str, Shaped]) -> float:
    """In one call; 0 of what multiplies no matrices, and of what shapes don't tell.

    Args:
        node: With the graphs within it: what a loop repeats counts once, and of branches all.
        known: Shapes by name, of weights too.
    """
    try:
        inside = sum(multiply_adds(inner, known) for body in bodies_of(node) for inner in body.node)
        return inside + _own(node, known)
    except (KeyError, IndexError, ValueError):  # a shape that is not known, or odd
        return 0.0


def _own(node: onnx.NodeProto, known: Mapping[str, Shaped]) -> float:
    kind = node.op_type
    into = [known[name].sizes if name in known else () for name in node.input]
    if kind in PRODUCTS:
        return known[node.output[0]].cells * into[PRODUCTS[kind][0]][-1]
    if kind in ("Gemm", "QGemm"):
        return known[node.output[0]].cells * into[0][0 if _attribute(node, "transA", 0) else 1]
    if kind == "MatMulNBits":
        return float(known[node.output[0]].cells * _attribute(node, "K", 0))
    if kind in CONVOLUTIONS:
        kernel = into[CONVOLUTIONS[kind]]
        return known[node.output[0]].cells * math.prod(kernel[1:])
    if kind == "ConvTranspose":
        return math.prod(into[0]) * math.prod(into[1][1:])
    if kind in GATES:
        steps, batch = (into[0][1], into[0][0]) if _attribute(node, "layout", 0) else into[0][:2]
        return steps * batch * (math.prod(into[1]) + math.prod(into[2]))  # [directions, gates x hidden, ...]
    if kind == "Einsum":
        return _einsum(_attribute(node, "equation", b"").decode(), into)
    if kind in ("Attention", "MultiHeadAttention"):
        return _attention(node, into, known[node.output[0]].sizes)
    return 0.0


def _einsum(equation: str, into: list[tuple[int, ...]]) -> float:
    """All indices run through all their values; 0 for one with an ellipsis."""
    sides = equation.replace(" ", "").split("->")[0].split(",")
    if "." in equation or len(sides) != len(into):
        return 0.0
    sizes = {
        letter: size for side, shape in zip(sides, into, strict=True) for letter, size in zip(side, shape, strict=True)
    }
    return float(math.prod(sizes.values()))


def _attention(node: onnx.NodeProto, into: list[tuple[int, ...]], result: tuple[int, ...]) -> float:
    """Queries with keys and weights with values; and the projection before it, where the node does that too."""
    rows = math.prod(result[:-1])
    keys = into[1] if len(into) > 1 and len(into[1]) > 2 else into[0]  # ONNX Runtime's own has weights there
    projected = math.prod(into[0][:-1]) * math.prod(into[1]) if len(into) > 1 and len(into[1]) == 2 else 0
    return float(projected + 2 * rows * result[-1] * keys[-2])


def _attribute(node: onnx.NodeProto, name: str, otherwise: Any) -> Any:
    found = next((a for a in node.attribute if a.name == name), None)
    return otherwise if found is None else onnx.helper.get_attribute_value(found)
