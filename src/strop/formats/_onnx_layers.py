"""What an ONNX graph is made of: its nodes, what they compute, the weights that they read, and what lies between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .._lazy import lazy
from ..structure import Layer, Structure
from ._onnx_inside import place_of, reads
from ._onnx_shapes import Shaped, bodies_of, shapes
from ._onnx_work import multiply_adds
from ._told import UNUSED, as_whole, listed, told
from .onnx_graph import named

if TYPE_CHECKING:
    import onnx
    from onnx import numpy_helper
else:
    onnx = lazy("onnx")
    numpy_helper = lazy("onnx.numpy_helper")

LOOKUPS = ("Gather", "GatherND", "GatherElements", "GatherBlockQuantized")
"""Operators that read of a table what they give, and no more."""


def structure_of(proto: onnx.ModelProto, fed: Mapping[str, tuple[int, ...]], samples: int) -> Structure:
    """Take a graph apart.

    Args:
        proto: The graph; large weights need not be loaded. It is used up.
        fed: Shapes of the inputs of one call.
        samples: That such a call carries.
    """
    proto = named(proto)
    nodes = onnx.GraphProto()
    nodes.node.extend(node for node in proto.graph.node if node.op_type != "Constant")
    known = shapes(proto, fed)
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    read = {name for node in nodes.node for name in reads(node)}
    # what was computed of shapes alone is no weight: the file has none of it
    made = {value for node in nodes.node for value in node.output}
    graph = _Graph(known, {name: Shaped(tuple(t.dims), t.data_type) for name, t in stored.items() if name not in made})
    layers = [graph.layer(node, samples) for node in nodes.node]
    if left := graph.rest(set(stored) - read - made):
        layers.append(left)
    sizes = {name: shape.bytes / samples for name, shape in known.items() if name not in graph.weights}
    results = tuple(value.name for value in proto.graph.output)
    missing = _missing(nodes.node, known)
    types = Counter[str]()
    for name, weight in graph.weights.items():
        if name in read:
            types[_type(weight.type)] += weight.bytes
    kinds = Counter(node.op_type for node in nodes.node)
    facts, said = told(layers, kinds, types, _types_between(nodes.node, known, graph.weights))
    facts["zeros"] = _zeros(stored.values())
    return Structure(tuple(layers), facts, said, sizes, results, missing)


def _zeros(stored: Iterable[onnx.TensorProto]) -> float:
    """The share of zeros among the floats of all matrices and kernels that are in the file itself."""
    zeros = count = 0
    for tensor in stored:
        inside = tensor.data_location != onnx.TensorProto.EXTERNAL
        if inside and tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1:
            values = numpy_helper.to_array(tensor)
            zeros, count = zeros + values.size - int(np.count_nonzero(values)), count + values.size
    return zeros / count if count else 0.0


class _Graph:
    """Whose weights belong to the first node that reads them.

    Attributes:
        weights: All that is stored, by name.
    """

    def __init__(self, known: Mapping[str, Shaped], weights: Mapping[str, Shaped]):
        self.known, self.weights = known, weights
        self._owned: set[str] = set()

    def layer(self, node: onnx.NodeProto, samples: int) -> Layer:
        names = list(reads(node))
        weights = [name for name in names if name in self.weights]
        own = [name for name in weights if name not in self._owned]
        self._owned |= set(own)
        inner = [tensor for body in bodies_of(node) for tensor in _tensors(body)]
        size = sum(self.weights[name].bytes for name in own) + sum(shape.bytes for shape in inner)
        count = sum(self.weights[name].cells for name in own) + sum(shape.cells for shape in inner)
        writes = tuple(value for value in node.output if value)
        passed = sum(self.weights[name].bytes for name in weights) + sum(shape.bytes for shape in inner)
        if node.op_type in LOOKUPS:
            passed = sum(self.known[name].bytes for name in writes if name in self.known)
        return Layer(
            node.name, node.op_type, multiply_adds(node, {**self.known, **self.weights}) / samples, size, count,
            tuple(name for name in names if name not in self.weights), writes, passed, place_of(node),
        )  # fmt: skip

    def rest(self, names: set[str]) -> Layer | None:
        own = [self.weights[name] for name in names if name in self.weights]
        size = sum(shape.bytes for shape in own)
        return Layer(UNUSED, "", 0, size, sum(shape.cells for shape in own)) if size else None


def _tensors(body: onnx.GraphProto) -> Sequence[Shaped]:
    found = [Shaped(tuple(tensor.dims), tensor.data_type) for tensor in body.initializer]
    for node in body.node:
        if node.op_type == "Constant":
            found += [Shaped(tuple(a.t.dims), a.t.data_type) for a in node.attribute if a.HasField("t")]
        found += [shape for inner in bodies_of(node) for shape in _tensors(inner)]
    return found


def _missing(nodes: Sequence[onnx.NodeProto], known: Mapping[str, Shaped]) -> tuple[str, ...]:
    said = as_whole([node.name for node in nodes if any(bodies_of(node))])
    free = [node.name for node in nodes if any(value and value not in known for value in node.output)]
    if free:
        said.append(f"the sizes of what {listed(free)} computes can't be told, nor how much it computes")
    return tuple(said)


def _types_between(
    nodes: Sequence[onnx.NodeProto], known: Mapping[str, Shaped], weights: Mapping[str, Shaped]
) -> dict[str, int]:
    """How many nodes compute values of which type."""
    found = Counter(
        _type(known[node.output[0]].type)
        for node in nodes
        if node.output and node.output[0] in known and node.output[0] not in weights
    )
    return dict(found.most_common())


def _type(kind: int) -> str:
    name = onnx.TensorProto.DataType.Name(kind).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)
