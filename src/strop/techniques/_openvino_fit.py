"""Fit for OpenVINO: what operators in int8 have for weights and biases, by samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from .._quiet import openvino
from ..model import Model
from ..target import computes
from ..technique import Context
from ._calibration import feeds
from ._fit import SAMPLES, Fit, Layer, Window, fitted, kept_fits
from ._mix import BITS, WEIGHTS
from ._openvino_graph import FAKE, telling

Array: TypeAlias = np.ndarray[Any, Any]

SMOOTHED = "/nncf_smooth_quant"
"""What the name of a multiplication ends in that moves ranges of activations into weights."""
WEIGHTED = ("Convolution", "GroupConvolution", "MatMul")


@dataclass(frozen=True)
class Place:
    """Where a layer's weights and its bias lie: the names of what rounds and adds them.

    Attributes:
        layer: The layer.
        rounds: The FakeQuantize of the weights.
        stored: The shape in which they are stored.
        across: Whether the weights of one output are a column.
        adds: The addition of the bias; empty without one.
        bias: As it is.
    """

    layer: Layer
    rounds: str
    stored: tuple[int, ...]
    across: bool
    adds: str
    bias: Array


@dataclass(frozen=True)
class Stored:
    """Weights that are unpacked to floats where they are read.

    Attributes:
        integers: int8, as they lie in the file, blocks of a row apart.
        steps: float32, of these, in a shape that broadcasts.
        bits: Of one integer: 8 or 4.
        shape: Of the weights.
        smoothed: By which what is read was multiplied (SmoothQuant), for they are those of what it was before.
    """

    integers: Array
    steps: Array
    bits: int
    shape: tuple[int, ...]
    smoothed: Array | None


Fitted: TypeAlias = Mapping[str, Mapping[str, Mapping[str, "Array | Stored"]]]
"""By precision and operator, the weights and biases that it has: by name of what reads them first."""


def fits(graph: Any, model: Model, context: Context, kept: Path) -> Fitted:
    """The weights and biases by which samples lose least in int8, and in bf16 where the CPU computes in it.

    Args:
        graph: With FakeQuantize before each input that is quantized.
        model: The file that it was made of.
        context: For the samples and the time.
        kept: A folder for what was found.
    """
    places = list(_places(graph))

    def made(layers: Sequence[Layer]) -> dict[str, Fit]:
        given = list(feeds(model.signature, context, SAMPLES, lambda: telling(graph, (), context.target.threads)))
        return fitted(layers, lambda values: telling(graph, values, context.target.threads), given, context)

    known = kept_fits(kept, [place.layer for place in places], made)
    able = [(place, known[place.layer.name]) for place in places if place.layer.name in known]
    return {
        "int8": {place.layer.name: _integers(place, fit) for place, fit in able},
        "bf16": {place.layer.name: _halves(place, fit) for place, fit in able if fit.halves.size},
    } | {
        precision: {place.layer.name: _alone(place, fit, BITS[precision]) for place, fit in able if fit.eight.size}
        for precision in WEIGHTS
    }


def _places(graph: Any) -> Iterable[Place]:
    """Operators with weights of their own in float32 that are rounded alike on both sides of 0."""
    for node in graph.get_ordered_ops():
        kind = node.get_type_name()
        rounds = _rounds(node) if kind in WEIGHTED else None
        source = node.input_value(0) if rounds else None
        while source is not None and source.get_node().get_type_name() == FAKE:
            source = source.get_node().input_value(0)
        if rounds is None or source is None or source.get_node().get_type_name() == "Constant":
            continue
        stored, across = _data(rounds.input_value(0)), kind == "MatMul" and not node.get_attributes()["transpose_b"]
        low, high = (_data(rounds.input_value(place)).astype(np.float64) for place in (1, 2))
        steps = np.broadcast_to((high - low) / (rounds.get_attributes()["levels"] - 1), stored.shape)
        weights, scales = (_rows(node, array, across) for array in (stored, steps))
        if not np.allclose(-low, high) or np.ptp(scales, axis=2).any() or not scales.all():
            continue
        scales = scales[..., 0]
        largest = float(np.rint(np.abs(weights).max(2) / scales).max())
        value = f"{source.get_node().get_friendly_name()}:{source.get_index()}"
        adds, bias = _bias(node, scales.size)
        halves = (bias if adds else np.zeros(scales.size)).reshape(scales.shape) if computes("bf16") else None
        layer = Layer(
            node.get_friendly_name(), value, weights, scales, largest, _window(node), bool(adds), halves,
            _smoothed(source, weights.shape[2]), alone=kind == "MatMul" and stored.ndim == 2,
        )  # fmt: skip
        yield Place(layer, rounds.get_friendly_name(), stored.shape, across, adds, bias)


def _smoothed(source: Any, inputs: int) -> Array | None:
    """By what a value is multiplied that was made for SmoothQuant."""
    if not source.get_node().get_friendly_name().endswith(SMOOTHED):
        return None
    factors = _data(source.get_node().input_value(1)).reshape(-1)
    return factors if factors.size == inputs else None


def _integers(place: Place, fit: Fit) -> dict[str, Array]:
    values = fit.integers * place.layer.scales[..., None]
    return {place.rounds: _stored(place, values), **_shifted(place, fit, values)}


def _alone(place: Place, fit: Fit, bits: int) -> dict[str, Array | Stored]:
    """Integers that are unpacked where they are read, and the bias."""
    integers, steps = (fit.eight[0], fit.eight_steps[0]) if bits == 8 else (fit.four[0], fit.four_steps[0])
    blocks, smoothed = integers.reshape(*steps.shape, -1), place.layer.smoothed  # [outputs, blocks, inputs]
    values = (blocks * steps[..., None]).reshape(place.layer.weights.shape) / (1.0 if smoothed is None else smoothed)
    order = (1, 2, 0) if place.across else (0, 1, 2)
    stored = Stored(blocks.transpose(order), steps[..., None].transpose(order), bits, place.stored, smoothed)
    return {place.rounds: stored, **_shifted(place, fit, values)}


def _shifted(place: Place, fit: Fit, values: Array) -> dict[str, Array]:
    """The bias, which takes what the outputs lose on the mean by these weights."""
    if not place.adds:
        return {}
    shift = np.einsum("goi,gi->go", place.layer.weights - values, fit.mean)
    return {place.adds: (place.bias + shift.reshape(place.bias.shape)).astype(np.float32)}


def _halves(place: Place, fit: Fit) -> dict[str, Array]:
    found = {place.rounds: _stored(place, fit.halves[..., 1:])}
    return {**found, place.adds: fit.halves[..., 0].reshape(place.bias.shape)} if place.adds else found


def _stored(place: Place, values: Array) -> Array:
    """Weights as they lie in the file, of [groups, outputs, inputs]."""
    rows = values.reshape(-1, values.shape[-1])
    return (rows.T if place.across else rows).reshape(place.stored).astype(np.float32)


def _rounds(node: Any) -> Any | None:
    """The FakeQuantize of an operator's weights, where nothing else reads them, and it reads them as they lie."""
    value = node.input_value(1)
    while value.get_node().get_type_name() == "Reshape" and len(value.get_target_inputs()) == 1:
        value = value.get_node().input_value(0)
    rounds = value.get_node()
    if rounds.get_type_name() != FAKE or len(value.get_target_inputs()) != 1:
        return None
    source = rounds.input_value(0)
    plain = source.get_node().get_type_name() == "Constant" and source.get_element_type() == openvino().Type.f32
    if not plain or len(source.get_target_inputs()) != 1:
        return None
    flat = node.get_type_name() != "MatMul" or len(node.input_value(1).get_shape()) == 2
    return rounds if flat and not node.get_attributes().get("transpose_a") else None


def _rows(node: Any, weights: Array, across: bool) -> Array:
    """[groups, outputs, inputs]."""
    weights = weights.reshape(tuple(node.input_value(1).get_shape()))
    groups, outputs = weights.shape[:2] if node.get_type_name() == "GroupConvolution" else (1, len(weights))
    if across:
        weights, outputs = weights.T, weights.shape[1]
    return weights.reshape(groups, outputs, -1)


def _bias(node: Any, outputs: int) -> tuple[str, Array]:
    """The addition after it that reads a constant for each output, and that."""
    readers = node.output(0).get_target_inputs()
    adds = next(iter(readers)).get_node() if len(readers) == 1 else node
    for value in adds.input_values() if adds.get_type_name() == "Add" else ():
        stored = value.get_node().get_type_name() == "Constant" and value.get_element_type() == openvino().Type.f32
        if stored and np.prod(tuple(value.get_shape())) == outputs:
            return str(adds.get_friendly_name()), _data(value)
    return "", np.zeros(0)


def _data(value: Any) -> Array:
    found: Array = value.get_node().data
    return found


def _window(node: Any) -> Window | None:
    if node.get_type_name() == "MatMul":
        return None
    known, places = node.get_attributes(), 3 if node.get_type_name() == "GroupConvolution" else 2
    pads = None if known["auto_pad"] == "same_upper" else (known["pads_begin"], known["pads_end"])
    return Window(list(node.input_value(1).get_shape())[places:], known["strides"], known["dilations"], pads)
