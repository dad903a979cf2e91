"""Keras and SavedModel to ONNX."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .._lazy import lazy
from ..errors import TechniqueError
from ..formats.keras import function_of
from ..formats.onnx import save
from ..formats.tensorflow import Function, given, output, set_threads
from ..model import KERAS, ONNX, SAVED_MODEL, Format, Model
from ..technique import Context, Needs, Phase, Technique
from ._parity import Arrays
from ._tensorflow import check, converting, listed

if TYPE_CHECKING:
    import onnx
    import onnxruntime
else:
    onnx = lazy("onnx")
    onnxruntime = lazy("onnxruntime")

converter = lazy("tf2onnx.convert", "tensorflow")

OPSET = 18  # the last that tf2onnx 1.17 writes


@dataclass(frozen=True)
class KerasToOnnx(Technique):
    """Convert to ONNX by tf2onnx, and hold the graph to what the original answers."""

    version: ClassVar[int] = 2
    accepts: ClassVar[frozenset[Format]] = frozenset({KERAS, SAVED_MODEL})
    returns: ClassVar[Format | None] = ONNX
    phase: ClassVar[Phase] = Phase.CONVERT
    needs: ClassVar[Needs] = Needs.SAMPLES
    lossless: ClassVar[bool] = True

    def apply(self, model: Model, context: Context) -> Model:
        set_threads(context.target.threads)
        function = function_of(model)
        proto = _converted(function)
        made = save(proto, context.folder, model)
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, context.target.threads
        session = onnxruntime.InferenceSession(made.path, options, providers=["CPUExecutionProvider"])
        names = [tensor.name for tensor in made.signature.outputs]

        def answer(samples: Arrays) -> Arrays:
            return dict(zip(names, session.run(names, dict(samples)), strict=True))

        check(function, made, context, answer)
        return made


def _converted(function: Function) -> onnx.ModelProto:
    """A graph whose inputs and outputs bear the names of the signature.

    Raises:
        TechniqueError: It can't be converted.
    """
    try:
        with converting():
            proto: onnx.ModelProto = converter.from_function(function.function(), function.specs(), opset=OPSET)[0]
    except Exception as error:  # of a library, on whatever the graph holds
        line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise TechniqueError(f"tf2onnx can't convert it to ONNX: {line.strip()[:300]}") from error
    lacking: dict[str, list[str]] = {}
    for node in nodes(proto.graph):
        if not onnx.defs.has(node.op_type, OPSET, node.domain):
            lacking.setdefault(node.op_type, []).append(node.name)
    if lacking:
        raise TechniqueError(
            f"ONNX has no operator for some of this model: {listed(lacking)}. Replace these layers, or take them out "
            "of the model."
        )
    sides = ((given, function.signature.inputs), (output, function.signature.outputs))
    rename(proto.graph, {name(place): t.name for name, side in sides for place, t in enumerate(side)})
    own = list(nodes(proto.graph))
    for node, name in zip(own, function.by_layers([node.name for node in own]), strict=True):
        node.name = name
    return proto


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of branches and loops too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from nodes(inner)


def rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Give values other names; one that has such a name already gets another, too."""
    taken = {name for node in nodes(graph) for name in (*node.input, *node.output)}
    taken |= {value.name for value in _values(graph)}
    new = {**{name: f"{name}/inner" for name in set(names.values()) & taken - set(names)}, **names}
    for node in nodes(graph):
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
    for value in _values(graph):
        value.name = new.get(value.name, value.name)


def _values(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto | onnx.TensorProto]:
    yield from (*graph.input, *graph.output, *graph.value_info)
    yield from graph.initializer
    for node in nodes(graph):
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from (*inner.input, *inner.output, *inner.value_info)
                yield from inner.initializer
