"""Multiplying: what every runtime is given to multiply, in whatever form of file: layers in a row, drawn at random."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Operator:
    """What is timed: its name in ONNX, the shape of its weights, the axis of their output channels, its attributes."""

    name: str
    weights: tuple[int, ...]
    axis: int
    attributes: dict[str, Any]


# Big enough to be bound by computing, small enough for the caches: at most 1 MB of weights a layer in float32.
OPERATORS = {
    "dense": Operator("MatMul", (512, 512), 1, {}),
    "convolution": Operator("Conv", (128, 128, 3, 3), 0, {"pads": [1, 1, 1, 1]}),
}
"""Two, since they run on different kernels, of which only one may gain from int8."""
IDLE = "idle"
"""What takes their place to tell what an operator takes that has next to nothing to do."""

LAYERS = 4  # in a row: between them int8 stays int8, as in a model
MANY = 200  # operators that do next to nothing
NUMBERS = 16  # that each of these is given
STEP = 4 / 255  # between the integers of activations
ROWS = 256  # of activations, a thread
WIDTH = 16  # of an image


def drawn(operator: str, layers: int = LAYERS) -> Iterator[Array]:
    """The weights of each layer: what comes out is as large as what goes in, so that nothing overflows or fades."""
    random, made = np.random.default_rng(0), OPERATORS[operator]
    scale = np.float32((math.prod(made.weights) / made.weights[made.axis]) ** -0.5)
    for _ in range(layers):
        yield random.standard_normal(made.weights, np.float32) * scale


def rounded(weights: Array, axis: int) -> tuple[Array, Array]:
    """Weights as int8, and the scale of each output channel."""
    others = tuple(at for at in range(weights.ndim) if at != axis)
    scales = np.abs(weights).max(others, keepdims=True) / np.float32(127)
    return np.round(weights / scales).astype(np.int8), scales.reshape(-1)


def input_shape(operator: str, threads: int) -> tuple[int, ...]:
    """The shape of the activations: as many rows, or pixels, a thread, whatever their number."""
    if operator == IDLE:
        return (1, NUMBERS)
    channels = OPERATORS[operator].weights[1]
    return (ROWS * threads, channels) if operator == "dense" else (1, channels, ROWS // WIDTH * threads, WIDTH)


def given(operator: str, threads: int) -> Array:
    """What goes in."""
    return np.random.default_rng(1).standard_normal(input_shape(operator, threads), np.float32)


def operations_a_layer(operator: str, threads: int) -> int:
    """Multiplications and additions, without those of a convolution's window with the zeros around the image."""
    into, out = OPERATORS[operator].weights[:2]
    if operator == "dense":
        return 2 * ROWS * threads * into * out
    return 2 * into * out * math.prod(3 * side - 2 for side in input_shape(operator, threads)[2:])
