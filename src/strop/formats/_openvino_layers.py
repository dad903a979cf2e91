"""What a graph of OpenVINO's is made of, as OpenVINO itself reads it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

from .._quiet import openvino
from ..model import Model
from ..structure import Layer, Structure
from ._openvino_inside import BODIES
from ._told import UNUSED, as_whole, told

LOOKUPS = ("Gather", "GatherND", "GatherElements")
"""Operators that read of a table what they give, and no more."""
CONVERSIONS = ("Convert", "Reshape", "Unsqueeze", "Transpose")
"""What may lie between a constant and the layer that uses it: it is computed once, when the model is loaded."""


class Stored(NamedTuple):
    """A constant as its file has it.

    Attributes:
        place: Where in the file of weights it lies, and its bytes; several may share one.
        type: Of its numbers, in OpenVINO's spelling.
        cells: How many there are.
    """

    place: tuple[int, int]
    type: str
    cells: int


def stored_in(root: Element) -> dict[str, tuple[Stored, ...]]:
    """The constants of a file's layers by name: what a constant is itself, and what the bodies of another hold."""
    return {layer.get("name", ""): tuple(_stored(layer)) for layer in root.iterfind("layers/layer")}


def _stored(layer: Element) -> Iterator[Stored]:
    for one in layer.iter("layer"):
        if one.get("type") == "Const" and (data := one.find("data")) is not None:
            sizes = [int(size) for size in data.get("shape", "").split(",") if size.strip()]
            place = int(data.get("offset", 0)), int(data.get("size", 0))
            yield Stored(place, data.get("element_type", ""), math.prod(sizes))


def structure_of(
    model: Model, fed: Mapping[str, tuple[int, ...]], samples: int, stored: Mapping[str, tuple[Stored, ...]]
) -> Structure:
    """Take a graph apart.

    Args:
        fed: Shapes of the inputs of one call.
        samples: That such a call carries.
        stored: As `stored_in` tells them. On the way OpenVINO makes others, which are no weights.
    """
    graph = openvino().Core().read_model(str(model.path))
    graph.reshape({graph.input(name): list(shape) for name, shape in fed.items()})
    layers: list[Layer] = []
    owned: set[tuple[int, int]] = set()
    values: dict[str, float] = {}
    kinds, types, between = Counter[str](), Counter[str](), Counter[str]()
    free = []
    for op in graph.get_ordered_ops():
        kind = op.get_type_name()
        if kind in ("Parameter", "Constant", "Result") or _constant(op) is not None:
            for port in op.outputs() if kind == "Parameter" else ():
                values[_value(port)] = _size(port) / samples
            continue
        weights = [found for port in op.inputs() if (found := _constant(port.get_source_output().get_node()))]
        within = stored.get(op.get_friendly_name(), ())
        held = [*within, *(one for weight in weights for one in stored.get(weight.get_friendly_name(), ()))]
        new = {one.place: one for one in held if one.place not in owned}
        owned |= new.keys()
        for (_, size), one in new.items():
            types[one.type] += size
        passed = sum(weight.get_byte_size() for weight in weights)
        passed += sum(size for _, size in {one.place for one in within})
        known = all(port.get_partial_shape().is_static for port in op.outputs())
        if known:
            values |= {_value(port): _size(port) / samples for port in op.outputs()}
        else:
            free.append(op.get_friendly_name())
        kinds[kind] += 1
        between[_type(op.output(0))] += 1
        layers.append(
            Layer(
                op.get_friendly_name(), kind, _multiply_adds(op) / samples,
                sum(size for _, size in new),
                sum(one.cells for one in new.values()),
                tuple(
                    _value(port.get_source_output()) for port in op.inputs()
                    if _constant(port.get_source_output().get_node()) is None
                ),
                tuple(map(_value, op.outputs())),
                sum(map(_size, op.outputs())) if kind in LOOKUPS and known else passed,
            )
        )  # fmt: skip
    if left := sum(size for _, size in {one.place for held in stored.values() for one in held} - owned):
        layers.append(Layer(UNUSED, "", 0, left))
    results = tuple(_value(op.input(0).get_source_output()) for op in graph.get_results())
    facts, said = told(layers, kinds, types, dict(between.most_common()))
    missing = as_whole([layer.name for layer in layers if layer.operator in BODIES])
    missing += [f"the sizes of what {free[0]} computes can't be told, nor how much"] if free else []
    return Structure(tuple(layers), facts, said, values, results, tuple(missing))


def _constant(op: Any) -> Any:
    """The constant that an operator gives, itself or converted; None where it gives none."""
    while op.get_type_name() in CONVERSIONS:
        op = op.input(0).get_source_output().get_node()
    return op if op.get_type_name() == "Constant" else None


def _value(port: Any) -> str:
    return f"{port.get_node().get_friendly_name()}:{port.get_index()}"


def _type(port: Any) -> str:
    return str(port.get_element_type().get_type_name())


def _size(port: Any) -> float:
    return float(_cells(port) * port.get_element_type().bitwidth / 8)


def _cells(port: Any) -> float:
    """How many values a port has; a free size counts as one."""
    shape = port.get_partial_shape()
    return 1.0 if shape.rank.is_dynamic else float(math.prod(dim.get_length() if dim.is_static else 1 for dim in shape))


def _multiply_adds(op: Any) -> float:
    """In one call; 0 of what multiplies no matrices, and of unknown sizes. What a loop repeats counts once, and of
    branches all."""
    kind = op.get_type_name()
    bodies = [op.get_function(place) for place in range(2)] if kind == "If" else []
    bodies += [op.get_function()] if kind in BODIES and kind != "If" else []
    inside = sum(_multiply_adds(inner) for body in bodies for inner in body.get_ordered_ops())
    known = all(port.get_partial_shape().is_static for port in op.outputs())
    return inside + (_own(op, kind) if known else 0.0)


def _own(op: Any, kind: str) -> float:
    shapes = [tuple(port.get_shape()) for port in op.inputs() if port.get_partial_shape().is_static]
    result = _cells(op.output(0))
    if len(shapes) < 2:
        return 0.0
    if kind == "MatMul":
        turned = op.get_attributes().get("transpose_a", False)
        return float(result * (shapes[0][-2] if turned and len(shapes[0]) > 1 else shapes[0][-1]))
    if kind == "Convolution":
        return float(result * math.prod(shapes[1][1:]))
    if kind == "GroupConvolution":  # [groups, out, in, sizes...]
        return float(result * math.prod(shapes[1][2:]))
    if kind in ("ConvolutionBackpropData", "GroupConvolutionBackpropData"):
        return float(math.prod(shapes[0]) * math.prod(shapes[1][2 if kind[0] == "G" else 1 :]))
    if kind in ("LSTMSequence", "GRUSequence", "RNNSequence"):  # weights of inputs and of the state: [directions, ...]
        own = [math.prod(shape) for shape in shapes if len(shape) == 3][-2:]
        return float(math.prod(shapes[0][:2]) * sum(own))
    if kind == "ScaledDotProductAttention":
        return float(math.prod(shapes[0]) * shapes[1][-2] + result * shapes[1][-2])
    return 0.0
