"""A graph of OpenVINO's with a precision for each group of operators: int8, bf16 or f32."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from .._quiet import openvino

HALVED = frozenset({
    "Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul",
    "Add", "AvgPool", "Clamp", "Concat", "Divide", "Elu", "Gelu", "HSigmoid", "HSwish", "HardSigmoid", "MVN", "MaxPool",
    "Mish", "Multiply", "PRelu", "Pad", "ReduceMean", "Relu", "Reshape", "ScaledDotProductAttention", "Sigmoid",
    "Slice", "Softmax", "Split", "Squeeze", "StridedSlice", "Subtract", "Swish", "Tanh", "Transpose", "Unsqueeze",
    "VariadicSplit",
})  # fmt: skip
"""What may be computed in bf16, all floats that go in being of one type."""
MOVING = frozenset({
    "AvgPool", "Clamp", "DepthToSpace", "MaxPool", "PRelu", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Relu",
    "Reshape", "Split", "Squeeze", "StridedSlice", "Transpose", "Unsqueeze", "VariadicSplit",
})  # fmt: skip
"""What OpenVINO moves the scale of integers past."""
FAKE = "FakeQuantize"
MOST = 3.3895e38
"""What bf16 can hold; more, as masks of attention have, would become infinite."""


@dataclass(frozen=True)
class _Read:
    """A value that an operator reads: by name, and by the number of the group that makes it and of that which reads it.

    Attributes:
        node: Has the input that reads it: the operator, or the FakeQuantize before it.
        port: The input's number.
        count: Numbers that one sample has of it.
    """

    value: str
    node: str
    port: int
    source: int
    reader: int
    count: int


@dataclass(frozen=True)
class Grouped:
    """A quantized graph, its operators in groups that have one precision each.

    Attributes:
        graph: With FakeQuantize before each input that is quantized, weights still in float32.
        biases: What NNCF has corrected, as it was: by name of the addition.
        members: By group, the names of its operators; a group is called as the operator with weights that begins it.
    """

    graph: Any
    biases: Mapping[str, Any]
    members: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, quantized: Any, original: Any) -> Grouped:
        """Group what follows each operator with quantized weights, up to the next.

        Args:
            quantized: By NNCF, its weights not compressed.
            original: What it was given.
        """
        members: dict[str, list[str]] = {}
        group_of: dict[str, str] = {}
        order: dict[str, int] = {"": -1}
        for node in quantized.get_ordered_ops():
            name, kind = node.get_friendly_name(), node.get_type_name()
            if kind in ("Constant", "Result", "Parameter"):
                continue
            before = [group_of.get(value.get_node().get_friendly_name(), "") for value in node.input_values()]
            group = max(before, key=order.__getitem__, default="")
            if kind != FAKE and any(_is_weight(value) for value in node.input_values()):
                group = name
                order[name] = len(order)
            group_of[name] = group
            if kind != FAKE:
                members.setdefault(group, []).append(name)
        members.pop("", None)  # what comes before all weights stays as it is
        return cls(quantized, _corrected(quantized, original), {name: tuple(found) for name, found in members.items()})

    def borders(self) -> list[tuple[str, str, int]]:
        """Groups between which floats pass, and how many of these one sample has; a free size counts as one."""
        names, found = list(self.members), dict[tuple[str, str], int]()
        for read in self._reads:
            if 0 <= read.source != read.reader:
                key = names[read.source], names[read.reader]
                found[key] = found.get(key, 0) + read.count
        return [(one, other, count) for (one, other), count in found.items()]

    def passing(self, group: str) -> tuple[str, ...]:
        """The values that come from before a group and are read in it or after it; none where the model keeps a state.

        Groups follow what they read from, so that nothing before the cut reads what is made after it.
        """
        return () if self.graph.get_sinks() else tuple(dict.fromkeys(read.value for read in self._crossing(group)))

    def since(self, group: str) -> Grouped:
        """What follows the cut before a group; its inputs are what passes there."""
        library, graph = openvino(), self.graph.clone()
        nodes = {node.get_friendly_name(): node for node in graph.get_ordered_ops()}
        inputs: dict[str, Any] = {}
        for read in self._crossing(group):
            port = nodes[read.node].input(read.port)
            if read.value not in inputs:
                source = port.get_source_output()
                made = library.opset13.parameter(source.get_partial_shape(), source.get_element_type(), name=read.value)
                made.output(0).get_tensor().set_names({read.value})
                inputs[read.value] = made
            port.replace_source_output(inputs[read.value].output(0))
        members = dict(list(self.members.items())[self._place(group) :])
        later = {name for found in members.values() for name in found}
        results = [result for result in graph.get_results() if _unrounded(result.input_value(0)) in later]
        return replace(self, graph=library.Model(results, list(inputs.values()), "rest"), members=members)

    def telling(self, values: Iterable[str]) -> Grouped:
        """The same, with these values among the outputs."""
        graph = self.graph.clone()
        nodes = {node.get_friendly_name(): node for node in graph.get_ordered_ops()}
        for value in values:
            name, _, place = value.rpartition(":")
            output = nodes[name].output(int(place))
            output.get_tensor().add_names({value})
            graph.add_outputs(output)
        return replace(self, graph=graph)

    def _place(self, group: str) -> int:
        return list(self.members).index(group)

    def _crossing(self, group: str) -> Iterator[_Read]:
        place = self._place(group)
        return (read for read in self._reads if read.source < place <= read.reader)

    @cached_property
    def _reads(self) -> Sequence[_Read]:
        """What is read in groups, but what hangs on constants only; before it is rounded, as floats read it."""
        place = {name: number for number, names in enumerate(self.members.values()) for name in names}
        moving, rounds, found = set[str](), dict[str, _Read](), list[_Read]()
        for node in self.graph.get_ordered_ops():
            name, kind = node.get_friendly_name(), node.get_type_name()
            if kind in ("Parameter", "ReadValue"):
                moving.add(name)
            for port, value in enumerate(node.input_values()):
                source = value.get_node().get_friendly_name()
                if source not in moving:
                    continue
                moving.add(name)
                sizes = [dim.get_length() if dim.is_static else 1 for dim in value.get_partial_shape()]
                key = f"{source}:{value.get_index()}"
                read = _Read(key, name, port, place.get(source, -1), place.get(name, -1), math.prod(sizes))
                if source in rounds:
                    read = replace(rounds[source], reader=read.reader)
                if kind == FAKE:
                    rounds[name] = read
                elif name in place:
                    found.append(read)
        return found

    def mixed(self, precisions: Mapping[str, str], compressed: bool = False) -> Any:
        """The graph with these precisions, by group: `int8`, `bf16` or `f32`.

        Args:
            compressed: Whether weights are stored as int8, too.
        """
        graph = self.graph.clone()
        wanted = {name: precisions[group] for group, names in self.members.items() for name in names}
        nodes = {node.get_friendly_name(): node for node in graph.get_ordered_ops()}
        for node in nodes.values():
            if node.get_type_name() == FAKE:
                for port in node.output(0).get_target_inputs():
                    if wanted.get(port.get_node().get_friendly_name()) != "int8":
                        port.replace_source_output(node.input_value(0))
        _hold(node for name, node in nodes.items() if wanted.get(name) == "int8")
        for name, bias in self.biases.items():
            if name in nodes and wanted.get(name, "int8") != "int8":
                _constant_input(nodes[name]).replace_source_output(bias.output(0))
        halved = {name for name, node in nodes.items() if wanted.get(name) == "bf16" and node.get_type_name() in HALVED}
        _halve(graph, nodes, halved)
        graph.validate_nodes_and_infer_types()
        if compressed:
            from openvino import _offline_transformations  # as NNCF does

            _offline_transformations.compress_quantize_weights_transformation(graph)
        return graph


def _hold(nodes: Iterable[Any]) -> None:
    """Let what only moves or reduces values read them through a power of one where another operator reads them, too.

    OpenVINO (2026.4) multiplies by the scale of a convolution in int8 behind such an operator. Where sizes are free it
    does so with what another reader had it multiply already: a mean, say, is ten thousandth of what it was.
    """
    library = openvino()
    for output in (output for node in nodes for output in node.outputs() if output.get_partial_shape().is_dynamic):
        ports = output.get_target_inputs()
        movers = [port for port in ports if _moves(port.get_node())]
        if len(ports) > 1 and movers and output.get_element_type() == library.Type.f32:
            held = library.opset13.power(output, library.opset13.constant(np.float32(1)))
            held.set_friendly_name(f"{output.get_node().get_friendly_name()}/held")
            for port in movers:
                port.replace_source_output(held.output(0))


def _moves(node: Any) -> bool:
    if node.get_type_name() == FAKE:
        return any(_moves(port.get_node()) for port in node.output(0).get_target_inputs())
    return node.get_type_name() in MOVING


def _unrounded(value: Any) -> str:
    """The name of what makes a value, before it is rounded."""
    while value.get_node().get_type_name() == FAKE:
        value = value.get_node().input_value(0)
    return str(value.get_node().get_friendly_name())


def _is_weight(value: Any) -> bool:
    kinds = [value.get_node().get_type_name()]
    while kinds[-1] in ("Reshape", "Convert", FAKE):
        value = value.get_node().input_value(0)
        kinds.append(value.get_node().get_type_name())
    return FAKE in kinds and kinds[-1] == "Constant"


def _corrected(quantized: Any, original: Any) -> dict[str, Any]:
    """The biases that differ, as they were, by name of the addition."""
    before = {node.get_friendly_name(): node for node in original.get_ordered_ops()}
    found = {}
    for node in quantized.get_ordered_ops():
        known = before.get(node.get_friendly_name())
        if node.get_type_name() != "Add" or known is None:
            continue
        new, old = _constant_input(node), _constant_input(known)
        if new is None or old is None:
            continue
        constant = old.get_source_output().get_node()
        if not np.array_equal(new.get_source_output().get_node().data, constant.data):
            found[node.get_friendly_name()] = constant
    return found


def _constant_input(node: Any) -> Any:
    return next(
        (port for port in node.inputs() if port.get_source_output().get_node().get_type_name() == "Constant"), None
    )


def _halve(graph: Any, nodes: Mapping[str, Any], names: set[str]) -> None:
    """Compute these in bf16; what goes in and comes out is converted at the borders only."""
    library = openvino()
    inside: dict[tuple[str, int], Any] = {}
    outside: dict[tuple[str, int], Any] = {}
    for name in names:
        for port in nodes[name].inputs():
            source = port.get_source_output()
            if source.get_element_type() != library.Type.f32 or source.get_node().get_friendly_name() in names:
                continue
            key = source.get_node().get_friendly_name(), source.get_index()
            if key not in inside:
                inside[key] = _half(source)
            port.replace_source_output(inside[key])
        for output in nodes[name].outputs():
            if output.get_element_type() != library.Type.f32:
                continue
            for port in output.get_target_inputs():
                if port.get_node().get_friendly_name() not in names:
                    key = name, output.get_index()
                    if key not in outside:
                        outside[key] = library.opset13.convert(output, "f32").output(0)
                    port.replace_source_output(outside[key])


def _half(source: Any) -> Any:
    library = openvino()
    node = source.get_node()
    if node.get_type_name() != "Constant":
        return library.opset13.convert(source, "bf16").output(0)
    bits = np.clip(node.data, -MOST, MOST, dtype=np.float32).view(np.uint32)
    rounded = np.asarray((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16, np.uint16)  # to the nearest, ties to even
    tensor = library.Tensor(rounded, library.Shape(node.data.shape), library.Type.bf16)
    return library.op.Constant(tensor, shared_memory=False).output(0)
