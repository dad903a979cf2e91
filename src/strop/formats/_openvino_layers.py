"""What a graph of OpenVINO's is made of, as OpenVINO itself reads it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from .._quiet import openvino
from ..model import Model
from ..structure import Layer, Structure
from ._told import UNUSED, told

LOOKUPS = ("Gather", "GatherND", "GatherElements")
"""Operators that read of a table what they give, and no more."""
CONVERSIONS = ("Convert", "Reshape", "Unsqueeze", "Transpose")
"""What may lie between a constant and the layer that uses it: it is computed once, when the model is loaded."""


def structure_of(
    model: Model, fed: Mapping[str, tuple[int, ...]], samples: int, stored: Mapping[str, tuple[int, int]]
) -> Structure:
    """Take a graph apart.

    Args:
        stored: Where in the file of weights each constant lies, and its bytes, by name; several may share a place. On
            the way OpenVINO makes others, which are no weights.
        fed: Shapes of the inputs of one call.
        samples: That such a call carries.
    """
    graph = openvino().Core().read_model(str(model.path))
    graph.reshape({graph.input(name): list(shape) for name, shape in fed.items()})
    layers: list[Layer] = []
    owned: set[tuple[int, int]] = set()

    def place(weight: Any) -> tuple[int, int] | None:
        return stored.get(str(weight.get_friendly_name()))

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
        new = {at: weight for weight in weights if (at := place(weight)) is not None and at not in owned}
        owned |= new.keys()
        for weight in new.values():
            types[_type(weight.output(0))] += weight.get_byte_size()
        passed = sum(weight.get_byte_size() for weight in weights)
        known = all(port.get_partial_shape().is_static for port in op.outputs())
        if known:
            values |= {_value(port): _size(port) / samples for port in op.outputs()}
        else:
            free.append(op.get_friendly_name())
        kinds[kind] += 1
        between[_type(op.output(0))] += 1
        layers.append(
            Layer(
                op.get_friendly_name(), kind, _multiply_adds(op, kind) / samples if known else 0.0,
                sum(size for _, size in new),
                sum(math.prod(weight.get_output_shape(0)) for weight in new.values()),
                tuple(
                    _value(port.get_source_output()) for port in op.inputs()
                    if _constant(port.get_source_output().get_node()) is None
                ),
                tuple(map(_value, op.outputs())),
                sum(map(_size, op.outputs())) if kind in LOOKUPS and known else passed,
            )
        )  # fmt: skip
    if left := sum(size for _, size in set(stored.values()) - owned):
        layers.append(Layer(UNUSED, "", 0, left))
    results = tuple(_value(op.input(0).get_source_output()) for op in graph.get_results())
    facts, said = told(layers, kinds, types, dict(between.most_common()))
    missing = (f"the sizes of what {free[0]} computes can't be told, nor how much",) if free else ()
    return Structure(tuple(layers), facts, said, values, results, missing)


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


def _multiply_adds(op: Any, kind: str) -> float:
    """In one call; 0 of what multiplies no matrices."""
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
