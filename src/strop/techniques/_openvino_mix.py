"""A graph of OpenVINO's with a precision for each group of operators: int8, bf16, f32, or weights alone rounded."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from .._quiet import openvino
from ._mix import WEIGHTS
from ._openvino_fit import SMOOTHED, Fitted, Stored
from ._openvino_graph import FAKE, is_weight, tell
from ._rounding import bf16

HALVED = frozenset({
    "Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul",
    "Add", "AvgPool", "Clamp", "Concat", "Divide", "Elu", "Gelu", "HSigmoid", "HSwish", "HardSigmoid", "MVN", "MaxPool",
    "Mish", "Multiply", "PRelu", "Pad", "ReduceMean", "Relu", "Reshape", "ScaledDotProductAttention", "Sigmoid",
    "Slice", "Softmax", "Split", "Squeeze", "StridedSlice", "Subtract", "Swish", "Tanh", "Transpose", "Unsqueeze",
    "VariadicSplit",
})  # fmt: skip
"""What may be computed in bf16, all floats that go in being of one type."""
OUTSIDE = frozenset({"Constant", "Parameter", "Result"})  # of all groups


@dataclass(frozen=True)
class _Read:
    """A value that an operator reads: by name, and by the number of the group that makes it and of that which reads it.

    Attributes:
        node: Has the input that reads it: the operator, or the FakeQuantize before it.
        port: The input's number.
    """

    value: str
    node: str
    port: int
    source: int
    reader: int


@dataclass(frozen=True)
class Grouped:
    """A quantized graph, its operators in groups that have one precision each.

    Attributes:
        graph: With FakeQuantize before each input that is quantized, weights still in float32.
        fitted: What operators have for weights and biases, by precision.
        members: By group, the names of its operators; a group is called as the operator with weights that begins it.
        widths: By FakeQuantize, how many times as wide its range is.
    """

    graph: Any
    fitted: Fitted
    members: Mapping[str, tuple[str, ...]]
    widths: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, quantized: Any, fitted: Fitted) -> Grouped:
        """Group what follows each operator with quantized weights, up to the next.

        Args:
            quantized: By NNCF, its weights not compressed and its biases not corrected.
            fitted: What operators have for weights and biases, by precision.
        """
        group_of: dict[str, str] = {}
        order: dict[str, int] = {"": -1}
        nodes = [node for node in quantized.get_ordered_ops() if node.get_type_name() not in OUTSIDE]
        for node in nodes:
            name = node.get_friendly_name()
            before = [group_of.get(value.get_node().get_friendly_name(), "") for value in node.input_values()]
            group = max(before, key=order.__getitem__, default="")
            if node.get_type_name() != FAKE and any(is_weight(value) for value in node.input_values()):
                group = name
                order[name] = len(order)
            group_of[name] = group
        group_of |= _rounded_for(nodes, group_of, order)
        members: dict[str, list[str]] = {group: [group] for group in order}
        for node in nodes:
            name = node.get_friendly_name()
            if node.get_type_name() != FAKE and name not in members:
                members[group_of[name]].append(name)
        members.pop("", None)  # what comes before all weights stays as it is
        return cls(quantized, fitted, {name: tuple(found) for name, found in members.items()})

    def borders(self) -> list[tuple[str, str, Sequence[str]]]:
        """Groups between which floats pass, and which; none of these can be told where the model keeps a state."""
        names, found = list(self.members), dict[tuple[str, str], dict[str, None]]()
        for read in self._reads:
            if 0 <= read.source != read.reader:
                found.setdefault((names[read.source], names[read.reader]), {})[read.value] = None
        known = not self.graph.get_sinks()
        return [(one, other, tuple(values) if known else ()) for (one, other), values in found.items()]

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
        tell(graph, values)
        return replace(self, graph=graph)

    @cached_property
    def ranged(self) -> Mapping[str, Sequence[str]]:
        """By group, what rounds values that it alone reads; a value has one range, for it is rounded once."""
        group_of = {name: group for group, names in self.members.items() for name in names}
        found = dict[str, list[str]]()
        for node in self.graph.get_ordered_ops():
            if node.get_type_name() == FAKE and not is_weight(node.output(0)):
                names = (port.get_node().get_friendly_name() for port in node.output(0).get_target_inputs())
                readers = {group_of.get(name, "") for name in names}
                if len(readers) == 1 and readers != {""}:
                    found.setdefault(readers.pop(), []).append(node.get_friendly_name())
        return found

    def widened(self, widths: Mapping[str, float]) -> Grouped:
        """The same, ranges that groups alone read being so many times as wide."""
        return replace(self, widths={name: width for group, width in widths.items() for name in self.ranged[group]})

    @property
    def weights(self) -> Mapping[str, Collection[str]]:
        """The groups whose weights may be rounded alone: by precision."""
        return {precision: self.members.keys() & self.fitted.get(precision, {}).keys() for precision in WEIGHTS}

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
                key = f"{source}:{value.get_index()}"
                read = _Read(key, name, port, place.get(source, -1), place.get(name, -1))
                if source in rounds:
                    read = replace(rounds[source], reader=read.reader)
                if kind == FAKE:
                    rounds[name] = read
                elif name in place:
                    found.append(read)
        return found

    def throughout(self) -> Any:
        """The graph in int8, its weights stored as such: what is in no group is rounded, too."""
        graph = self.graph.clone()
        nodes = {node.get_friendly_name(): node for node in graph.get_ordered_ops()}
        _fit(nodes, self.fitted["int8"].values())
        _hold(nodes, {name for names in self.members.values() for name in names})
        return _compressed(graph)

    def mixed(self, precisions: Mapping[str, str], compressed: bool = False) -> Any:
        """The graph with these precisions, by group: `int8`, `bf16`, `f32`, `int8 weights` or `int4 weights`.

        Args:
            compressed: Whether weights are stored as int8, too.
        """
        graph = self.graph.clone()
        wanted = {name: precisions[group] for group, names in self.members.items() for name in names}
        nodes = {node.get_friendly_name(): node for node in graph.get_ordered_ops()}
        for precision, fitted in self.fitted.items():
            _fit(nodes, (values for name, values in fitted.items() if wanted.get(name, "int8") == precision))
        for node in nodes.values():
            if node.get_type_name() == FAKE:
                for port in node.output(0).get_target_inputs():
                    if wanted.get(port.get_node().get_friendly_name()) != "int8":
                        port.replace_source_output(node.input_value(0))
        _widen((nodes[name], width) for name, width in self.widths.items() if name in nodes)
        _hold(nodes, {name for name in nodes if wanted.get(name) == "int8"})
        halved = {name for name, node in nodes.items() if wanted.get(name) == "bf16" and node.get_type_name() in HALVED}
        _halve(graph, nodes, halved)
        graph.validate_nodes_and_infer_types()
        return _compressed(graph) if compressed else graph


def _rounded_for(nodes: Sequence[Any], group_of: Mapping[str, str], order: Mapping[str, int]) -> dict[str, str]:
    """The operators that hand what was rounded before them to later groups only, and the first of these: theirs, too.

    What only moves values, such as a concatenation, has its inputs rounded in place of what it gives: were it in
    floats, so would be what reads it.

    Args:
        nodes: In the order in which they run.
        group_of: By operator, the group that it follows.
        order: By group, its place.
    """
    handing, found = _handing(nodes), dict[str, str]()
    for node in reversed(nodes):
        name = node.get_friendly_name()
        ports = (port for output in node.outputs() for port in output.get_target_inputs())
        readers = {port.get_node().get_friendly_name() for port in ports}
        later = {found.get(one, group_of[one]) for one in readers if one in group_of}
        if name in handing and later and group_of[name] not in later:
            found[name] = min(later, key=order.__getitem__)
    return found


def _handing(nodes: Iterable[Any]) -> set[str]:
    """The operators without weights all of whose inputs are rounded: they hand integers on.

    Args:
        nodes: In the order in which they run.
    """
    handing = set[str]()
    for node in nodes:
        inputs = [value.get_node() for value in node.input_values()]
        read = [one for one in inputs if one.get_type_name() != "Constant"]
        rounded = [one.get_type_name() == FAKE or one.get_friendly_name() in handing for one in read]
        weighs = any(is_weight(value) for value in node.input_values())
        if rounded and all(rounded) and node.get_type_name() != FAKE and not weighs:
            handing.add(node.get_friendly_name())
    return handing


def _fit(nodes: Mapping[str, Any], fitted: Iterable[Mapping[str, np.ndarray[Any, Any] | Stored]]) -> None:
    """Give operators the weights and biases that they have in a precision."""
    for name, values in (known for each in fitted for known in each.items() if known[0] in nodes):
        if isinstance(values, Stored):
            _store(nodes[name], values)
            continue
        port = nodes[name].input(0) if nodes[name].get_type_name() == FAKE else _constant_input(nodes[name])
        port.replace_source_output(openvino().opset13.constant(values).output(0))


def _store(rounds: Any, stored: Stored) -> None:
    """Let an operator read integers in place of rounded weights, and what it reads as it was before SmoothQuant."""
    unpacked = _unpacked(stored).output(0)
    for port in rounds.output(0).get_target_inputs():
        port.replace_source_output(unpacked)
        if stored.smoothed is None:
            continue
        read = port.get_node().input(0)
        source = read.get_source_output()
        while source.get_node().get_type_name() == FAKE:
            source = source.get_node().input_value(0)
        if source.get_node().get_friendly_name().endswith(SMOOTHED):
            read.replace_source_output(source.get_node().input_value(0))
        else:  # it was made before a cut
            factors = openvino().opset13.constant((1 / stored.smoothed).astype(np.float32))
            read.replace_source_output(openvino().opset13.multiply(source, factors).output(0))


def _unpacked(stored: Stored) -> Any:
    """Weights as OpenVINO reads them without writing floats to memory: integers, converted and multiplied."""
    library = openvino()
    made = library.opset13
    integers = np.ascontiguousarray(stored.integers)
    if stored.bits == 4:
        low, high = (integers.reshape(-1, 2) & 15).astype(np.uint8).T
        packed = library.Tensor(low | high << 4, library.Shape(integers.shape), library.Type.i4)
        constant = library.op.Constant(packed, shared_memory=False)
    else:
        constant = made.constant(integers)
    values = made.multiply(made.convert(constant, "f32"), made.constant(np.ascontiguousarray(stored.steps)))
    return (
        values if integers.shape == stored.shape else made.reshape(values, made.constant(np.array(stored.shape)), False)
    )


def _compressed(graph: Any) -> Any:
    from openvino import _offline_transformations  # as NNCF does

    graph.validate_nodes_and_infer_types()
    _offline_transformations.compress_quantize_weights_transformation(graph)
    return graph


def _widen(roundings: Iterable[tuple[Any, float]]) -> None:
    """Stretch ranges."""
    for node, width in roundings:
        for port in node.inputs()[1:]:
            known = port.get_source_output().get_node().data
            bound = known * np.float32(width)
            port.replace_source_output(openvino().opset13.constant(bound).output(0))


def _hold(nodes: Mapping[str, Any], names: Collection[str]) -> None:
    """Let several operators read an output of these through a power of one, unless it is integers.

    OpenVINO (2026.4) moves the scale of a convolution in int8 to those that read it. Where sizes are free and one of
    several takes it otherwise than the others, it is multiplied by twice, or left out: a mean, say, is ten thousandth
    of what it was. The power is fused into what makes the output, and takes no time.
    """
    library, handing = openvino(), _handing(nodes.values())
    made = [node for name, node in nodes.items() if name in names and name not in handing]
    for output in (output for node in made for output in node.outputs() if output.get_partial_shape().is_dynamic):
        ports = output.get_target_inputs()
        if len(ports) > 1 and output.get_element_type() == library.Type.f32:
            held = library.opset13.power(output, library.opset13.constant(np.float32(1)))
            held.set_friendly_name(f"{output.get_node().get_friendly_name()}/held")
            for port in ports:
                port.replace_source_output(held.output(0))


def _unrounded(value: Any) -> str:
    """The name of what makes a value, before it is rounded."""
    while value.get_node().get_type_name() == FAKE:
        value = value.get_node().input_value(0)
    return str(value.get_node().get_friendly_name())


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
    rounded = np.asarray(bf16(node.data).view(np.uint32) >> 16, np.uint16)
    tensor = library.Tensor(rounded, library.Shape(node.data.shape), library.Type.bf16)
    return library.op.Constant(tensor, shared_memory=False).output(0)
