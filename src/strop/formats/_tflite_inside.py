"""Inside a .tflite graph: operators with the precision they compute in, and values in between laid open."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from .._lazy import require
from ..dataflow import Dataflow, Operator, Stored
from ..errors import NotApplicable
from ..model import Tensor
from ._tflite import BODIES, Graph, Value
from ._tflite import Operator as Written
from ._tflite_writing import sign

INNER = "strop/inner"
FLOATS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "float64": "f64"}
HYBRID = frozenset({
    "BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "LSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM",
})  # fmt: skip
"""What takes floats and weights of integers, and rounds the floats as it runs."""
CONTROL = frozenset({*BODIES, "STABLEHLO_WHILE", "STABLEHLO_CASE"})


def dataflow_of(graph: Graph) -> Dataflow:
    """What is called of a file; the graphs of loops and branches are not looked into."""
    called = names(graph)
    makers = {place: one for one in graph.operators for place in one.outputs}
    stored, seen = {}, set[int]()
    for place, value in enumerate(graph.values):
        if value.stored:
            stored[called[place]] = Stored(value.dtype, 0 if value.buffer in seen else value.stored)
            seen.add(value.buffer)
    found, opaque = list[Operator](), dict[str, int]()
    for number, one in enumerate(graph.operators):
        outputs = tuple(called[place] for place in one.outputs)
        name = outputs[0] if outputs else f"{one.kind} {number}"
        reads = tuple(called[place] for place in one.inputs if place >= 0)
        found.append(Operator(name, one.kind, reads, outputs, _precision(graph, one, makers)))
        if one.kind in CONTROL:
            held = {value.buffer: value.stored for values, _ in graph.bodies(one) for value in values}
            opaque[name] = sum(size for buffer, size in held.items() if buffer not in seen)
            seen |= held.keys()
    inputs, outputs = (tuple(called[place] for place in side.values()) for side in (graph.inputs, graph.outputs))
    return Dataflow(tuple(found), stored, inputs, outputs, opaque=opaque)


def names(graph: Graph) -> list[str]:
    """What each tensor is called: by its name, unless it has none or shares it."""
    times = Counter(value.name for value in graph.values)
    return [
        value.name if value.name and times[value.name] == 1 else f"{value.name}#{place}"
        for place, value in enumerate(graph.values)
    ]


def tap(live: Any, graph: Graph, values: Sequence[str], given: Sequence[Tensor] | None) -> tuple[str, ...]:
    """Make values outputs of a graph; of those that are given, make inputs too.

    Args:
        live: The model in the schema's own objects, which is changed.
        graph: The same, as it was read.
        values: Names of values.
        given: Those that are handed in, or None.

    Returns:
        The names of the outputs that hold them, in the order of the values.
    """
    places, part = {name: place for place, name in enumerate(names(graph))}, live.subgraphs[0]
    inputs, outputs = dict(graph.inputs), dict(graph.outputs) if given is None else {}
    own = {places[tensor.name]: _own(part, places[tensor.name]) for tensor in given or ()}
    inputs |= {tensor.name: places[tensor.name] for tensor in given or ()}
    known = {place: name for name, place in outputs.items()}
    found = []
    for number, value in enumerate(values):
        place = own.get(places[value], places[value])
        name = known.setdefault(place, f"{INNER}/{number}")
        outputs[name] = place
        found.append(name)
    part.inputs, part.outputs = list(inputs.values()), list(outputs.values())
    sign(live, inputs, outputs)
    return tuple(found)


def shift(live: Any, graph: Graph, values: Sequence[str]) -> tuple[str, ...]:
    """Add something to values before anything reads them.

    Raises:
        NotApplicable: One is no float.
    """
    schema = require("ai_edge_litert.schema_py_generated", "litert")
    places, part = {name: place for place, name in enumerate(names(graph))}, live.subgraphs[0]
    inputs, added, sums = dict(graph.inputs), list[str](), dict[int, Any]()
    for value in values:
        place = places[value]
        if graph.values[place].dtype != "float32":
            raise NotApplicable(f"{value!r} is {graph.values[place].dtype}, and only to float32 can something be added")
        own, extra = _own(part, place), _copied(part, place, "shift")
        made = schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = _addition(live, schema), [own, extra], [place]
        made.builtinOptionsType, made.builtinOptions = schema.BuiltinOptions.AddOptions, schema.AddOptionsT()
        sums[own] = made
        added.append(f"{INNER}/shift/{len(added)}")
        inputs[added[-1]] = extra
    part.operators = [
        one for operator in part.operators
        for one in (operator, *(sums[int(at)] for at in operator.outputs if int(at) in sums))
    ]  # fmt: skip
    part.inputs = list(inputs.values())
    sign(live, inputs, graph.outputs)
    return tuple(added)


def _addition(live: Any, schema: Any) -> int:
    """The number of the code of additions, which is added where there is none."""
    for number, code in enumerate(live.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == schema.BuiltinOperator.ADD:
            return number
    made = schema.OperatorCodeT()
    made.builtinCode = made.deprecatedBuiltinCode = schema.BuiltinOperator.ADD
    made.version = 1
    live.operatorCodes.append(made)
    return len(live.operatorCodes) - 1


def _own(part: Any, place: int) -> int:
    """A tensor of its own for what a value is computed into; whatever reads the value goes on to read the old one."""
    own = _copied(part, place, "own")
    for operator in part.operators:
        operator.outputs = [own if int(at) == place else int(at) for at in operator.outputs]
    return own


def _copied(part: Any, place: int, what: str) -> int:
    made = copy.copy(part.tensors[place])
    made.name = (made.name or b"") + f"/{what}/{place}".encode()
    made.buffer = 0  # what every model keeps empty
    part.tensors.append(made)
    return len(part.tensors) - 1


def _precision(graph: Graph, one: Written, makers: Mapping[int, Written]) -> str:
    read = [graph.values[place] for place in one.inputs if place >= 0]
    moving = [value for value in read if not value.stored]
    if any(_rounded(value) for value in moving):
        return next(value.dtype for value in moving if _rounded(value))
    weights = [value for value in read if value.stored and _rounded(value) and value.cells > 1]
    if weights:
        return f"dynamic {weights[0].dtype}" if one.kind in HYBRID else f"{weights[0].dtype} weights"
    for place in one.inputs:
        maker = makers.get(place)
        if maker is not None and maker.kind == "DEQUANTIZE" and graph.values[maker.inputs[0]].stored:
            dtype = graph.values[maker.inputs[0]].dtype
            return f"{FLOATS.get(dtype, dtype)} weights"
    return next((FLOATS[value.dtype] for value in (*moving, *read) if value.dtype in FLOATS), "f32")


def _rounded(value: Value) -> bool:
    return len(value.scales) > 0 and "int" in value.dtype
