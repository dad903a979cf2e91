"""Stand-ins: operators of ONNX Runtime's own, as those of ONNX whose results have the same shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    import onnx
else:
    onnx = lazy("onnx")

DOMAIN = "com.microsoft"
ALIKE = {
    "QLinearAdd": ("Add", (0, 3)), "QLinearMul": ("Mul", (0, 3)), "QLinearSigmoid": ("Identity", (0,)),
    "QLinearLeakyRelu": ("Identity", (0,)), "QLinearSoftmax": ("Identity", (0,)),
    "QLinearAveragePool": ("AveragePool", (0,)), "QLinearGlobalAveragePool": ("GlobalAveragePool", (0,)),
    "QuantizeLinear": ("QuantizeLinear", (0, 1, 2)), "DequantizeLinear": ("DequantizeLinear", (0, 1, 2)),
    "QGemm": ("Gemm", (0, 3)), "FusedGemm": ("Gemm", (0, 1, 2)), "FusedConv": ("Conv", (0, 1, 2)),
    "FusedMatMul": ("MatMul", (0, 1)), "DynamicQuantizeMatMul": ("MatMul", (0, 1)),
    "MatMulIntegerToFloat": ("MatMulInteger", (0, 1)), "Gelu": ("Identity", (0,)), "FastGelu": ("Identity", (0,)),
    "QuickGelu": ("Identity", (0,)), "BiasGelu": ("Identity", (0,)), "SkipLayerNormalization": ("Identity", (0,)),
    "SkipSimplifiedLayerNormalization": ("Identity", (0,)),
}  # fmt: skip
"""What stands in for which, and for the inputs of it."""
ELSEWISE = ("channels_last", "transA", "transB", "transBatchA", "transBatchB")
"""Attributes by which a result has other shapes than the stand-in's, unless it has them too."""
SUM = 3  # the place of what a skip and its input come to, among outputs


def stand_in(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """The nodes that shapes are inferred by: the node itself, where nothing stands in for it."""
    kind, places = ALIKE.get(node.op_type, ("", ()))
    odd = any(a.name in ELSEWISE and a.i for a in node.attribute) and kind != "Gemm"
    if node.domain != DOMAIN or not kind or odd:
        return [node]
    inputs = [node.input[at] for at in places if at < len(node.input)]
    made = [onnx.NodeProto(op_type=kind, input=inputs, output=node.output[:1], attribute=node.attribute)]
    if node.op_type.startswith("Skip") and len(node.output) > SUM and node.output[SUM]:
        made.append(onnx.NodeProto(op_type="Identity", input=inputs, output=[node.output[SUM]]))
    return made
