"""Inside an OpenVINO graph: operators with the precision they compute in, and values in between laid open."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element

from .._quiet import openvino
from ..dataflow import Dataflow, Operator, Stored
from ..model import Tensor

ROUND = "FakeQuantize"
PRODUCTS = frozenset({"Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData",
                      "MatMul"})  # fmt: skip
PASSING = frozenset({
    "AvgPool", "Concat", "Gather", "MaxPool", "Pad", "ReduceMax", "Reshape", "ReduceMean", "Squeeze", "StridedSlice",
    "Transpose", "Unsqueeze", "VariadicSplit", "Split", "ShuffleChannels", "Interpolate",
})  # fmt: skip
"""What hands rounded values on as they are, or nearly so."""
BODIES = frozenset({"If", "Loop", "TensorIterator"})
"""What holds graphs of its own."""
UNPACKING = frozenset({"Convert", "Multiply", "Subtract", "Reshape", "Transpose"})
"""What makes floats of stored integers."""


def dataflow_of(root: Element) -> Dataflow:
    """What a graph computes; graphs within loops and branches are not looked into.

    A value is called by the first name of its tensor, or, where it has none, by its operator and port.
    """
    layers = [layer for layer in root.iterfind("layers/layer") if layer.get("type") != "Result"]
    called, aliases = _names(layers)
    sources: dict[tuple[str | None, str | None], str] = {}
    ends: dict[str | None, str] = {}
    results = {layer.get("id") for layer in root.iterfind("layers/layer") if layer.get("type") == "Result"}
    for edge in root.iterfind("edges/edge"):
        value = called.get((edge.get("from-layer"), edge.get("from-port")), "")
        sources[edge.get("to-layer"), edge.get("to-port")] = value
        if edge.get("to-layer") in results:
            ends[edge.get("to-layer")] = value
    stored, places = dict[str, Stored](), set[str | None]()
    for layer in layers:
        if layer.get("type") == "Const":
            held = _stored(layer.find("data"), places)
            stored |= {called[layer.get("id"), port.get("id")]: held for port in layer.iterfind("output/port")}
    inputs = [called[layer.get("id"), port.get("id")] for layer in layers if layer.get("type") == "Parameter"
              for port in layer.iterfind("output/port")]  # fmt: skip
    found, makers = [], dict[str, Operator]()
    for layer in layers:
        if layer.get("type") in ("Const", "Parameter"):
            continue
        reads = [sources.get((layer.get("id"), port.get("id")), "") for port in layer.iterfind("input/port")]
        makes = [called[layer.get("id"), port.get("id")] for port in layer.iterfind("output/port")]
        kind = layer.get("type") or ""
        precision = _precision(layer, kind, reads, makers, stored)
        found.append(Operator(layer.get("name") or "", kind, tuple(filter(None, reads)), tuple(makes), precision))
        makers |= dict.fromkeys(makes, found[-1])
    opaque = dict[str, int]()
    for layer in layers:
        if layer.get("type") in BODIES:
            inner = [one.find("data") for one in layer.iter("layer") if one.get("type") == "Const"]
            opaque[layer.get("name") or ""] = sum(_stored(data, places).bytes for data in inner)
    outputs = tuple(ends.values())
    return Dataflow(tuple(found), stored, tuple(inputs), outputs, _seen_as(found, outputs), aliases, opaque)


def tap(graph: Any, flow: Dataflow, values: Sequence[str], given: Sequence[Tensor] | None) -> tuple[str, ...]:
    """Make values outputs of a graph; of those that are given, make inputs too.

    Args:
        graph: A live `openvino.Model`, which is changed.
        flow: The same, as it was read.
        values: Names of values.
        given: Those that are handed in, or None.

    Returns:
        The names of the new outputs, in the order of the values.
    """
    library = openvino()
    ports = _ports(graph)
    seen = [_rounded(ports[value]) if value in flow.seen_as else ports[value] for value in values]
    if given is not None:
        for tensor in given:
            port = ports[tensor.name]
            sizes = port.get_partial_shape()  # kernels for AVX2 must know the channels
            free = library.PartialShape([-1] * len(tensor.shape))
            kind = port.get_element_type()
            handed = library.Type.f32 if kind in (library.Type.bf16, library.Type.f16) else kind  # as they are told
            made = library.op.Parameter(handed, free if sizes.rank.is_dynamic else sizes)
            made.set_friendly_name(f"{tensor.name}/given")
            read = made if handed == kind else library.opset13.convert(made, kind)
            for reader in list(port.get_target_inputs()):
                if reader.get_node().get_type_name() != "Result":
                    reader.replace_source_output(read.output(0))
            names = set(port.get_names())
            port.get_tensor().set_names(set())
            made.output(0).get_tensor().set_names({tensor.name} | names)
            graph.add_parameters([made])
            seen[values.index(tensor.name)] = port
        for result in list(graph.get_results()):
            graph.remove_result(result)
    return tuple(_output(graph, port, place) for place, port in enumerate(seen))


def _output(graph: Any, port: Any, place: int) -> str:
    """A result of its own, under a name that nothing else has: OpenVINO names results by what they read."""
    library, name = openvino(), f"strop/inner/{place}"
    read = library.opset13.convert(port, "f32")
    read.output(0).get_tensor().set_names({name})
    graph.add_results([library.op.Result(read.output(0))])
    return name


def _ports(graph: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for operator in graph.get_ordered_ops():
        if operator.get_type_name() == "Result":  # it has a port, too, of the same name
            continue
        for place, port in enumerate(operator.outputs()):
            for name in port.get_names() or {f"{operator.get_friendly_name()}:{place}"}:
                found[name] = port
    return found


def _rounded(port: Any) -> Any:
    return next(one.get_node().output(0) for one in port.get_target_inputs() if one.get_node().get_type_name() == ROUND)


def _names(layers: Sequence[Element]) -> tuple[dict[tuple[str | None, str | None], str], dict[str, str]]:
    """What the value at each port of a layer is called, and what else."""
    called, aliases = dict[tuple[str | None, str | None], str](), dict[str, str]()
    for layer in layers:
        for place, port in enumerate(layer.iterfind("output/port")):
            first, *others = (port.get("names") or "").replace("\\,", "\0").split(",")
            first = first.replace("\0", ",") or f"{layer.get('name')}:{place}"
            called[layer.get("id"), port.get("id")] = first
            aliases |= {other.replace("\0", ","): first for other in others}
    return called, aliases


def _precision(
    layer: Element, kind: str, reads: Sequence[str], makers: Mapping[str, Operator], stored: Mapping[str, Stored]
) -> str:
    port = layer.find("output/port")
    own = {"FP16": "f16", "BF16": "bf16", "FP64": "f64"}.get(
        (port.get("precision") or "").upper() if port is not None else "", "f32"
    )
    if kind not in PRODUCTS | PASSING | {"Gather"}:
        return own
    packed = [dtype for value in reads if (dtype := _packed(value, makers, stored))]
    moving = [value for value in reads if not _fixed(value, makers, stored)]
    rounded = bool(moving) and all(_is_rounded(value, makers) for value in moving)
    if rounded and (kind in PASSING or packed or len(moving) > 1):
        return "int8"
    return f"{packed[0].removeprefix('u')} weights" if packed else own


def _packed(value: str, makers: Mapping[str, Operator], stored: Mapping[str, Stored]) -> str:
    """The small type that a stored operand is held in; empty where it is not."""
    for _ in range(6):
        if value in stored:
            return stored[value].dtype if stored[value].dtype in ("int8", "uint8", "int4", "uint4") else ""
        if value not in makers or makers[value].kind not in UNPACKING | {ROUND}:
            return ""
        value = makers[value].inputs[0] if makers[value].inputs else ""
    return ""


def _fixed(value: str, makers: Mapping[str, Operator], stored: Mapping[str, Stored]) -> bool:
    """Whether a value is made of constants alone, by a few operators."""
    for _ in range(6):
        if value in stored:
            return True
        if value not in makers or not makers[value].inputs:
            return False
        if not all(other in stored or makers.get(other) for other in makers[value].inputs):
            return False
        value = makers[value].inputs[0]
    return False


def _is_rounded(value: str, makers: Mapping[str, Operator]) -> bool:
    for _ in range(20):
        maker = makers.get(value)
        if maker is None:
            return False
        if maker.kind == ROUND:
            return True
        if maker.kind not in PASSING:
            return False
        value = maker.inputs[0]
    return False


def _seen_as(operators: Sequence[Operator], outputs: Sequence[str]) -> dict[str, str]:
    """Values that are read by one FakeQuantize alone, with what that makes of them."""
    readers: dict[str, list[Operator]] = {}
    for operator in operators:
        for value in operator.inputs:
            readers.setdefault(value, []).append(operator)
    made = {value for operator in operators for value in operator.outputs}
    return {
        value: users[0].outputs[0]
        for value, users in readers.items()
        if len(users) == 1 and users[0].kind == ROUND and users[0].inputs[0] == value
        if value in made and value not in outputs
    }


def _stored(data: Element | None, places: set[str | None]) -> Stored:
    """A constant; its bytes count once, for constants that are alike lie in one place.

    Args:
        places: Of those that were counted, to which its own is added.
    """
    if data is None:
        return Stored("", 0)
    place = data.get("offset")
    again = place is not None and place in places
    places.add(place)
    kind = data.get("element_type") or ""
    sizes = [int(size) for size in (data.get("shape") or "").split(",") if size.strip().isdecimal()]
    names = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "f64": "float64", "boolean": "bool"}
    sign = {"i": "int", "u": "uint"}.get(kind[:1], "")
    dtype = names.get(kind) or (f"{sign}{kind[1:]}" if sign and kind[1:].isdecimal() else kind)
    bits = int("".join(filter(str.isdigit, kind)) or 8)
    size = data.get("size") or ""
    whole = int(size) if size.isdecimal() else -(-math.prod(sizes) * bits // 8)
    return Stored(dtype, 0 if again else whole)
