"""Names for all nodes of an ONNX graph, by which profiles, explanations and quantizers speak of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def named(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Functions inlined, and every node of a name of its own, by which a profile tells of it. The graph given is used
    up."""
    proto = inlined(proto)
    name_nodes(proto.graph, {""})
    return proto


def inlined(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same without functions of its own."""
    if not proto.functions:
        return proto
    from onnx.inliner import inline_local_functions

    return inline_local_functions(proto)


def name_nodes(graph: onnx.GraphProto, taken: set[str]) -> None:
    """Nodes without a name, or with one that is taken, are called by what they compute."""
    for number, node in enumerate(graph.node):
        if node.name in taken:
            node.name = f"{node.op_type}:{next(filter(None, node.output), number)}"
        while node.name in taken:
            node.name += "'"
        taken.add(node.name)
    for node in graph.node:
        for attribute in node.attribute:
            for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                name_nodes(body, taken)
