"""Mixes of odd graphs: each runs; all in float answers as the original, all in int8 as int8, others lie between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import models
from strop import explain, formats
from strop.build import time_layers
from strop.data import Data
from strop.model import Model
from strop.nmse import nmse
from strop.prefix import Prefix
from strop.target import Target, computes
from strop.technique import Context, Technique, apply
from strop.techniques import DynamicInt8, MixedDynamic, MixedOnnx, MixedOpenvino, OpenvinoInt8, StaticInt8, ToOpenvino
from strop.techniques._onnx_floats import keep_floats
from techniques.test_all import run

TARGET = Target(threads=1)
IDS = models.RNG(2).integers(0, 50, (models.SAMPLES, 6))
IMAGES = {"x": models.floats(8, 6, 6)}
WIDE = {"x": models.floats(16)}
MIXERS = [(MixedDynamic, DynamicInt8), (MixedOnnx, StaticInt8)]


def table(read: str = "") -> onnx.ModelProto:
    """An embedding that goes into products, and into what else is given."""
    return models.build(
        f"""g (int64[N, T] ids) => (float[N, T, 16] y) {{
            e = Gather(table, ids)
            h = MatMul(e, w1)
            k = MatMul(e, w2)
            s = Add(h, {read or "k"})
            y = MatMul(s, w3)
        }}""",
        [models.weight("table", 50, 16, scale=7), *(models.weight(name, 16, 16) for name in ("w1", "w2", "w3"))],
    )


def residual() -> onnx.ModelProto:
    return table("e")


def recurrent() -> onnx.ModelProto:
    """Two layers whose sequence of outputs nothing reads, so that it has no name."""
    proto = models.build(
        """g (float[N, 5, 12] x) => (float[N, 4] y) {
            p = MatMul(x, wp)
            t = Transpose <perm = [1, 0, 2]> (p)
            a, ah = LSTM <hidden_size = 16> (t, w, r, b)
            c, ch = LSTM <hidden_size = 16> (t, w2, r2, b)
            e = Add(ah, ch)
            q = Squeeze(e, first)
            y = MatMul(q, v)
        }""",
        [models.weight("wp", 12, 12), models.weight("w", 1, 64, 12, scale=2), models.weight("r", 1, 64, 16, scale=2),
         models.weight("b", 1, 128),
         models.weight("w2", 1, 64, 12), models.weight("r2", 1, 64, 16), models.weight("v", 16, 4),
         numpy_helper.from_array(np.array([0]), "first")],
    )  # fmt: skip
    for node in proto.graph.node:
        node.output[0] = "" if node.op_type == "LSTM" else node.output[0]
    return proto


def convolving() -> onnx.ModelProto:
    """Convolutions in a row, one that clips, and one whose output is added to, too."""
    return models.build(
        """g (float[N, 8, 6, 6] x) => (float[N, 4, 6, 6] y) {
            a = Conv(x, w1, b)
            c = Clip(a, low, high)
            d = Conv(c, w2)
            e = Relu(d)
            f = Conv(e, w3)
            s = Add(d, f)
            y = Conv(s, w4)
        }""",
        [*(models.weight(name, 8, 8, 1, 1) for name in ("w1", "w2", "w3")), models.weight("w4", 4, 8, 1, 1),
         models.weight("b", 8), numpy_helper.from_array(np.float32(0), "low"),
         numpy_helper.from_array(np.float32(3), "high")],
    )  # fmt: skip


def branching() -> onnx.ModelProto:
    """Weights that are read from within a branch, too."""
    return models.build(
        """g (float[N, 16] x) => (float[N, 16] y) {
            h = MatMul(x, w)
            s = ReduceMean <keepdims = 0> (h)
            c = Greater(s, zero)
            u = If (c) <
                then_branch = t () => (float[N, 16] ty) { ty = Add(h, x) },
                else_branch = e () => (float[N, 16] ey) { ey = Gemm <transB = 1> (x, w3, b) }
            >
            v = Gemm <transB = 1> (u, w2, b)
            y = Relu(v)
        }""",
        [*(models.weight(name, 16, 16) for name in ("w", "w2", "w3")), models.weight("b", 16),
         numpy_helper.from_array(np.float32(0), "zero")],
    )  # fmt: skip


def taken() -> onnx.ModelProto:
    """Nodes with the names that ONNX Runtime's quantizer would give."""
    proto = models.mlp()
    for node, name in zip(proto.graph.node, ("a", "a_MatMul_quant", "b", "x_QuantizeLinear"), strict=True):
        node.name = name
    return proto


@pytest.mark.parametrize(
    ("build", "arrays", "mixer", "plain"),
    [
        (build, arrays, *pair)
        for build, arrays in [
            (table, {"ids": IDS}),
            (residual, {"ids": IDS}),
            (recurrent, {"x": models.floats(5, 12)}),
            (branching, WIDE),
            (taken, WIDE),
        ]
        for pair in MIXERS
    ]
    + [(convolving, IMAGES, MixedOnnx, StaticInt8)],
)
def test_each_layer_alone_and_all_but_each_lie_between_float_and_int8(
    build: Callable[[], onnx.ModelProto],
    arrays: dict[str, Any],
    mixer: type[Technique],
    plain: type[Technique],
    tmp_path: Path,
) -> None:
    onnx.save(build(), tmp_path / "model.onnx")
    model, data = formats.open(tmp_path / "model.onnx"), Data(arrays)
    made = apply(plain(), model, Context(data, model, TARGET, 0, tmp_path / "plain"))
    parts = mixer().parts(model, Context(data, model, TARGET, 0, tmp_path / "parts"))
    lowest, exact = (dict.fromkeys(parts.members, precision) for precision in ("int8", "f32"))
    right, whole = run(model, data), run(made, data)
    feeds = [data.batch(row, row + 1) for row in range(4)]

    def answers(mix: dict[str, str], name: str) -> dict[str, Any]:
        return run(parts.save(mix, tmp_path / name), data)

    worst = nmse(whole, right)
    assert nmse(answers(exact, "exact"), right) < 1e-9
    assert nmse(answers(lowest, "lowest"), whole) < 1e-9 < worst
    prefixes = [Prefix(parts, mix, feeds, [parts.step(mix)(feed) for feed in feeds]) for mix in (exact, lowest)]
    for group in parts.members:
        for prefix, mix in zip(prefixes, ({**exact, group: "int8"}, {**lowest, group: "f32"}), strict=True):
            assert nmse(answers(mix, f"{len(list(tmp_path.iterdir()))}"), right) < 1.5 * worst
            for feed in feeds:
                assert nmse(prefix.step(mix)(feed), parts.step(mix)(feed)) < 1e-9


def chain() -> onnx.ModelProto:
    """Three layers of each kind that ONNX Runtime would round by itself."""
    return models.build(
        """g (float[N, 16, 4, 4] x) => (float[N, 16] y) {
            a = Conv(x, c1)
            b = Conv(a, c2)
            c = Conv(b, c3)
            d = ConvTranspose(c, t1)
            e = ConvTranspose(d, t2)
            f = ConvTranspose(e, t3)
            p = ReduceMean <axes = [2, 3], keepdims = 0> (f)
            h = Gemm(p, g1)
            i = Gemm <transB = 1> (h, g2)
            y = Gemm(i, g3)
        }""",
        [*(models.weight(name, 16, 16, 1, 1) for name in ("c1", "c2", "c3", "t1", "t2", "t3")),
         *(models.weight(name, 16, 16) for name in ("g1", "g2", "g3"))],
    )  # fmt: skip


def joining() -> onnx.ModelProto:
    """Three branches that are joined, and read by two layers after the last of them."""
    return models.build(
        """g (float[N, 16, 8, 8] x) => (float[N, 16, 8, 8] y, float[N, 16, 8, 8] z) {
            a = Conv(x, w1)
            b = Conv(a, w2)
            c = Conv(b, w3)
            j = Concat <axis = 1> (a, b, c)
            y = Conv(j, w4)
            z = Conv(j, w5)
        }""",
        [*(models.weight(name, 16, 16, 1, 1) for name in ("w1", "w2", "w3")),
         *(models.weight(name, 16, 48, 1, 1) for name in ("w4", "w5"))],
    )  # fmt: skip


@pytest.mark.parametrize("exact", ["a", "b", "c", "y"])
def test_what_only_moves_values_is_computed_as_what_reads_it(exact: str, tmp_path: Path) -> None:
    """The branch before a concatenation may be in float, and what reads it in int8."""
    proto = joining()
    for node in proto.graph.node:
        node.name = node.output[0]
    onnx.save(proto, tmp_path / "model.onnx")
    model, data = formats.open(tmp_path / "model.onnx"), Data({"x": models.floats(16, 8, 8)})
    given = Context(data, model, TARGET, 0, tmp_path / "made")
    converted = apply(ToOpenvino(), model, given)
    parts = MixedOpenvino().parts(converted, replace(given, folder=tmp_path / "parts"))
    group_of = {name.partition("/")[0]: group for group, names in parts.members.items() for name in names}
    mix = {group: "f32" if group == group_of[exact] else "int8" for group in parts.members}
    made = parts.save(mix, tmp_path / "mix")
    assert nmse(run(made, data), run(model, data)) < 3e-3
    layers = time_layers(TARGET, data, made)
    computed = {group: layer.precision for layer in layers for group in parts.members if group in layer.layers}
    assert computed == mix


def test_a_mix_of_int8_and_bf16_is_explained_layer_by_layer(tmp_path: Path) -> None:
    """What goes into a layer in bf16 is handed to it in float32, for numpy has no bf16; and where the CPU has none,
    either, OpenVINO computes in float32 all there is."""
    onnx.save(convolving(), tmp_path / "model.onnx")
    model, data = formats.open(tmp_path / "model.onnx"), Data(IMAGES)
    given = Context(data, model, TARGET, 0, tmp_path / "made")
    converted = apply(ToOpenvino(), model, given)
    parts = MixedOpenvino().parts(converted, replace(given, folder=tmp_path / "parts"))
    mix = {group: ("int8", "bf16")[place % 2] for place, group in enumerate(parts.members)}
    made = parts.save(mix, tmp_path / "mix")
    found = explain(tmp_path / "model.onnx", made.path, IMAGES, target=TARGET)
    convolutions = [layer for layer in found["layers"] if layer["operator"] == "Conv"]
    assert [layer["precision"] for layer in convolutions] == ["int8", "bf16" if computes("bf16") else "f32"] * 2
    assert all(0 < layer["introduced"]["error"] < 0.05 for layer in convolutions)


@pytest.mark.parametrize("precision", ["int8", "f32"])
def test_a_value_that_is_a_single_number_is_explained(precision: str, tmp_path: Path) -> None:
    onnx.save(branching(), tmp_path / "model.onnx")
    model, data = formats.open(tmp_path / "model.onnx"), Data(WIDE)
    parts = MixedOnnx().parts(model, Context(data, model, TARGET, 0, tmp_path / "parts"))
    made = parts.save({**dict.fromkeys(parts.members, "int8"), [*parts.members][-1]: precision}, tmp_path / "mix")
    found = explain(tmp_path / "model.onnx", made.path, WIDE, target=TARGET)
    assert "ReduceMean" in [layer["operator"] for layer in found["layers"]]


READ_TWICE = {
    "added": "a = Conv(x, w1) b = Conv(a, w2) s = Add(b, a) y = Conv(s, w3)",
    "after a relu": "a = Conv(x, w1) r = Relu(a) b = Conv(r, w2) s = Add(b, a) y = Conv(s, w3)",
    "transposed": "a = Conv(x, w1) t = Transpose <perm = [0, 1, 3, 2]> (a) b = Conv(a, w2) y = Add(b, t)",
    "joined": "a = Conv(x, w1) b = Conv(a, w2) j = Concat <axis = 2> (a, b) k, l = Split <axis = 2> (j) y = Add(k, l)",
    "softmax": "a = Conv(x, w1) z = Softmax <axis = 1> (a) b = Conv(a, w2) s = Add(b, z) y = Conv(s, w3)",
    "an output": "a = Conv(x, w1) r = Relu(a) y = Conv(r, w2)",
}


@pytest.mark.parametrize("body", list(READ_TWICE))
def test_what_several_read_where_sizes_are_free_is_right_in_int8(body: str, tmp_path: Path) -> None:
    """OpenVINO multiplies by the scale of a convolution twice, or not at all, where its readers take it otherwise."""
    outputs = "float[N, 8, 6, 6] r, float[N, 8, 6, 6] y" if body == "an output" else "float[N, 8, 6, 6] y"
    weights = [models.weight(name, 8, 8, 1, 1) for name in ("w1", "w2", "w3")]
    onnx.save(models.build(f"g (float[N, 8, 6, 6] x) => ({outputs}) {{ {READ_TWICE[body]} }}", weights),
              tmp_path / "model.onnx")  # fmt: skip
    model, data = formats.open(tmp_path / "model.onnx"), Data(IMAGES)
    given = Context(data, model, TARGET, 0, tmp_path / "made")
    converted = apply(ToOpenvino(), model, given)
    parts = MixedOpenvino().parts(converted, replace(given, folder=tmp_path / "parts"))
    right = run(model, data)
    assert nmse(run(apply(OpenvinoInt8(), converted, replace(given, folder=tmp_path / "int8")), data), right) < 3e-3
    for number, group in enumerate(parts.members):
        for lowest, other in (("int8", "f32"), ("f32", "int8")):
            mix = {**dict.fromkeys(parts.members, lowest), group: other}
            assert nmse(run(parts.save(mix, tmp_path / f"{number}{lowest}"), data), right) < 3e-3, mix


def optimized(model: Model, folder: Path) -> onnx.GraphProto:
    """What ONNX Runtime makes of a model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(folder / "optimized.onnx"), 3
    onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimized.onnx").graph


@pytest.mark.parametrize("how", ["mixed", "named"])
def test_what_is_left_in_float_between_int8_stays_in_float(how: str, tmp_path: Path) -> None:
    """ONNX Runtime takes its weights for forgotten ones, and rounds them."""
    proto, floats = chain(), ["Conv:b", "ConvTranspose:e", "Gemm:i"]
    for node in proto.graph.node:
        node.name = f"{node.op_type}:{node.output[0]}"
    onnx.save(proto, tmp_path / "model.onnx")
    model, data = formats.open(tmp_path / "model.onnx"), Data({"x": models.floats(16, 4, 4)})
    context = Context(data, model, TARGET, 0, tmp_path / "made")
    if how == "named":
        made = apply(StaticInt8(nodes=",".join(floats)), model, context)
    else:
        parts = MixedOnnx().parts(model, context)
        assert parts.members.keys() >= set(floats)
        made = parts.save({g: "f32" if g in floats else "int8" for g in parts.members}, tmp_path / "mix")
    graph = optimized(made, tmp_path)
    kinds = Counter(node.op_type for node in graph.node)
    assert (kinds["QLinearConv"], kinds["Conv"], kinds["QGemm"], kinds["Gemm"]) == (2, 1, 2, 1)
    transposed = next(numpy_helper.to_array(tensor) for tensor in proto.graph.initializer if tensor.name == "t2")
    assert any(np.array_equal(numpy_helper.to_array(tensor), transposed) for tensor in graph.initializer)


def test_inputs_that_are_read_transposed_keep_their_scale(tmp_path: Path) -> None:
    proto = models.build(
        """g (float[16, 8] x) => (float[8, 16] y, float[16, 4] z) {
            q = QuantizeLinear(x, scale, zero)
            d = DequantizeLinear(q, scale, zero)
            y = Gemm <transA = 1> (d, w)
            z = Gemm(d, v)
        }""",
        [models.weight("w", 16, 16), models.weight("v", 8, 4), numpy_helper.from_array(np.float32(0.01), "scale"),
         numpy_helper.from_array(np.uint8(128), "zero")],
    )  # fmt: skip
    import onnxruntime

    def answers() -> Any:
        return onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            None, {"x": models.RNG(0).uniform(-1, 1, (16, 8)).astype(np.float32)}
        )

    before = answers()
    keep_floats(proto.graph)
    assert sum(node.op_type == "DequantizeLinear" for node in proto.graph.node) == 3
    for one, other in zip(before, answers(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
