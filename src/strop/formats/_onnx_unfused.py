"""Unfused: what ONNX Runtime fused of rounded numbers when it wrote its graph, in ONNX's own operators again.

A quantizer puts a pair around each value: one operator that rounds it to integers, and one that restores floats of
them. In the graph that ONNX Runtime writes, pairs and what is between them have become operators on integers
(`QLinearConv`, `QGemm`), and what only moves numbers takes integers too, so that no float is left between layers. With
the pairs in their places again, values have the names that they had, and the graph computes the same: ONNX Runtime
fuses them again as it loads it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .._lazy import lazy
from ._onnx_inside import RESTORE, ROUND
from .onnx_graph import OPSET, opset

if TYPE_CHECKING:
    import onnx
else:
    onnx = lazy("onnx")

MOVING = frozenset({
    "Expand", "Flatten", "Gather", "MaxPool", "Reshape", "Resize", "Slice", "Split", "Squeeze", "Tile", "Transpose",
    "Unsqueeze",
})  # fmt: skip
"""What ONNX Runtime does to integers as to floats, scale and zero point staying as they are."""
ENDS = ("_QuantizeLinear_Output", "_q_to_dq", "_pre_q", "_quantized")
"""What a quantizer and ONNX Runtime append to a value's name for its rounded form, or for what is to be rounded."""
OWN = frozenset({"channels_last", "opset"})
"""Attributes that ONNX's operators do not have."""


@dataclass(frozen=True)
class _Form:
    """Where an operator on integers reads what: behind each value its scale and its zero point.

    Attributes:
        rounded: The values.
        result: Scale and zero point of what it makes.
        bias: Integers of 32 bits, whose scale is the product of the others.
        plain: What is not rounded, and comes first.
    """

    rounded: tuple[int, ...]
    result: int
    bias: int | None = None
    plain: tuple[int, ...] = ()


_ONE, _TWO = _Form((0,), 3), _Form((0, 3), 6)
FORMS = {
    "QGemm": _Form((0, 3), 7, 6), "QLinearAdd": _TWO, "QLinearAveragePool": _ONE, "QLinearConcat": _Form((), 0),
    "QLinearConv": _Form((0, 3), 6, 8), "QLinearGlobalAveragePool": _ONE, "QLinearLeakyRelu": _ONE,
    "QLinearMatMul": _TWO, "QLinearMul": _TWO, "QLinearSigmoid": _ONE, "QLinearSoftmax": _ONE,
    "QLinearWhere": _Form((1, 4), 7, plain=(0,)),
}  # fmt: skip


def unfused(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Put pairs that round and restore values in the place of operators on integers; the graph given is used up.

    Nodes keep their names. Convolutions whose channels were laid out last have them first again, and what others move
    or add with channels last has lost its name. A graph of an opset that has no scale for each channel stays as it is.
    """
    if opset(proto) >= OPSET and any(node.op_type in FORMS for node in proto.graph.node):
        _Unfusing(proto.graph).run()
    return proto


def _stem(value: str) -> str:
    """What a value was called before it was rounded."""
    return next((value.removesuffix(end) for end in ENDS if value.endswith(end)), value)


class _Unfusing:
    def __init__(self, graph: onnx.GraphProto):
        self._graph, self._nodes = graph, list[onnx.NodeProto]()
        self._stored = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
        self._taken = {name for node in graph.node for name in (node.name, *node.input, *node.output)}
        self._steps: dict[str, list[str]] = {}  # of each value that is rounded as it is made: scale and zero point
        self._restored: dict[str, str] = {}
        self._sources: dict[str, str] = {}  # of what is rounded, and only moved since: the float to move instead
        self._renamed: dict[str, str] = {}
        self._first: dict[str, str] = {}  # of what has its channels last: the same, rounded too, with channels first
        self._zeros = Counter(_zero(node) for node in graph.node)

    def run(self) -> None:
        for node in self._graph.node:
            form = _form(node)
            if form is not None:
                self._unfuse(node, form)
            elif node.op_type in MOVING and node.input[0] in self._steps:
                self._move(node)
            else:
                self._nodes.append(node)
                if node.op_type == ROUND:
                    self._steps[node.output[0]], self._sources[node.output[0]] = list(node.input[1:3]), node.input[0]
                    self._rename(node.input[0])
        del self._graph.node[:], self._graph.value_info[:]  # which tells of integers where floats are now
        read, kept = {value.name for value in self._graph.output}, list[onnx.NodeProto]()
        for node in reversed(self._nodes):
            if node.op_type in (ROUND, RESTORE, "Transpose") and node.output[0] not in read:
                continue
            read |= set(node.input)
            for names in (node.input, node.output):
                names[:] = [self._renamed.get(name, name) for name in names]
            kept.append(node)
        self._graph.node.extend(reversed(kept))

    def _move(self, node: onnx.NodeProto) -> None:
        """Move floats in the place of integers, before they are rounded where that is done for no other reason."""
        value, made = node.input[0], list(node.output)
        source = self._sources.get(value)
        node.input[0] = source or self._float(value)
        self._add(node, self._steps[value])
        if source is not None:
            self._sources |= dict(zip(made, node.output, strict=True))

    def _unfuse(self, node: onnx.NodeProto, form: _Form) -> None:
        given = list(node.input)
        for at in form.rounded:
            if given[at] not in self._stored:
                self._steps.setdefault(given[at], given[at + 1 : at + 3])
        node.op_type, node.domain = node.op_type.removeprefix("QLinear").removeprefix("Q"), ""
        attributes = {one.name: one for one in node.attribute if one.name not in OWN}
        if node.op_type == "Gemm" and "alpha" in attributes:  # integers of the bias are scaled by it too
            attributes["beta"] = onnx.helper.make_attribute("beta", attributes["alpha"].f)
        axis = 0 if node.op_type == "Conv" or ("transB" in attributes and attributes["transB"].i) else 1
        last = any(one.name == "channels_last" and one.i for one in node.attribute)
        if last:
            given[0] = self._channels_first(given[0], self._stored[given[3]])
        reads = [given[at] for at in form.plain]
        for at in form.rounded:
            stored = given[at] in self._stored
            reads.append(self._restore(given[at], given[at + 1 : at + 3], axis) if stored else self._float(given[at]))
        if form.bias is not None and given[form.bias : form.bias + 1] not in ([], [""]):
            bias = given[form.bias]
            scale = self._free(f"{_stem(bias)}/scale")
            factors = [given[at + 1] for at in form.rounded]
            self._nodes.append(onnx.helper.make_node("Mul", factors, [scale], scale))
            reads.append(self._restore(bias, [scale], 0))
        kept = list(attributes.values())
        del node.attribute[:]
        node.attribute.extend(kept)
        node.input[:] = reads
        steps = given[form.result : form.result + 2]
        if last:
            self._channels_last(node, steps, self._stored[given[3]])
        else:
            self._add(node, steps)

    def _channels_first(self, value: str, rank: int) -> str:
        """The same integers with channels first."""
        if value not in self._first:
            moved = self._free(f"{value}/first")
            move = onnx.helper.make_node(
                "Transpose", [self._float(value)], [moved], f"{moved}/move", perm=[0, rank - 1, *range(1, rank - 1)]
            )
            self._add(move, self._steps[value])
            self._first[value] = moved
        return self._first[value]

    def _channels_last(self, node: onnx.NodeProto, steps: list[str], rank: int) -> None:
        """Add what makes channels first, and behind it what hands them on last, as others read them.

        The name of the integers is that of the node. A zero point has the name of the value that it was found for.
        """
        value, named = node.output[0], steps[1].removesuffix("_zero_point")
        own = named != steps[1] and self._zeros[steps[1]] == 1 and named not in self._taken
        first = self._free(f"{named if own else value}_quantized")
        node.output[0] = first
        self._add(node, steps)
        move = onnx.helper.make_node(
            "Transpose", [self._float(first)], [value], self._free(f"{value}/last"), perm=[0, *range(2, rank), 1]
        )
        self._add(move, steps)
        self._first[value] = first

    def _add(self, node: onnx.NodeProto, steps: list[str]) -> None:
        """Add a node that makes floats, and where there are steps, what rounds them under the names that it had."""
        rounded = list(node.output) if any(steps) else []
        for at, value in enumerate(rounded):
            node.output[at] = self._free(_stem(value))
        self._nodes.append(node)
        for made, value in zip(node.output, rounded, strict=False):
            name = self._free(f"{value}/round")
            self._nodes.append(onnx.helper.make_node(ROUND, [made, *steps], [value], name))
            self._steps[value] = steps

    def _float(self, value: str) -> str:
        """The float that stands for a value that is rounded as it is made."""
        if value not in self._restored:
            self._restored[value] = self._restore(value, self._steps[value], 1)
        return self._restored[value]

    def _restore(self, value: str, steps: list[str], axis: int) -> str:
        made = self._free(f"{_stem(value)}_DequantizeLinear_Output")
        name = self._free(f"{made}/restore")
        self._nodes.append(onnx.helper.make_node(RESTORE, [value, *steps], [made], name, axis=axis))
        return made

    def _rename(self, value: str) -> None:
        """Call what is to be rounded as it was, where ONNX Runtime has put the rounding there."""
        if value.endswith("_pre_q") and _stem(value) not in self._taken:
            self._renamed[value] = self._free(_stem(value))

    def _free(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name


def _form(node: onnx.NodeProto) -> _Form | None:
    """Where an operator on integers reads what; None of others, and of what ONNX's operators can't say."""
    form = FORMS.get(node.op_type)
    last = any(one.name == "channels_last" and one.i for one in node.attribute)
    if form is None or (last and node.op_type != "QLinearConv"):
        return None
    if node.op_type == "QLinearConcat":
        form = replace(form, rounded=tuple(range(2, len(node.input), 3)))
    scale, zero = (*node.input[form.result : form.result + 2], "", "")[:2]
    return form if bool(scale) == bool(zero) else None  # whose zero point tells the type of what it makes


def _zero(node: onnx.NodeProto) -> str:
    """The zero point by which a node rounds what it makes; empty where it does not."""
    form = _form(node)
    at = 2 if node.op_type == ROUND else -1 if form is None else form.result + 1
    return node.input[at] if 0 <= at < len(node.input) else ""
