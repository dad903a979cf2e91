"""Pixels: a .tflite graph that takes the numeric part of pre-processing over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .._lazy import lazy
from ..errors import UnsupportedModel
from ..images import Preprocessing
from ..model import Model
from ._tflite import read
from ._tflite_writing import append, content, sign

flatbuffers = lazy("ai_edge_litert.tools.flatbuffer_utils", "litert")
schema = lazy("ai_edge_litert.schema_py_generated", "litert")


def with_pixels(model: Model, preprocessing: Preprocessing, path: Path) -> None:
    """Write a file with a cast, a product, a sum and, where channels come first, a transposition before its only input.

    Raises:
        UnsupportedModel: It has several inputs, or one that is not what images come to.
    """
    graph, inputs = read(model.path), model.signature.inputs
    place = next(iter(graph.inputs.values()))
    if len(inputs) != 1 or graph.values[place].dtype != "float32" or len(inputs[0].shape) != 4:
        raise UnsupportedModel(
            "A model takes pre-processing over where its only input is float32 with 4 axes, and this one takes "
            f"{', '.join(map(str, inputs))}{', as integers' if inputs[0].stored else ''}. Leave out fold."
        )
    live = flatbuffers.read_model_from_bytearray(bytearray(model.path.read_bytes()))
    part, name = _Part(live), inputs[0].name
    given = live.subgraphs[0].tensors[place]
    own, given.name = given.name, f"{name}/prepared".encode()
    first = preprocessing.layout == "nchw"
    sizes, free = [_channels_last(axes) if first else axes for axes in (given.shape, given.shapeSignature)]
    pixels = part.tensor(own, sizes, free, "UINT8")
    cast, scaled = (part.tensor(f"{name}/{step}".encode(), sizes, free) for step in ("float", "scaled"))
    moved = part.tensor(f"{name}/moved".encode(), sizes, free) if first else place
    factor, offset = (
        part.constant(f"{name}/{step}", values)
        for step, values in zip(("factor", "offset"), preprocessing.coefficients(), strict=True)
    )
    part.operator("CAST", [pixels], cast, "CastOptions", inDataType=schema.TensorType.UINT8)
    part.operator("MUL", [cast, factor], scaled, "MulOptions")
    part.operator("ADD", [scaled, offset], moved, "AddOptions")
    if first:
        axes = part.constant(f"{name}/axes", np.array([0, 3, 1, 2], np.int32))
        part.operator("TRANSPOSE", [moved, axes], place, "TransposeOptions")
    live.subgraphs[0].operators = [*part.added, *live.subgraphs[0].operators]
    live.subgraphs[0].inputs = [pixels]
    sign(live, {name: pixels}, graph.outputs)
    path.write_bytes(content(live))
    append(path, model.path)


class _Part:
    """What is added to a graph."""

    def __init__(self, live: Any):
        self.live, self.tensors, self.added = live, live.subgraphs[0].tensors, list[Any]()

    def tensor(self, name: bytes, shape: Any, free: Any, kind: str = "FLOAT32", buffer: int = 0) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.shapeSignature = name, shape, free
        made.type, made.buffer = getattr(schema.TensorType, kind), buffer
        self.tensors.append(made)
        return len(self.tensors) - 1

    def constant(self, name: str, values: np.ndarray[Any, Any]) -> int:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self.live.buffers.append(buffer)
        kind = values.dtype.name.upper()
        return self.tensor(name.encode(), list(values.shape), None, kind, len(self.live.buffers) - 1)

    def operator(self, kind: str, inputs: list[int], result: int, table: str, **options: int) -> None:
        code, made = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
        code.version = 1
        self.live.operatorCodes.append(code)
        made.opcodeIndex, made.inputs, made.outputs = len(self.live.operatorCodes) - 1, inputs, [result]
        made.builtinOptionsType = getattr(schema.BuiltinOptions, table)
        made.builtinOptions = getattr(schema, f"{table}T")()
        for name, value in options.items():
            setattr(made.builtinOptions, name, value)
        self.added.append(made)


def _channels_last(axes: Any) -> Any:
    return None if axes is None or not len(axes) else [axes[0], axes[2], axes[3], axes[1]]
