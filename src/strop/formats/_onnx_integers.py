"""Integers of an ONNX graph: what ONNX Runtime's own optimizer fused, so that values lie there as integers only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    import onnx
else:
    onnx = lazy("onnx")

SUFFIX = "_QuantizeLinear_Output"  # by which ONNX Runtime's quantizer calls a value that is rounded
READS = ("QLinear", "QGemm", "DequantizeLinear")  # what has the step and the zero of an input right behind it
MAKES = {"QLinearConv": 6, "QLinearMatMul": 6, "QLinearAdd": 6, "QLinearMul": 6, "QGemm": 7}
"""Where those of what it makes are."""


def restored(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Give values that are integers only their floats back, under the names that they had: each is restored, and then
    rounded by the same step, which changes none.

    Args:
        proto: Free to be changed; it is what is returned.
    """
    graph = proto.graph
    known = {name for node in graph.node for name in (*node.input, *node.output)}
    results = {value.name for value in graph.output}
    steps: dict[str, list[str]] = {}
    for node in graph.node:
        if (place := MAKES.get(node.op_type, 0)) and len(node.input) > place:
            steps[node.output[0]] = list(node.input[place : place + 2])
        if node.op_type.startswith(READS):
            for place, value in enumerate(node.input):
                if value.endswith(SUFFIX) and len(node.input) > place + 2:
                    steps.setdefault(value, list(node.input[place + 1 : place + 3]))
    nodes, again = [], dict[str, str]()
    for node in graph.node:
        for place, value in enumerate(node.input):
            node.input[place] = again.get(value, value)
        nodes.append(node)
        for value in node.output:
            name = value.removesuffix(SUFFIX)
            if value in steps and value not in results and name not in known and node.op_type != "QuantizeLinear":
                again[value] = f"{name}_rounded_again"
                for kind, given, made in (("Dequantize", value, name), ("Quantize", name, again[value])):
                    inputs = [given, *steps[value]]
                    nodes.append(onnx.helper.make_node(f"{kind}Linear", inputs, [made], name=f"strop:{kind} {name}"))
    if again:
        del graph.node[:]
        graph.node.extend(nodes)
    return proto
