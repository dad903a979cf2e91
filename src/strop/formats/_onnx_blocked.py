"""Blocked: values that ONNX Runtime laid out in blocks of channels for its convolutions, plain again beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    import onnx
else:
    onnx = lazy("onnx")

DOMAIN = "com.microsoft.nchwc"
BLOCKING, PLAIN = "ReorderInput", "ReorderOutput"
LAYOUT = "_nchwc"
"""What ONNX Runtime appends to the name of the value that a node computes, for its node."""
SUM = 4  # inputs of a convolution that adds something to its result, which bears the name of neither


def unblocked(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Hand values on in their plain layout, under the names that they had; the graph given is used up.

    Nodes keep their names. Where a value's name is lost it stays as it is.
    """
    if not any(node.domain == DOMAIN for node in proto.graph.node):
        return proto
    graph = proto.graph
    counts = {tensor.name: tensor.dims[0] for tensor in graph.initializer if tensor.dims}
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    plain = {node.input[0]: node for node in graph.node if node.domain == DOMAIN and node.op_type == PLAIN}
    channels, again, nodes = dict[str, int](), dict[str, str](), list[onnx.NodeProto]()
    for node in list(graph.node):
        if node.domain == DOMAIN and node.op_type == PLAIN:
            continue
        source = node.input[0] if node.input else ""
        node.input[:] = [again.get(name, name) for name in node.input]
        nodes.append(node)
        if node.domain != DOMAIN or node.op_type == BLOCKING:
            continue
        value = node.output[0]
        count = counts.get(node.input[1]) if node.op_type == "Conv" else channels.get(source)
        if count:
            channels[value] = count
        behind = plain.get(value)
        if behind is None:
            name = node.name.removesuffix(LAYOUT)
            if not count or name == node.name or name in taken or len(node.input) >= SUM:
                continue
            behind = onnx.helper.make_node(PLAIN, [value], [name], f"{name}/plain", domain=DOMAIN, channels=count)
        taken.add(behind.output[0])
        again[value] = f"{behind.output[0]}/blocked"
        block = onnx.helper.make_node(BLOCKING, behind.output, [again[value]], again[value], domain=DOMAIN)
        nodes += [behind, block]
    read = {name for node in nodes for name in node.input}
    del graph.node[:], graph.value_info[:]
    graph.node.extend(one for one in nodes if one.op_type != BLOCKING or one.output[0] in read)
    return proto
