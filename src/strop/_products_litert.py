"""Products through LiteRT: the layers that other runtimes multiply as ONNX, as a .tflite file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from ._lazy import require
from ._multiplying import IDLE, MANY, OPERATORS, STEP, Array, drawn, given, input_shape, rounded
from ._quiet import hushed

Loaded: TypeAlias = tuple[Callable[[], object], str]
"""A call that runs layers, and the precision that their products are computed in."""

TO_LAST = {"dense": (1, 0), "convolution": (0, 2, 3, 1)}
"""The axes of weights as TFLite has them: the output channels first, those of the input last."""
NONE, STEPS = np.zeros(0, np.float32), np.array([STEP], np.float32)
"""Scales of floats, and of activations."""
IDLING = ("ABS", "NEG", "FLOOR", "CEIL")
"""XNNPACK has them all; no two of one kind are neighbours."""


def litert(work: str, precision: str, threads: int) -> Loaded:
    """Layers, or operators with next to nothing to do, made ready to run.

    A kernel is chosen by the types in the file, so the precision that is asked for is the one that it runs in.
    """
    interpreter = require("ai_edge_litert.interpreter", "litert").Interpreter
    with hushed():
        made = interpreter(model_content=content(work, precision, threads), num_threads=threads)
        made.allocate_tensors()
    value = given(work, threads)
    (entry,) = made.get_input_details()
    made.set_tensor(entry["index"], value if value.ndim < 4 else value.transpose(0, 2, 3, 1))
    return made.invoke, precision


def content(work: str, precision: str, threads: int) -> bytes:
    """The file: from float32 to float32 of the same shape, with what `work` says between them."""
    made = _Writing()
    shape = input_shape(work, threads)
    shape = shape if len(shape) < 4 else tuple(shape[at] for at in (0, 2, 3, 1))
    first = value = made.tensor(shape, np.float32)
    if work == IDLE:
        for at in range(MANY):
            value = made.operator(IDLING[at % len(IDLING)], [value], made.tensor(shape, np.float32))
        return made.content(first, value)
    integers, axis = precision == "int8", OPERATORS[work].axis
    kind, options = ("FULLY_CONNECTED", "FullyConnected") if work == "dense" else ("CONV_2D", "Conv2D")
    fields = {} if work == "dense" else {"strideW": 1, "strideH": 1}  # padded by zeros, as is the default
    if integers:
        value = made.operator("QUANTIZE", [value], made.tensor(shape, np.int8, STEPS), "Quantize")
    for weights in drawn(work):
        stored, scales = rounded(weights, axis) if integers else (weights, NONE)
        bias = np.zeros(weights.shape[axis], np.int32 if integers else np.float32)
        held = made.constant(stored.transpose(TO_LAST[work]), scales), made.constant(bias, scales * STEPS)
        result = made.tensor(shape, np.int8, STEPS) if integers else made.tensor(shape, np.float32)
        value = made.operator(kind, [value, *held], result, options, **fields)
    if integers:
        value = made.operator("DEQUANTIZE", [value], made.tensor(shape, np.float32), "Dequantize")
    return made.content(first, value)


class _Writing:
    """A graph that grows operator by operator, in the schema's own objects; tensors are known by their places."""

    def __init__(self) -> None:
        self.schema: Any = require("ai_edge_litert.schema_py_generated", "litert")
        self.model, self.graph = self.schema.ModelT(), self.schema.SubGraphT()
        self.model.version, self.model.subgraphs, self.model.buffers = 3, [self.graph], [self.schema.BufferT()]
        self.model.operatorCodes, self.graph.tensors, self.graph.operators = [], [], []

    def tensor(self, shape: Sequence[int], dtype: Any, scales: Array = NONE) -> int:
        """One that is computed; integers have a scale, or one for each of the first axis."""
        made = self.schema.TensorT()
        made.name, made.shape, made.buffer = f"t{len(self.graph.tensors)}".encode(), list(shape), 0
        made.type = getattr(self.schema.TensorType, np.dtype(dtype).name.upper())
        if len(scales):
            made.quantization = self.schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = [float(one) for one in scales], [0] * len(scales)
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def constant(self, values: Array, scales: Array) -> int:
        place, buffer = self.tensor(values.shape, values.dtype, scales), self.schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self.graph.tensors[place].buffer = len(self.model.buffers)
        self.model.buffers.append(buffer)
        return place

    def operator(self, kind: str, inputs: Sequence[int], output: int, options: str = "", **fields: int) -> int:
        """Returns: The tensor that it makes."""
        code, made = self.schema.OperatorCodeT(), self.schema.OperatorT()
        code.builtinCode = getattr(self.schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
        made.opcodeIndex, made.inputs, made.outputs = len(self.model.operatorCodes), list(inputs), [output]
        if options:
            made.builtinOptionsType = getattr(self.schema.BuiltinOptions, f"{options}Options")
            made.builtinOptions = getattr(self.schema, f"{options}OptionsT")()
            for name, value in fields.items():
                setattr(made.builtinOptions, name, value)
        self.model.operatorCodes.append(code)
        self.graph.operators.append(made)
        return output

    def content(self, given: int, result: int) -> bytes:
        self.graph.inputs, self.graph.outputs = [given], [result]
        builder = require("flatbuffers").Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())
