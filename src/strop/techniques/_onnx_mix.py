"""An ONNX graph with a precision for each group of operators: int8 in QDQ form, or float32."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..formats._onnx_inside import reads
from ._mix import BITS, WEIGHTS
from ._onnx_blocks import BLOCK, exchange, few, fits, plain
from ._onnx_floats import keep_floats

if TYPE_CHECKING:
    import onnx

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
CLIPPING = ("Relu", "Clip")
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
        widths: By the name of its scale, how many times as wide a range of activations is.
    """

    quantized: onnx.ModelProto
    members: Mapping[str, tuple[str, ...]]
    plain: Mapping[str, str]
    stored: Mapping[str, onnx.TensorProto]
    widths: Mapping[str, float] = field(default_factory=dict)

    @property
    def operators(self) -> Sequence[onnx.NodeProto]:
        return self.quantized.graph.node

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

    def borders(self) -> list[tuple[str, str, Sequence[str]]]:
        """Groups between which floats pass, and which of these can be told."""
        names, found = list(self.members), dict[tuple[str, str], dict[str, None]]()
        for value, source, reader in self._reads:
            if 0 <= source != reader:
                found.setdefault((names[source], names[reader]), {})[value] = None
        return [
            (one, other, tuple(value for value in values if value in self._types))
            for (one, other), values in found.items()
        ]

    def passing(self, group: str) -> tuple[str, ...]:
        """The values that come from before a group and are read in it or after it; none where one's type is not known.

        Groups follow what they read from, so that nothing before the cut reads what is made after it.
        """
        place = list(self.members).index(group)
        found = dict.fromkeys(value for value, source, reader in self._reads if source < place <= reader)
        return tuple(found) if found.keys() <= self._types.keys() else ()

    def since(self, group: str) -> Grouped:
        """What follows the cut before a group; its inputs are what passes there."""
        import onnx

        members = dict(list(self.members.items())[list(self.members).index(group) :])
        kept = {name for names in members.values() for name in names}
        results = [value for value in self.quantized.graph.output if self._maker(value.name) in kept]
        wanted, nodes = {value.name for value in results}, list[onnx.NodeProto]()
        for node in reversed(self.quantized.graph.node):
            rounds = node.op_type in (QUANTIZE, DEQUANTIZE) and node.output[0] in wanted
            if node.name in kept or rounds:
                wanted.update(reads(node))
                nodes.insert(0, node)
        made = onnx.ModelProto()
        made.CopyFrom(self._frame)
        made.graph.node.extend(nodes)
        made.graph.input.extend(self._types[value] for value in self.passing(group))
        made.graph.output.extend(results)
        made.graph.initializer.extend(one for one in self.quantized.graph.initializer if one.name in wanted)
        return replace(self, quantized=made, members=members)

    def telling(self, values: Iterable[str]) -> Grouped:
        """The same, with these values among the outputs; inputs are not, for who asks has given them."""
        import onnx

        known = {value.name for value in (*self.quantized.graph.input, *self.quantized.graph.output)}
        made = onnx.ModelProto()
        made.CopyFrom(self.quantized)
        made.graph.output.extend(self._types[value] for value in values if value not in known)
        return replace(self, quantized=made)

    @cached_property
    def ranged(self) -> Mapping[str, Sequence[str]]:
        """By group, the scales of values that it alone reads; a value has one range, for it is rounded once."""
        group_of = {name: group for group, names in self.members.items() for name in names}
        readers = defaultdict[str, set[str]](set)
        rounds = {node.input[1] for node in self.quantized.graph.node if node.op_type == QUANTIZE}
        for node in self.quantized.graph.node:
            for value in reads(node):
                maker = self._makers.get(value)
                if maker is not None and maker.op_type == DEQUANTIZE and maker.input[1] in rounds:
                    readers[maker.input[1]].add(group_of.get(node.name, ""))
        found = dict[str, list[str]]()
        for scale, groups in readers.items():
            if len(groups) == 1 and groups != {""}:
                found.setdefault(groups.pop(), []).append(scale)
        return found

    def widened(self, widths: Mapping[str, float]) -> Grouped:
        """The same, ranges that groups alone read being so many times as wide."""
        return replace(self, widths={scale: width for group, width in widths.items() for scale in self.ranged[group]})

    @cached_property
    def weights(self) -> Mapping[str, Collection[str]]:
        """The groups whose weights may be rounded alone: by precision."""
        able = set[str]()
        for node in self.quantized.graph.node:
            if node.name in self.members and fits(node):
                value, weights = (self.plain.get(one, one) for one in node.input[:2])
                if plain(self.stored.get(weights)) and few(self._types.get(value)):
                    able.add(node.name)
        return dict.fromkeys(WEIGHTS, able)

    @cached_property
    def _reads(self) -> Sequence[tuple[str, int, int]]:
        """What is read in groups and is not stored, before it is rounded; the numbers of who makes and who reads it."""
        place = {name: number for number, names in enumerate(self.members.values()) for name in names}
        stored = {tensor.name for tensor in self.quantized.graph.initializer}
        return [
            (source, place.get(self._maker(source), -1), place[node.name])
            for node in self.quantized.graph.node if node.name in place
            for value in reads(node) if (source := self._unrounded(value)) not in stored
        ]  # fmt: skip

    def _unrounded(self, value: str) -> str:
        while (maker := self._makers.get(value)) is not None and maker.op_type in (QUANTIZE, DEQUANTIZE):
            value = maker.input[0]
        return value

    def _maker(self, value: str) -> str:
        maker = self._makers.get(self._unrounded(value))
        return "" if maker is None else str(maker.name)

    @cached_property
    def _rounded(self) -> Mapping[str, str]:
        """By float value, what it is dequantized to."""
        return {plain: value for value, plain in self.plain.items()}

    @cached_property
    def _makers(self) -> Mapping[str, onnx.NodeProto]:
        return {value: node for node in self.quantized.graph.node for value in node.output}

    @cached_property
    def _types(self) -> Mapping[str, onnx.ValueInfoProto]:
        graph = self.quantized.graph
        return {value.name: value for value in (*graph.value_info, *graph.input, *graph.output)}

    @cached_property
    def _frame(self) -> onnx.ModelProto:
        """All but what is computed."""
        import onnx

        made = onnx.ModelProto()
        made.CopyFrom(self.quantized)
        for part in ("node", "input", "output", "initializer"):
            made.graph.ClearField(part)
        return made

    def mixed(self, precisions: Mapping[str, str]) -> onnx.ModelProto:
        """The graph with these precisions, by group: `int8`, `f32`, `int8 weights` or `int4 weights`."""
        import onnx

        wanted = {name: precisions[group] for group, names in self.members.items() for name in names}
        made = onnx.ModelProto()
        made.CopyFrom(self.quantized)
        whole = self._made_whole(wanted)
        for node in made.graph.node:
            if node.op_type not in (QUANTIZE, DEQUANTIZE) and wanted.get(node.name) != "int8":
                for place, value in enumerate(node.input):
                    if self._unrounded(value) not in whole:
                        node.input[place] = self.plain.get(value, value)
        renamed = self._told(wanted, whole)
        for node in made.graph.node:
            for values in (node.input, node.output):
                values[:] = [renamed.get(value, value) for value in values]
        _widen(made.graph, self.widths)
        for name in sorted({value for node in made.graph.node for value in reads(node)} & self.stored.keys()):
            tensor = made.graph.initializer.add()
            tensor.CopyFrom(self.stored[name])
            tensor.name = name
        keep_floats(made.graph)
        _sweep(made.graph)
        exchange(made, {group: BITS[one] for group, one in precisions.items() if one in WEIGHTS}, BLOCK)
        return made

    def _made_whole(self, wanted: Mapping[str, str]) -> set[str]:
        """What convolutions in int8 compute: floats read it rounded, too, for ONNX Runtime computes a convolution in
        integers only where all that reads it does. Of products it has kernels that give floats."""
        found = set[str]()
        for node in self.quantized.graph.node:
            maker = node
            while maker.op_type in CLIPPING and (before := self._makers.get(maker.input[0])) is not None:
                maker = before
            if wanted.get(node.name) == "int8" and maker.op_type == "Conv" and maker.input[0] in self.plain:
                found.update(node.output)
        return found & self._rounded.keys()

    def _told(self, wanted: Mapping[str, str], whole: Collection[str]) -> dict[str, str]:
        """Outputs change names with what is rounded to them where no int8 makes them, and int8 that reads on goes on to
        read the same; and values that are read rounded only are told so, too."""
        outputs, found = {value.name for value in self.quantized.graph.output}, dict[str, str]()
        for value in outputs:
            source = self._unrounded(value)
            exact = source != value and source in self._makers and wanted.get(self._maker(source)) != "int8"
            other = source if exact else self._rounded[value] if value in whole else value
            if other not in outputs:
                found |= {value: other, other: value}
        return found


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


def _widen(graph: onnx.GraphProto, widths: Mapping[str, float]) -> None:
    """Stretch scales; that of a bias is its input's and its weights' multiplied, and its integers are as many fewer."""
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in graph.initializer}
    makers = {node.output[0]: node for node in graph.node if node.op_type == DEQUANTIZE}
    stretched = dict(widths)
    for node in graph.node:
        known = [makers[value] for value in reads(node) if value in makers]
        width = widths.get(known[0].input[1], 1.0) if known else 1.0
        for maker in known[1:]:
            values = stored.get(maker.input[0])
            if values is not None and values.data_type == values.INT32:
                stretched |= {maker.input[1]: width, values.name: 1 / width}
    for name, width in stretched.items():
        if name in stored:
            array = numpy_helper.to_array(stored[name])
            wide = array * width
            if array.dtype == np.int32:
                limits = np.iinfo(np.int32)
                wide = np.clip(np.rint(wide), limits.min, limits.max)
            stored[name].CopyFrom(numpy_helper.from_array(wide.astype(array.dtype), name))


def _sweep(graph: onnx.GraphProto) -> None:
    """Remove what nothing uses any more."""
    results = {value.name for value in graph.output}
    while True:
        used = results | {value for node in graph.node for value in reads(node)}
        idle = [node for node in graph.node if node.op_type in (QUANTIZE, DEQUANTIZE) and node.output[0] not in used]
        if not idle:
            break
        for node in idle:
            graph.node.remove(node)
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
