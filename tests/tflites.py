"""Small .tflite models with random weights, written through the schema that LiteRT ships."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from strop import formats
from strop.data import Data
from strop.model import Model
from strop.runtime import predict
from strop.runtimes import Litert
from strop.target import Target
from strop.technique import Context, Technique, apply
from strop.testing import Example

RNG = np.random.default_rng
SAMPLES = 24
ONE = Target(threads=1)
CODES = {
    np.dtype(name): getattr(schema.TensorType, name.upper())
    for name in ("float32", "float16", "int32", "uint8", "int8", "int16", "int64", "bool")
}


class Writer:
    """A graph that grows operator by operator; tensors are known by their names."""

    def __init__(self) -> None:
        self.model, self.graph = schema.ModelT(), schema.SubGraphT()
        self.model.version, self.model.subgraphs, self.model.signatureDefs = 3, [self.graph], []
        self.model.buffers, self.model.operatorCodes = [schema.BufferT()], []
        self.graph.tensors, self.graph.operators, self.graph.name = [], [], b"main"
        self.places: dict[str, int] = {}

    def tensor(
        self, name: str, shape: Sequence[int], dtype: str = "float32", *, free: Sequence[int] = (), scale: float = 0,
        zero: int = 0, variable: bool = False,
    ) -> str:  # fmt: skip
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name.encode(), list(shape), CODES[np.dtype(dtype)], 0
        made.shapeSignature, made.isVariable = list(free) or None, variable
        if scale:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = [scale], [zero]
        self.places[name] = len(self.graph.tensors)
        self.graph.tensors.append(made)
        return name

    def constant(self, name: str, values: np.ndarray) -> str:
        self.tensor(name, values.shape, values.dtype.name)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self.graph.tensors[-1].buffer = len(self.model.buffers)
        self.model.buffers.append(buffer)
        return name

    def weights(self, name: str, *shape: int) -> str:
        """Of variance 1 over the fan-in."""
        fan_in = int(np.prod(shape[1:])) or 1
        return self.constant(name, RNG([*name.encode()]).normal(0, fan_in**-0.5, shape).astype(np.float32))

    def operator(self, kind: str, inputs: Sequence[str], outputs: Sequence[str], **options: object) -> None:
        """Add one; its options go by the names of the schema, and of the table that bears its name."""
        code, made = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind, schema.BuiltinOperator.CUSTOM)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
        if code.builtinCode == schema.BuiltinOperator.CUSTOM:
            code.customCode = kind.encode()
        made.opcodeIndex = len(self.model.operatorCodes)
        made.inputs, made.outputs = [self.places[n] for n in inputs], [self.places[n] for n in outputs]
        if options:
            table = options.pop("table")
            made.builtinOptionsType = getattr(schema.BuiltinOptions, table)
            made.builtinOptions = getattr(schema, f"{table}T")()
            for name, value in options.items():
                setattr(made.builtinOptions, name, value)
        self.model.operatorCodes.append(code)
        self.graph.operators.append(made)

    def ends(self, inputs: Sequence[str], outputs: Sequence[str], key: str = "serving_default", **named: str) -> None:
        """Say what goes in and out; `named`, where given, makes a signature: what people call a tensor."""
        self.graph.inputs, self.graph.outputs = ([self.places[n] for n in side] for side in (inputs, outputs))
        if named:
            signature = schema.SignatureDefT()
            signature.signatureKey, signature.subgraphIndex = key.encode(), 0
            signature.inputs, signature.outputs = [], []
            for name, tensor in named.items():
                entry = schema.TensorMapT()
                entry.name, entry.tensorIndex = name.encode(), self.places[tensor]
                (signature.inputs if tensor in inputs else signature.outputs).append(entry)
            self.model.signatureDefs.append(signature)

    def bytes(self) -> bytes:
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def write(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.bytes())
        return path


def cnn() -> Writer:
    """Two convolutions, a mean over the image, a dense layer and a softmax; the batch is free."""
    w = Writer()
    w.tensor("image", (1, 12, 12, 3), free=(-1, 12, 12, 3))
    for name, given, size, channels in (("first", "image", 12, 3), ("second", "first", 6, 8)):
        w.weights(f"{name}/kernel", 2 * channels + 2, 3, 3, channels)
        w.weights(f"{name}/bias", 2 * channels + 2)
        w.tensor(name, (1, size, size, 2 * channels + 2), free=(-1, size, size, 2 * channels + 2))
        w.operator(
            "CONV_2D", [given, f"{name}/kernel", f"{name}/bias"], [name], table="Conv2DOptions", strideW=12 // size,
            strideH=12 // size, fusedActivationFunction=schema.ActivationFunctionType.RELU,
        )  # fmt: skip
    w.constant("axes", np.array([1, 2], np.int32))
    w.tensor("mean", (1, 18), free=(-1, 18))
    w.operator("MEAN", ["second", "axes"], ["mean"], table="ReducerOptions", keepDims=False)
    w.weights("dense/kernel", 10, 18)
    w.weights("dense/bias", 10)
    w.tensor("logits", (1, 10), free=(-1, 10))
    w.operator(
        "FULLY_CONNECTED", ["mean", "dense/kernel", "dense/bias"], ["logits"], table="FullyConnectedOptions"
    )  # fmt: skip
    w.tensor("probabilities", (1, 10), free=(-1, 10))
    w.operator("SOFTMAX", ["logits"], ["probabilities"], table="SoftmaxOptions", beta=1.0)
    w.ends(["image"], ["probabilities"], picture="image", scores="probabilities")
    return w


def integers() -> Writer:
    """A quantized ReLU, of uint8 images: y = max(x, 0) with x in [-1, 1), y in [0, 2)."""
    w = Writer()
    w.tensor("pixels", (1, 6), "uint8", free=(-1, 6), scale=1 / 128, zero=128)
    w.tensor("lit", (1, 6), "uint8", free=(-1, 6), scale=1 / 128, zero=0)
    w.operator("RELU", ["pixels"], ["lit"])
    w.ends(["pixels"], ["lit"])
    return w


def rnn() -> Writer:
    """A recurrent layer of 5 units over 4 steps of 3 values, whose state LiteRT keeps from call to call."""
    w = Writer()
    w.tensor("x", (1, 4, 3))
    w.weights("kernel", 5, 3)
    w.weights("recurrent", 5, 5)
    w.weights("bias", 5)
    w.tensor("state", (1, 5), variable=True)
    w.tensor("y", (1, 4, 5))
    w.operator(
        "UNIDIRECTIONAL_SEQUENCE_RNN", ["x", "kernel", "recurrent", "bias", "state"], ["y"],
        table="SequenceRNNOptions", timeMajor=False, fusedActivationFunction=schema.ActivationFunctionType.TANH,
    )  # fmt: skip
    w.ends(["x"], ["y"])
    return w


def images(samples: int = SAMPLES) -> Data:
    """What fits `cnn`."""
    return Data({"picture": RNG(1).normal(size=(samples, 12, 12, 3)).astype(np.float32)})


def values(writer: Writer) -> dict[str, np.ndarray]:
    """Its float constants by name, in float64."""
    found = {}
    for tensor in writer.graph.tensors:
        data = writer.model.buffers[tensor.buffer].data
        if data is not None and tensor.type == CODES[np.dtype("float32")]:
            found[tensor.name.decode()] = np.frombuffer(data.tobytes(), "<f4").reshape(tensor.shape).astype(float)
    return found


def opened(writer: Writer, folder: Path) -> Model:
    return formats.open(writer.write(folder / "model.tflite"))


def example(folder: Path) -> Example:
    """The network of `cnn`, and images."""
    return Example(opened(cnn(), folder), images())


def logits(folder: Path) -> Example:
    """The network without its softmax, which would hide small errors."""
    writer = cnn()
    del writer.graph.operators[-1], writer.graph.tensors[-1]
    writer.model.signatureDefs = []
    writer.ends(["image"], ["logits"], picture="image", scores="logits")
    return Example(opened(writer, folder), images())


def quantize(technique: Technique, example: Example, folder: Path) -> Model:
    folder.mkdir()
    return apply(technique, example.model, Context(example.data, example.model, ONE, 0, folder))


def answers(model: Model, data: Data, batch: int = 4) -> dict[str, np.ndarray]:
    runner = Litert().load(model, ONE)
    try:
        return predict(runner, model.signature, data, batch)
    finally:
        runner.close()
