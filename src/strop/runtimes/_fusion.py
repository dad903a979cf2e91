"""Fusion: which nodes of an ONNX graph each node of the optimized one stands for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

WEIGHTED = ("Conv", "BatchNormalization")
LAYOUT = "_nchwc"
"""What ONNX Runtime appends to the name of the value that a convolution in a blocked layout computes, for its node."""
AGAIN = re.compile(r"(.+)_token_\d+")
"""What it calls a node, and what that computes, where it has written it again with channels last."""


def origins(given: onnx.GraphProto, optimized: onnx.GraphProto) -> list[tuple[str, ...]]:
    """The names of the nodes of `given` that each node of `optimized` stands for, in the order of `given`.

    Optimizing renames nodes, and keeps the names of most values. So a node stands for all that lies between the values
    that it computes and those that are there without it. Where it computes a value of a new name, in a layout of its
    own, the name of the node tells which one that was. Every node of `given` is counted once; one that is folded into
    constants, or of no use, belongs to none, and to a node that was put in between (a reorder, a cast) belongs none.
    Constants are no layers.

    Args:
        given: Node names are unique.
        optimized: Nodes in topological order.
    """
    producer = {value: node for node in given.node for value in node.output if value}
    named = {node.name: node for node in given.node}
    place = {node.name: at for at, node in enumerate(given.node)}
    rounded = {node.input[0]: node.output[0] for node in given.node if node.op_type == "QuantizeLinear"}
    results = [_results(node, producer, named, rounded) for node in optimized.node]
    for made, own in zip(optimized.node, results, strict=True):
        if len(made.input) > 3 and made.name.endswith(LAYOUT) and own and producer[own[0]].op_type in WEIGHTED:
            own[:] = _added(made, own[0], given)
    there = {value.name for value in optimized.input} | {tensor.name for tensor in optimized.initializer}
    there |= {tensor.values.name for tensor in optimized.sparse_initializer}
    there |= {value for own in results for value in own}
    claimed: set[str] = set()
    found = []
    for own in results:
        mine: set[str] = set()
        open_ends = list(own)
        while open_ends:
            node = producer.get(open_ends.pop())
            if node is None or node.name in claimed or node.op_type == "Constant":
                continue
            claimed.add(node.name)
            mine.add(node.name)
            open_ends += [value for value in node.input if value not in there]
        found.append(tuple(sorted(mine, key=place.__getitem__)))
    return found


def _added(node: onnx.NodeProto, value: str, given: onnx.GraphProto) -> list[str]:
    """What a convolution in a blocked layout computes where it adds, too: its node is called as what it adds to."""
    for kind in ("Add", *(one.s.decode() for one in node.attribute if one.name == "activation")):
        value = next((one.output[0] for one in given.node if one.op_type == kind and value in one.input), value)
    return [value]


def _results(
    node: onnx.NodeProto, producer: dict[str, onnx.NodeProto], named: dict[str, onnx.NodeProto], rounded: dict[str, str]
) -> list[str]:
    """The values of the graph as given that a node of the optimized one computes."""
    kept = [value for value in node.output if value in producer]
    if kept:
        return kept
    if (value := node.name.removesuffix(LAYOUT)) in producer and node.name.endswith(LAYOUT):
        return [value]
    again = AGAIN.fullmatch(node.name)
    origin = named.get(node.name) or named.get(again[1] if again else "")
    integers = node.op_type.startswith("QLinear")  # which rounds what it computes
    return [rounded.get(value, value) if integers else value for value in origin.output if value] if origin else []
