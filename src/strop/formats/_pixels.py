"""Pixels: an ONNX graph that takes the numeric part of pre-processing over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from .._lazy import lazy
from ..errors import UnsupportedModel
from ..images import Preprocessing
from ..model import Model

if TYPE_CHECKING:
    import onnx
else:
    onnx = lazy("onnx")

OPSET = 7
"""The first whose products spread over axes."""


def with_pixels(proto: onnx.ModelProto, preprocessing: Preprocessing, model: Model) -> onnx.ModelProto:
    """Put a cast, a product, a sum and, where channels come first, a transposition before a graph's only input.

    Raises:
        UnsupportedModel: It has several inputs, or one that is not what images come to.
    """
    inputs = model.signature.inputs
    version = max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=1)
    if len(inputs) != 1 or inputs[0].dtype != "float32" or len(inputs[0].shape) != 4 or version < OPSET:
        raise UnsupportedModel(
            f"A model takes pre-processing over where its only input is float32 with 4 axes, from opset {OPSET} on; "
            f"this one, of opset {version}, takes {', '.join(map(str, inputs))}. Leave out fold."
        )
    name, graph = inputs[0].name, proto.graph
    given = next(value for value in graph.input if value.name == name)
    axes = list(given.type.tensor_type.shape.dim)
    if preprocessing.layout == "nchw":
        axes = [axes[0], axes[2], axes[3], axes[1]]
    cast, scaled, moved, made = (f"{name}/{step}" for step in ("float", "scaled", "moved", "prepared"))
    factor, offset = preprocessing.coefficients()
    steps = [
        onnx.helper.make_node("Cast", [name], [cast], f"{name}/cast", to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Mul", [cast, f"{name}/factor"], [scaled], f"{name}/scale"),
        onnx.helper.make_node("Add", [scaled, f"{name}/offset"], [moved], f"{name}/shift"),
    ]
    if preprocessing.layout == "nchw":
        steps.append(onnx.helper.make_node("Transpose", [moved], [made], f"{name}/channels-first", perm=[0, 3, 1, 2]))
    for using in _nodes(graph):
        for place, used in enumerate(using.input):
            if used == name:
                using.input[place] = steps[-1].output[0]
    nodes = [*steps, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    for stored, values in (("factor", factor), ("offset", offset)):
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(values), f"{name}/{stored}"))
    given.type.tensor_type.elem_type = onnx.TensorProto.UINT8
    shape = onnx.TensorShapeProto(dim=axes)
    given.type.tensor_type.shape.CopyFrom(shape)
    return proto


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of subgraphs included, which see what is outside of them."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _nodes(inner)
