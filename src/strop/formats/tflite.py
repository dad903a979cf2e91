"""TFLite: a flatbuffer that holds graph and weights. What runs it is LiteRT, as TensorFlow Lite is called today."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from .._lazy import require
from ..dataflow import Dataflow
from ..errors import UnsupportedModel
from ..images import Preprocessing
from ..model import TFLITE, Batch, Model, ModelFormat, Signature, Tensor
from ..structure import Layer, Structure
from ._tflite import IDENTIFIER, Graph, Operator, Value, read
from ._tflite_inside import dataflow_of, names, shift, tap
from ._tflite_pixels import with_pixels
from ._tflite_schema import BITS, NUMERIC
from ._tflite_writing import content
from ._told import as_whole, told

FILE = "model.tflite"
INTEGERS = frozenset({"int2", "int4", "int8", "uint4", "uint8", "int16"})
"""The types that quantized values are held in."""
WEIGHTED = frozenset({
    "BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "EMBEDDING_LOOKUP", "FULLY_CONNECTED", "TRANSPOSE_CONV",
})  # fmt: skip
"""The operators that strop quantizes the weights of."""
_WEIGHTS = INTEGERS | {"float32", "float16", "bfloat16", "int32", "int64"}
_LOOKUPS = frozenset({"GATHER", "GATHER_ND", "EMBEDDING_LOOKUP"})
"""Operators that read of a table what they give, and no more."""
_KEEPERS = frozenset({"ASSIGN_VARIABLE"})


class TfliteFormat(ModelFormat):
    """.tflite files, and their content as bytes, read without LiteRT."""

    name = TFLITE

    def detects(self, source: object) -> bool:
        if isinstance(source, bytes):
            return source[4:8] == IDENTIFIER
        path = _file_of(source)
        if path is None:
            return False
        with path.open("rb") as stream:
            return path.suffix == ".tflite" or stream.read(8)[4:] == IDENTIFIER

    def open(self, source: Any) -> Model:
        """Read the inputs and outputs of the graph that a call runs.

        Raises:
            UnsupportedModel: The file is broken, remembers something from call to call, or its inputs and outputs are
                no numbers.
        """
        where = source if isinstance(source, bytes) else _file_of(source)
        if where is None:
            raise UnsupportedModel(f"A TFLite model is a file that ends in .tflite; {source} is none. Check the path.")
        graph, name = read(where), "the model" if isinstance(where, bytes) else str(where)
        if kept := {operator.kind for operator in graph.operators} & _KEEPERS:
            raise UnsupportedModel(
                f"An answer must depend on its inputs alone, and {name} writes to variables ({', '.join(kept)}). "
                "Export it with its state as inputs and outputs."
            )
        others = ", ".join(sorted(graph.unused))
        notes = (f"of the signatures in the .tflite file, {others} are not looked at",) if others else ()
        files = () if isinstance(where, bytes) else (where,)
        return Model(TFLITE, where, _signature(graph, name), files, counts=_counts(graph), notes=notes)

    def store(self, model: Model, folder: Path) -> Model:
        """Write bytes as model.tflite."""
        if model.files:
            return model
        path = folder / FILE
        path.write_bytes(model.payload)
        return self.open(path)

    def folded(self, model: Model, preprocessing: Preprocessing, folder: Path) -> Model:
        """Write it with a cast, a product, a sum and, where channels come first, a transposition before its input.

        Raises:
            UnsupportedModel: Its input is not what images come to, or takes no float32.
        """
        path = folder / "model.tflite"
        with_pixels(model, preprocessing.settled(None, model.signature), path)
        return self.open(path)

    def structure(self, model: Model, samples: Batch | None = None) -> Structure:
        """Operators in the order in which they run, with their multiply-adds and the bytes of their weights."""
        graph = read(model.path)
        samples_a_call = _samples(graph)
        layers, seen = [], set[int]()
        for operator, name in islice(graph.named_operators(), len(graph.operators)):
            held = [*graph.parents(operator), *(value for values, _ in graph.bodies(operator) for value in values)]
            stored = {value.buffer: value for value in held if value.stored}
            own = [value for buffer, value in stored.items() if buffer not in seen]
            seen |= set(stored)
            looked_up = operator.kind in _LOOKUPS and operator.outputs
            layers.append(
                Layer(
                    name, operator.kind, _operations(graph, operator), sum(value.stored for value in own),
                    sum(value.cells for value in own),
                    tuple(str(at) for at in operator.inputs if at >= 0 and not graph.values[at].stored),
                    tuple(str(at) for at in operator.outputs),
                    _bytes(graph.values[operator.outputs[0]]) if looked_up else sum(v.stored for v in stored.values()),
                )
            )  # fmt: skip
        kinds = Counter(operator.kind for operator in graph.operators)
        types, between = Counter[str](), Counter[str]()
        for value in _constants(graph):
            types[value.dtype] += value.stored
        for operator in graph.operators:
            between.update(graph.values[at].dtype for at in operator.outputs[:1])
        facts, said = told(layers, kinds, types, dict(between.most_common()))
        sizes = {str(at): _bytes(v) / samples_a_call for at, v in enumerate(graph.values) if not v.stored}
        missing = as_whole([layer.name for layer, one in zip(layers, graph.operators, strict=True) if one.bodies])
        return Structure(
            tuple(layers), {**facts, **_counts(graph)}, said, sizes, tuple(map(str, graph.outputs.values())),
            tuple(missing),
        )  # fmt: skip

    def dataflow(self, model: Model) -> Dataflow:
        """Of the graph that is called."""
        return dataflow_of(read(model.path))

    def tapped(self, model: Model, values: Sequence[str], folder: Path, given: Sequence[Tensor] | None = None) -> Model:
        """Write it with values in between as outputs: integers that have a scale come out as floats, as others do."""
        live = _live(model.path)
        taps = tap(live, read(model.path), values, given)
        own = model.signature.outputs if given is None else ()
        inner = tuple(Tensor(name, "float32", ()) for name in taps)
        signature = Signature((*model.signature.inputs, *(given or ())), (*own, *inner))
        return replace(model, payload=_write(live, folder), files=(folder / FILE,), signature=signature)

    def shifted(self, model: Model, values: Sequence[str], folder: Path) -> tuple[Model, tuple[str, ...]]:
        """Write it with a sum behind each value."""
        live = _live(model.path)
        added = shift(live, read(model.path), values)
        return replace(model, payload=_write(live, folder), files=(folder / FILE,)), added


def _live(path: Path) -> Any:
    """A file in the schema's own objects, free to change."""
    utils = require("ai_edge_litert.tools.flatbuffer_utils", "litert")
    return utils.read_model_from_bytearray(bytearray(path.read_bytes()))


def _write(live: Any, folder: Path) -> Path:
    (folder / FILE).write_bytes(content(live))
    return folder / FILE


def is_quantized(graph: Graph) -> bool:
    """Whether a tensor is held as integers with a scale."""
    return any(len(value.scales) and value.dtype in INTEGERS for value in graph.all_values)


def is_half(graph: Graph) -> bool:
    """Whether weights are stored as float16."""
    return any(value.stored and value.dtype == "float16" and value.cells > 1 for value in graph.all_values)


def has_weights(graph: Graph, operator: Operator) -> bool:
    """Whether an operator multiplies by constants, or looks them up."""
    return operator.kind in WEIGHTED and any(v.stored and len(v.shape) > 1 for v in graph.parents(operator))


def _file_of(source: object) -> Path | None:
    if not isinstance(source, (str, os.PathLike)):
        return None
    path = Path(source)
    if path.is_dir():
        found = sorted(path.glob("*.tflite"))
        return found[0] if len(found) == 1 else None
    return path if path.is_file() else None


def _signature(graph: Graph, model: str) -> Signature:
    if not graph.inputs or not graph.outputs:
        raise UnsupportedModel(
            f"A model must have inputs and outputs; {model} has {len(graph.inputs)} and {len(graph.outputs)}."
        )
    sides = (graph.inputs, graph.outputs)
    inputs, outputs = (tuple(_tensor(n, graph.values[at], model) for n, at in side.items()) for side in sides)
    return Signature(inputs, outputs)


def _tensor(name: str, value: Value, model: str) -> Tensor:
    if value.dtype not in NUMERIC:
        raise UnsupportedModel(
            f"Inputs and outputs must be numbers, and {name!r} of {model} is {value.dtype}. Export it without the part "
            "that makes numbers of it."
        )
    shape = tuple(None if size < 0 else size for size in value.free)
    scaled = quantization(value, model)
    dtype, stored = ("float32", value.dtype) if scaled else (value.dtype, "")
    return Tensor(name, dtype, shape, batched=bool(shape), stored=stored)


def quantization(value: Value, model: str) -> tuple[float, int] | None:
    """Scale and zero point of an input or output that is held as integers; None for one that is not quantized.

    Raises:
        UnsupportedModel: The scale is no positive number, or there are several.
    """
    if value.dtype not in INTEGERS or not len(value.scales):
        return None
    scale = float(value.scales[0])
    if len(value.scales) > 1 or not 0 < scale < math.inf:
        raise UnsupportedModel(
            f"A quantized input or output must have one scale above zero, and {value.name!r} of {model} has "
            f"{value.scales[:3].tolist()}. Convert the model again."
        )
    return scale, int(value.zero_points[0]) if len(value.zero_points) else 0


def _counts(graph: Graph) -> dict[str, int]:
    operations = sum(_operations(graph, operator) for operator in graph.operators)
    return {"parameters": sum(value.cells for value in _constants(graph)), "operations": operations}


def _constants(graph: Graph) -> list[Value]:
    """What was learned, shared buffers once; sizes and places are integers without a scale."""
    found = {
        value.buffer: value
        for value in graph.all_values
        if value.stored and value.dtype in _WEIGHTS and (len(value.scales) or not value.dtype.startswith("int"))
    }
    return list(found.values())


def _operations(graph: Graph, operator: Operator) -> int:
    """Multiply-adds for one sample, of what mainly consists of them. What a loop repeats counts once, and of branches
    all."""
    inside = sum(_own(values, one) for values, inner in graph.bodies(operator) for one in inner)
    return (_own(graph.values, operator) + inside) // _samples(graph)


def _own(values: Sequence[Value], operator: Operator) -> int:
    """Those of a call, without what is within."""
    if len(operator.inputs) < 2 or min(operator.inputs[:2]) < 0 or not operator.outputs:
        return 0
    first, second = (values[place].shape for place in operator.inputs[:2])
    result = values[operator.outputs[0]]
    each = 0
    if operator.kind == "FULLY_CONNECTED" and second:
        each = result.cells * second[-1]
    elif operator.kind in ("CONV_2D", "CONV_3D") and len(second) > 2:
        each = result.cells * (math.prod(second[1:]) if operator.kind == "CONV_2D" else math.prod(second[:-1]))
    elif operator.kind == "DEPTHWISE_CONV_2D" and len(second) == 4:
        each = result.cells * math.prod(second[1:3])
    elif operator.kind == "TRANSPOSE_CONV" and len(second) == 4 and len(operator.inputs) > 2:
        each = values[operator.inputs[2]].cells * math.prod(second[:3])
    elif operator.kind == "BATCH_MATMUL" and first:
        each = result.cells * first[-1]
    return each


def _samples(graph: Graph) -> int:
    """That a call carries, as the file has it."""
    batches = [graph.values[place].shape[:1] for place in graph.inputs.values()]
    return next((size[0] for size in batches if size and size[0]), 1)


def _bytes(value: Value) -> float:
    return value.cells * BITS.get(value.dtype, 0) / 8


__all__ = [
    "INTEGERS",
    "Graph",
    "Operator",
    "TfliteFormat",
    "Value",
    "has_weights",
    "is_half",
    "is_quantized",
    "names",
    "quantization",
    "read",
]
