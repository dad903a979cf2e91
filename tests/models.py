"""Small real ONNX models, each odd in its own way, and data that fit them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, parser

from strop import formats
from strop.data import Data
from strop.model import Model

RNG = np.random.default_rng
SAMPLES = 24


@dataclass(frozen=True)
class Case:
    """A model on disk with data that fit it."""

    model: Model
    data: Data


def weight(name: str, *shape: int, seed: int = 0, scale: float = 1.0) -> onnx.TensorProto:
    """Weights of variance `scale` over the fan-in, float32."""
    fan_in = int(np.prod(shape[1:] if len(shape) == 4 else shape[:-1])) or 1
    values = RNG([seed, *name.encode()]).normal(0, scale / np.sqrt(fan_in), shape)
    return numpy_helper.from_array(values.astype(np.float32), name)


def build(text: str, weights: list[onnx.TensorProto], opset: int = 17) -> onnx.ModelProto:
    """A model from ONNX's textual syntax: the graph without its weights."""
    head = f'<ir_version: {8 if opset > 8 else 3}, opset_import: ["" : {opset}]>\n'
    proto = parser.parse_model(head + text)
    proto.graph.initializer.extend(weights)
    return proto


def floats(*shape: int, seed: int = 1) -> np.ndarray:
    return RNG(seed).normal(size=(SAMPLES, *shape)).astype(np.float32)


def mlp() -> onnx.ModelProto:
    return build(
        """g (float[N, 16] x) => (float[N, 4] y) {
            h = Gemm(x, w1, b1)
            r = Relu(h)
            m = MatMul(r, w2)
            y = Add(m, b2)
        }""",
        [weight("w1", 16, 32), weight("b1", 32), weight("w2", 32, 4), weight("b2", 4)],
    )


def cnn() -> onnx.ModelProto:
    """Two convolutions, the first followed by a batch norm, and a classifier."""
    norm = [numpy_helper.from_array(v.astype(np.float32), n) for n, v in zip(
        ("scale", "shift", "mean", "var"),
        (RNG(3).uniform(0.5, 2, 8), RNG(4).normal(size=8), RNG(5).normal(size=8), RNG(6).uniform(0.5, 2, 8)),
        strict=True,
    )]  # fmt: skip
    return build(
        """g (float[N, 3, 16, 16] image) => (float[N, 10] scores) {
            c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (image, k1)
            n = BatchNormalization(c, scale, shift, mean, var)
            r = Relu(n)
            p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
            d = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (p, k2, kb2)
            s = Relu(d)
            a = GlobalAveragePool(s)
            f = Flatten(a)
            scores = Gemm(f, w, b)
        }""",
        [weight("k1", 8, 3, 3, 3), *norm, weight("k2", 16, 8, 3, 3), weight("kb2", 16), weight("w", 16, 10),
         weight("b", 10)],
    )  # fmt: skip


def transformer() -> onnx.ModelProto:
    """Token embedding, one block of single-head attention and feed-forward with layer norms, mean pooling."""
    ones, zeros = np.ones(32, np.float32), np.zeros(32, np.float32)
    shape = [numpy_helper.from_array(ones, "gain"), numpy_helper.from_array(zeros, "bias")]
    return build(
        """g (int64[N, T] ids, float[N, T] mask) => (float[N, 32] embedding) {
            e = Gather(table, ids)
            q = MatMul(e, wq)
            k = MatMul(e, wk)
            v = MatMul(e, wv)
            kt = Transpose <perm = [0, 2, 1]> (k)
            raw = MatMul(q, kt)
            scaled = Mul(raw, factor)
            wide = Unsqueeze(mask, axis)
            off = Sub(one, wide)
            penalty = Mul(off, huge)
            masked = Add(scaled, penalty)
            p = Softmax <axis = -1> (masked)
            c = MatMul(p, v)
            o = MatMul(c, wo)
            s = Add(o, e)
            n = LayerNormalization(s, gain, bias)
            f = MatMul(n, w1)
            g1 = Relu(f)
            h = MatMul(g1, w2)
            t = Add(h, n)
            u = LayerNormalization(t, gain, bias)
            embedding = ReduceMean <axes = [1], keepdims = 0> (u)
        }""",
        [weight("table", 50, 32, scale=7), *(weight(w, 32, 32) for w in ("wq", "wk", "wv", "wo")),
         weight("w1", 32, 64), weight("w2", 64, 32), *shape,
         numpy_helper.from_array(np.float32(32**-0.5), "factor"), numpy_helper.from_array(np.array([1]), "axis"),
         numpy_helper.from_array(np.float32(1), "one"), numpy_helper.from_array(np.float32(-1e4), "huge")],
    )  # fmt: skip


def lstm() -> onnx.ModelProto:
    """A recurrent step: state in, state out, and a scalar rate that only scales, as in voice detectors."""
    return build(
        """g (float[1, 12] frame, float[2, 1, 16] state, int64 rate) => (float[1, 1] speech, float[2, 1, 16] next) {
            h0, c0 = Split <axis = 0> (state, halves)
            steps = Unsqueeze(frame, axis)
            unused, h, c = LSTM <hidden_size = 16> (steps, w, r, b, , h0, c0)
            next = Concat <axis = 0> (h, c)
            flat = Squeeze(h, axis)
            score = Gemm(flat, v, vb)
            fast = Cast <to = 1> (rate)
            unit = Div(fast, base)
            scaled = Mul(score, unit)
            speech = Sigmoid(scaled)
        }""",
        [weight("w", 1, 64, 12, scale=2), weight("r", 1, 64, 16, scale=2), weight("b", 1, 128), weight("v", 16, 1),
         weight("vb", 1), numpy_helper.from_array(np.array([1, 1]), "halves"),
         numpy_helper.from_array(np.array([0]), "axis"), numpy_helper.from_array(np.float32(16000), "base")],
    )  # fmt: skip


def constants() -> onnx.ModelProto:
    """The convolutional model, its weights in Constant nodes."""
    proto = cnn()
    nodes = [helper.make_node("Constant", [], [t.name], value=t) for t in proto.graph.initializer]
    del proto.graph.initializer[:]
    nodes += proto.graph.node
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return proto


def old_opset() -> onnx.ModelProto:
    """Opset 9 as exporters wrote it: weights listed among the inputs, axes in attributes."""
    proto = build(
        """g (float[N, 3, 8, 8] x) => (float[N, 5] y) {
            c = Conv <kernel_shape = [3, 3]> (x, k)
            r = Relu(c)
            m = ReduceMean <axes = [2, 3], keepdims = 1> (r)
            s = Squeeze <axes = [2, 3]> (m)
            y = Gemm(s, w, b)
        }""",
        [weight("k", 6, 3, 3, 3), weight("w", 6, 5), weight("b", 5)],
        opset=9,
    )
    proto.ir_version = 3
    proto.graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in proto.graph.initializer
    )
    return proto


def wrong_shape() -> onnx.ModelProto:
    """Declares an output of another width than it has, and a value in between likewise."""
    proto = mlp()
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7
    proto.graph.value_info.append(helper.make_tensor_value_info("r", TensorProto.FLOAT, ["N", 99]))
    return proto


def several_inputs() -> onnx.ModelProto:
    """A number vector, a category and a flag go into one score."""
    return build(
        """g (float[N, 6] numbers, int32[N] kind, bool[N, 2] flags) => (float[N, 1] score) {
            e = Gather(table, kind)
            f = Cast <to = 1> (flags)
            x = Concat <axis = 1> (numbers, e, f)
            h = Gemm(x, w1, b1)
            r = Relu(h)
            score = Gemm(r, w2, b2)
        }""",
        [weight("table", 10, 8, scale=3), weight("w1", 16, 24), weight("b1", 24), weight("w2", 24, 1),
         weight("b2", 1)],
    )  # fmt: skip


def no_batch() -> onnx.ModelProto:
    """One sample a call: a sequence of any length without a batch axis, as a single vector out."""
    return build(
        """g (float[T, 8] series) => (float[4] y) {
            h = MatMul(series, w1)
            r = Relu(h)
            o = MatMul(r, w2)
            y = ReduceMean <axes = [0], keepdims = 0> (o)
        }""",
        [weight("w1", 8, 24), weight("w2", 24, 4)],
    )


def quantized() -> onnx.ModelProto:
    """Already in QDQ form."""
    return build(
        """g (float[N, 16] x) => (float[N, 4] y) {
            q = QuantizeLinear(x, sx, zx)
            d = DequantizeLinear(q, sx, zx)
            w = DequantizeLinear(wq, sw, zw)
            y = MatMul(d, w)
        }""",
        [numpy_helper.from_array(RNG(0).integers(-127, 128, (16, 4), np.int8), "wq"),
         numpy_helper.from_array(np.float32(0.03), "sx"), numpy_helper.from_array(np.uint8(128), "zx"),
         numpy_helper.from_array(np.float32(0.002), "sw"), numpy_helper.from_array(np.int8(0), "zw")],
    )  # fmt: skip


BUILDERS: dict[str, Callable[[], onnx.ModelProto]] = {
    builder.__name__: builder
    for builder in (
        mlp, cnn, transformer, lstm, constants, old_opset, wrong_shape, several_inputs, no_batch, quantized
    )
}  # fmt: skip
KINDS = (*BUILDERS, "external")


def case(kind: str, folder: Path) -> Case:
    """Write a model of a kind into a folder, and make data that fit it; what only data tell is in its signature."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kind}.onnx"
    if kind == "external":
        onnx.save_model(cnn(), path, save_as_external_data=True, location=f"{kind}.bin", size_threshold=0)
    else:
        onnx.save_model(BUILDERS[kind](), path)
    model = formats.open(path)
    if kind == "lstm":
        frame, state, rate = model.signature.inputs
        state = replace(state, batched=False, feedback="next")
        inputs = (frame, state, replace(rate, batched=False))
        model = replace(model, signature=replace(model.signature, inputs=inputs))
    if kind == "no_batch":
        inputs = (replace(model.signature.inputs[0], batched=False),)
        model = replace(model, signature=replace(model.signature, inputs=inputs))
    return Case(model, data_for(kind))


def data_for(kind: str) -> Data:
    """Data that fit a model of a kind."""
    integers = RNG(2).integers
    if kind in ("cnn", "constants", "external"):
        return Data({"image": floats(3, 16, 16)})
    if kind == "transformer":
        return Data({"ids": integers(0, 50, (SAMPLES, 12)), "mask": np.ones((SAMPLES, 12), np.float32)})
    if kind == "lstm":
        return Data({"frame": floats(5, 12)}, constants={"rate": np.array(16000)})
    if kind == "old_opset":
        return Data({"x": floats(3, 8, 8)})
    if kind == "several_inputs":
        flags = integers(0, 2, (SAMPLES, 2)).astype(bool)
        return Data({"numbers": floats(6), "kind": integers(0, 10, SAMPLES, np.int32), "flags": flags})
    if kind == "no_batch":
        return Data({"series": floats(9, 8)})
    return Data({"x": floats(16)})
