"""An ONNX graph with a precision for each operator with weights: int8, its inputs rounded as it runs, or float32."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..formats._onnx_inside import reads
from ..formats.onnx_graph import named
from ._mix import BITS, WEIGHTS
from ._onnx_blocks import BLOCK, exchange, few, fits, plain

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Exchanged:
    """A graph, and the same in int8: each operator is taken from either, for what passes between them is the same.

    Attributes:
        exact: In floats, with the types of what passes.
        rounded: By ONNX Runtime's dynamic quantizer: what stands for an operator makes values of the same names.
    """

    exact: onnx.ModelProto
    rounded: onnx.ModelProto

    @property
    def operators(self) -> Sequence[onnx.NodeProto]:
        return self.exact.graph.node

    @cached_property
    def places(self) -> Mapping[str, Sequence[onnx.NodeProto]]:
        """By operator that is quantized, what stands in its place; what rounds its input may be in another's, too.

        A table that only such products read is rounded with them, for its floats are then nowhere in the rounded graph.
        """
        import onnx

        known = {value for node in self.exact.graph.node for value in node.output}
        known |= {one.name for values in (self.exact.graph.input, self.exact.graph.initializer) for one in values}
        eight = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
        weights = {one.name for one in self.rounded.graph.initializer if one.data_type in eight} - known
        makers = {value: node for node in self.rounded.graph.node for value in filter(None, node.output)}
        order = {node.name: number for number, node in enumerate(self.rounded.graph.node)}
        found = {}
        for node in self.exact.graph.node:
            inside, wanted = dict[str, Any](), list(node.output)
            while wanted:
                maker = makers.get(wanted.pop())
                if maker is None or maker.name in inside:
                    continue
                inside[maker.name] = maker
                wanted += [value for value in reads(maker) if value not in known]
            if any(value in weights for one in inside.values() for value in reads(one)):
                found[node.name] = sorted(inside.values(), key=lambda one: order[one.name])
        return found

    @cached_property
    def members(self) -> Mapping[str, Sequence[str]]:
        """By operator that is quantized, its name and the names of what stands in its place; no name comes twice."""
        taken, found = set[str](), {}
        for name, nodes in self.places.items():
            names = dict.fromkeys([name, *(node.name for node in nodes)])
            found[name] = tuple(one for one in names if one not in taken)
            taken.update(names)
        return found

    def borders(self) -> list[tuple[str, str, Sequence[str]]]:
        """None: floats pass between all."""
        return []

    def passing(self, group: str) -> tuple[str, ...]:
        """The values that come from before an operator and are read from it on, in either precision; none where one's
        type is not known."""
        cut = self._order[group]
        found = [value for value, (made, read) in self._spans.items() if made < cut <= read]
        return tuple(found) if self._types.keys() >= set(found) else ()

    def since(self, group: str) -> Exchanged:
        """What follows the cut before an operator; its inputs are what passes there."""
        exact = _copied(self.exact)
        del exact.graph.node[: self._order[group]], exact.graph.input[:], exact.graph.output[:]
        made = {value for node in exact.graph.node for value in node.output}
        exact.graph.input.extend(self._types[value] for value in self.passing(group))
        exact.graph.output.extend(one for one in self.exact.graph.output if one.name in made)
        return replace(self, exact=exact)

    def telling(self, values: Iterable[str]) -> Exchanged:
        """The same, with these values among the outputs; inputs are not, for who asks has given them."""
        known = {one.name for ends in (self.exact.graph.input, self.exact.graph.output) for one in ends}
        exact = _copied(self.exact)
        exact.graph.output.extend(self._types[value] for value in values if value not in known)
        return replace(self, exact=exact)

    def mixed(self, precisions: Mapping[str, str]) -> onnx.ModelProto:
        """The graph with these precisions, by operator: `int8`, `f32`, `int8 weights` or `int4 weights`."""
        nodes = dict[tuple[str, ...], Any]()  # a table rounded for a product lies beside the one that others read
        for node in self.exact.graph.node:
            rounded = precisions.get(node.name) == "int8"
            nodes.update({tuple(one.output): one for one in (self.places[node.name] if rounded else [node])})
        made = _copied(self.rounded)
        for field in ("node", "initializer", "value_info", "input", "output"):
            made.graph.ClearField(field)
        made.graph.input.extend(self.exact.graph.input)
        made.graph.output.extend(self.exact.graph.output)
        read, used = {one.name for one in self.exact.graph.output}, list[Any]()
        for node in reversed(nodes.values()):
            if not read.isdisjoint(node.output):
                used.append(node)
                read.update(reads(node))
        made.graph.node.extend(reversed(used))
        stored = {one.name: one for model in (self.exact, self.rounded) for one in model.graph.initializer}
        made.graph.initializer.extend(one for name, one in stored.items() if name in read)
        made = named(made)
        exchange(made, {name: BITS[one] for name, one in precisions.items() if one in WEIGHTS}, BLOCK)
        return made

    @property
    def ranged(self) -> Mapping[str, Sequence[str]]:
        """None: ranges are those of each call."""
        return {}

    def widened(self, widths: Mapping[str, float]) -> Exchanged:
        return self

    @cached_property
    def weights(self) -> Mapping[str, Collection[str]]:
        """The operators whose weights may be rounded alone: by precision."""
        stored = {one.name: one for one in self.exact.graph.initializer}
        able = {
            node.name for node in self.exact.graph.node
            if node.name in self.members and fits(node) and plain(stored.get(node.input[1]))
            and few(self._types.get(node.input[0]))
        }  # fmt: skip
        return dict.fromkeys(WEIGHTS, able)

    @cached_property
    def _order(self) -> Mapping[str, int]:
        return {node.name: number for number, node in enumerate(self.exact.graph.node)}

    @cached_property
    def _spans(self) -> Mapping[str, tuple[int, int]]:
        """By value, the numbers of who makes it (an input: -1) and of the last who reads it, in either precision."""
        last = {
            value: number for number, node in enumerate(self.exact.graph.node)
            for one in (node, *self.places.get(node.name, ())) for value in reads(one)
        }  # fmt: skip
        made = dict.fromkeys((one.name for one in self.exact.graph.input), -1)
        made |= {value: number for number, node in enumerate(self.exact.graph.node) for value in node.output}
        return {value: (number, last[value]) for value, number in made.items() if value in last}

    @cached_property
    def _types(self) -> Mapping[str, onnx.ValueInfoProto]:
        graph = self.exact.graph
        return {one.name: one for values in (graph.value_info, graph.input, graph.output) for one in values}


def _copied(model: onnx.ModelProto) -> onnx.ModelProto:
    made = type(model)()
    made.CopyFrom(model)
    return made
