"""An ONNX graph with a precision for each group of operators: int8 in QDQ form, or float32."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
FLOAT = "/float"
"""What the names of weights as they were end in: quantizing leaves their own names to what is dequantized."""


@dataclass(frozen=True)
class Grouped:
    """A quantized graph, its operators in groups that have one precision each.

    Attributes:
        quantized: With QuantizeLinear and DequantizeLinear before each input that is quantized.
        members: By group, the names of its operators; a group is called as the operator with weights that begins it.
        plain: By value that is dequantized, the float one that it stands for.
        stored: By the name that they get here, the weights and biases as they were before.
    """

    quantized: onnx.ModelProto
    members: Mapping[str, tuple[str, ...]]
    plain: Mapping[str, str]
    stored: Mapping[str, onnx.TensorProto]

    @classmethod
    def of(cls, quantized: onnx.ModelProto, original: onnx.ModelProto) -> Grouped:
        """Group what follows each operator with quantized weights, up to the next.

        Args:
            quantized: By ONNX Runtime, in QDQ form.
            original: What it was given.
        """
        stored = {f"{tensor.name}{FLOAT}": tensor for tensor in original.graph.initializer}
        plain = _plain(quantized.graph, stored)
        group_of: dict[str, str] = {}  # by value
        order = {"": -1}
        members: dict[str, list[str]] = {}
        for node in quantized.graph.node:
            group = max((group_of.get(value, "") for value in node.input), key=order.__getitem__, default="")
            if any((tensor := stored.get(plain.get(value, ""))) and len(tensor.dims) > 1 for value in node.input):
                group = node.name
                order[group] = len(order)
            group_of.update(dict.fromkeys(node.output, group))
            if node.op_type not in (QUANTIZE, DEQUANTIZE) and group:
                members.setdefault(group, []).append(node.name)
        return cls(quantized, {name: tuple(found) for name, found in members.items()}, plain, stored)

    def borders(self) -> list[tuple[str, str, int]]:
        """Groups between which floats pass, and how many of these one sample has; an unknown size counts as one."""
        group_of = {name: group for group, names in self.members.items() for name in names}
        producer = {value: node.name for node in self.quantized.graph.node for value in node.output}
        sizes = {
            value.name: math.prod(max(1, dim.dim_value) for dim in value.type.tensor_type.shape.dim)
            for value in self.quantized.graph.value_info
        }
        found: dict[tuple[str, str], int] = defaultdict(int)
        for node in self.quantized.graph.node:
            for value in node.input:
                source = self.plain.get(value, value)
                one, other = group_of.get(producer.get(source, "")), group_of.get(node.name)
                if one and other and one != other:
                    found[one, other] += sizes.get(source, 1)
        return [(one, other, count) for (one, other), count in found.items()]

    def mixed(self, precisions: Mapping[str, str]) -> onnx.ModelProto:
        """The graph with these precisions, by group: `int8` or `f32`."""
        import onnx

        wanted = {name: precisions[group] for group, names in self.members.items() for name in names}
        made = onnx.ModelProto()
        made.CopyFrom(self.quantized)
        for node in made.graph.node:
            if node.op_type not in (QUANTIZE, DEQUANTIZE) and wanted.get(node.name) != "int8":
                for place, value in enumerate(node.input):
                    node.input[place] = self.plain.get(value, value)
        _sweep(made.graph)
        for name in sorted({value for node in made.graph.node for value in node.input} & self.stored.keys()):
            tensor = made.graph.initializer.add()
            tensor.CopyFrom(self.stored[name])
            tensor.name = name
        return made


def _plain(graph: onnx.GraphProto, stored: Mapping[str, onnx.TensorProto]) -> dict[str, str]:
    quantizers = {node.output[0]: node for node in graph.node if node.op_type == QUANTIZE}
    found = {}
    for node in graph.node:
        if node.op_type != DEQUANTIZE:
            continue
        source = node.input[0]
        if source in quantizers:
            found[node.output[0]] = quantizers[source].input[0]
        elif (name := f"{source.removesuffix('_quantized')}{FLOAT}") in stored:
            found[node.output[0]] = name
    return found


def _sweep(graph: onnx.GraphProto) -> None:
    """Remove what nothing uses any more."""
    results = {value.name for value in graph.output}
    while True:
        used = results | {value for node in graph.node for value in node.input}
        idle = [node for node in graph.node if node.op_type in (QUANTIZE, DEQUANTIZE) and node.output[0] not in used]
        if not idle:
            break
        for node in idle:
            graph.node.remove(node)
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
