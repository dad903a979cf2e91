"""What LiteRT's profiler tells: every layer under its name in the file, and loops as one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("ai_edge_quantizer", reason="comes with the extra litert")

from ai_edge_litert import schema_py_generated as schema

import tflites
from strop.errors import NotApplicable, UnsupportedModel
from strop.formats.tflite import TfliteFormat, read
from strop.model import Model
from strop.runtime import LayerTime
from strop.runtimes import Litert, _litert_library, _profiled
from strop.runtimes._litert_fusion import Group, Part, _laid, grouped
from strop.runtimes._litert_layers import INNER, _written
from strop.techniques import TfliteFloat16, TfliteInt8, TfliteWeights


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more turns than it takes."""
    monkeypatch.setattr(_profiled, "SECONDS", 0.1)
    monkeypatch.setattr(_profiled, "PATIENCE", 0.5)


def ran(model: Model, samples: int = 1) -> tuple[LayerTime, ...]:
    """Of calls with ones, of so many samples."""
    batch = {
        tensor.name: np.ones((samples, *tensor.shape[1:]), tensor.dtype)  # type: ignore[arg-type]
        for tensor in model.signature.inputs
    }
    found = Litert().profiled(model, tflites.ONE, [batch])
    assert len(found.calls) and all(layer.seconds >= 0 for layer in found.layers)
    return found.layers


def named(layers: tuple[LayerTime, ...]) -> list[tuple[str, ...]]:
    return [layer.layers for layer in layers]


@pytest.mark.parametrize("samples", [1, 3])
def test_each_operator_is_told_of_under_its_name(samples: int, tmp_path: Path) -> None:
    layers = ran(tflites.opened(tflites.cnn(), tmp_path), samples)
    assert named(layers) == [("first",), ("second",), ("mean",), ("logits",), ("probabilities",)]
    assert any(layer.seconds for layer in layers)
    assert {layer.precision for layer in layers} == {"f32"}
    assert layers[0].operator == "Convolution" and layers[0].name.startswith("Convolution (NHWC, F32)")


@pytest.mark.parametrize(
    "technique, precision", [(TfliteInt8(), "int8"), (TfliteWeights(), "int8"), (TfliteFloat16(), "f32")]
)
def test_what_is_quantized_is_told_of_too(technique: object, precision: str, tmp_path: Path) -> None:
    model = tflites.quantize(technique, tflites.example(tmp_path / "given"), tmp_path / "made")  # type: ignore[arg-type]
    layers = ran(model)
    graph = read(model.path)
    names = [name for _, name in graph.named_operators()]
    assert Counter(name for layer in layers for name in layer.layers) == Counter(names)
    assert all(layer.layers for layer in layers)
    kinds = dict(zip(names, (operator.kind for operator in graph.operators), strict=True))
    (second,) = [layer for layer in layers if "second" in layer.layers]
    assert kinds["second"] == "CONV_2D" and second.precision == precision


def test_what_the_delegate_has_not_is_told_in_its_place(tmp_path: Path) -> None:
    """The delegate runs `early` before what comes first in the file, and `late` after it."""
    w = tflites.Writer()
    w.tensor("x", (1, 8))
    w.constant("places", np.array([3, 1], np.int32))
    for name, shape in (("picked", (1, 2)), ("early", (1, 8)), ("late", (1, 2)), ("flat", (2,))):
        w.tensor(name, shape)
    w.constant("size", np.array([2], np.int32))
    w.operator("GATHER", ["x", "places"], ["picked"], table="GatherOptions", axis=1)
    w.operator("TANH", ["x"], ["early"])
    w.operator("LOGISTIC", ["picked"], ["late"])
    w.operator("RESHAPE", ["late", "size"], ["flat"], table="ReshapeOptions", newShape=[2])
    w.ends(["x"], ["early", "flat"])
    layers = ran(tflites.opened(w, tmp_path))
    assert sorted(named(layers)) == [("early",), ("flat",), ("late",), ("picked",)]
    assert named(layers).index(("picked",)) < named(layers).index(("late",))
    assert {layer.operator: layer.layers for layer in layers}["GATHER"] == ("picked",)


def body(w: tflites.Writer, kind: str, dtype: int, options: int, table: object) -> None:
    """A graph of one operator on a number and a constant."""
    own, made = schema.SubGraphT(), schema.OperatorT()
    own.name, own.tensors, own.operators = kind.lower().encode(), [], [made]
    for name, element, buffer in (("given", 0, 0), ("constant", 0, len(w.model.buffers)), ("made", dtype, 0)):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), [1], element, buffer
        own.tensors.append(tensor)
    constant, code = schema.BufferT(), schema.OperatorCodeT()
    constant.data = np.frombuffer(np.float32([5 if kind == "LESS" else 1]).tobytes(), np.uint8)
    w.model.buffers.append(constant)
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
    code.version, made.opcodeIndex = 1, len(w.model.operatorCodes)
    w.model.operatorCodes.append(code)
    made.inputs, made.outputs, own.inputs, own.outputs = [0, 1], [2], [0], [2]
    made.builtinOptionsType, made.builtinOptions = options, table
    w.model.subgraphs.append(own)


def looping() -> tflites.Writer:
    """A loop between two operators, each of whose graphs holds a constant."""
    w = tflites.Writer()
    for name in ("x", "before", "counted", "after"):
        w.tensor(name, (1,))
    w.operator("ABS", ["x"], ["before"])
    w.operator("WHILE", ["before"], ["counted"], table="WhileOptions", condSubgraphIndex=1, bodySubgraphIndex=2)
    w.operator("NEG", ["counted"], ["after"])
    w.ends(["x"], ["after"])
    body(w, "LESS", schema.TensorType.BOOL, schema.BuiltinOptions.LessOptions, schema.LessOptionsT())
    body(w, "ADD", schema.TensorType.FLOAT32, schema.BuiltinOptions.AddOptions, schema.AddOptionsT())
    return w


def test_a_loop_is_one_layer(tmp_path: Path) -> None:
    layers = ran(tflites.opened(looping(), tmp_path))
    assert named(layers) == [("before",), ("counted",), ("after",)]
    assert layers[1].operator == "WHILE"


def test_what_graphs_within_hold_is_the_loops(tmp_path: Path) -> None:
    model, room = tflites.opened(looping(), tmp_path), TfliteFormat()
    found = room.structure(model)
    assert [layer.bytes for layer in found.layers] == [0, 8, 0]
    assert found.facts["parameters"] == sum(layer.parameters for layer in found.layers) == 2
    assert found.missing == ("counted is told of as a whole: what a loop repeats counts once, and of branches all",)
    assert room.dataflow(model).opaque == {"counted": 8}
    broken = looping()
    broken.model.subgraphs[0].operators[1].builtinOptions.bodySubgraphIndex = 3
    with pytest.raises(UnsupportedModel, match=r"WHILE runs the subgraphs \[1, 3\], and there are 3"):
        tflites.opened(broken, tmp_path / "broken")


def test_what_is_written_within_a_loop_counts_with_it() -> None:
    parts = [Part("Abs", first=True), Part("WHILE", 1), Part("LESS", 0, inner=True), Part("Add", first=True),
             Part("Negate", first=True)]  # fmt: skip
    assert _written(parts, [0, 1, 4]).tolist() == [1, 1 + 2 * INNER, 1]


def test_outputs_whose_size_only_the_run_tells(tmp_path: Path) -> None:
    w = tflites.Writer()
    w.tensor("x", (1, 2, 4), free=(-1, 2, 4))
    w.tensor("exp", (1, 2, 4), free=(-1, 2, 4))
    w.tensor("size", (3,), "int32")
    w.tensor("y", (1, 2, 4), free=(-1, -1, -1))
    w.operator("EXP", ["x"], ["exp"])
    w.operator("SHAPE", ["exp"], ["size"], table="ShapeOptions", outType=schema.TensorType.INT32)
    w.operator("RESHAPE", ["exp", "size"], ["y"])
    w.ends(["x"], ["y"])
    assert named(ran(tflites.opened(w, tmp_path))) == [("exp",), ("size",), ("y",)]


def test_what_the_library_can_not_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable, match="CreateModelFromFile ended with something that it does not support"):
        ran(tflites.opened(tflites.rnn(), tmp_path))


def test_quantized_ends(tmp_path: Path) -> None:
    (layer,) = ran(tflites.opened(tflites.integers(), tmp_path))
    assert layer.layers == ("lit",) and layer.precision == "int8"


@pytest.mark.parametrize(
    "names, kinds, places",
    [
        (["fullyconnected", "clamp", "convert", "fullyconnected"], ["CONV_2D", "FULLY_CONNECTED"], [0, 0, 1, 1]),
        (["convolution"], ["PAD", "CONV_2D", "RELU"], [1]),
        (["invalidunaryop", "multiply"], ["DEQUANTIZE", "NEG", "QUANTIZE", "MUL"], [2, 3]),
        (["add", "somethingnew", "softmax"], ["ADD", "SOFTMAX"], [0, None, 1]),
        ([], ["RESHAPE"], []),
        (["copy"], [], [None]),
    ],
)
def test_parts_are_laid_along_the_operators(names: list[str], kinds: list[str], places: list[int | None]) -> None:
    assert _laid(names, kinds) == places


def test_operators_without_a_part_go_with_a_neighbour(tmp_path: Path) -> None:
    w = tflites.Writer()
    for name in ("x", "first", "lit", "reshaped", "second"):
        w.tensor(name, (1, 4))
    w.constant("size", np.array([1, 4], np.int32))
    w.operator("TANH", ["x"], ["first"])
    w.operator("RELU", ["first"], ["lit"])
    w.operator("RESHAPE", ["lit", "size"], ["reshaped"])
    w.operator("SOFTMAX", ["reshaped"], ["second"])
    w.ends(["x"], ["second"])
    graph = read(w.write(tmp_path / "model.tflite"))
    found = grouped([Part("TanH (NC)", first=True), Part("Softmax (NC, F32)")], graph)
    assert found == [Group([0], [0, 1]), Group([1], [3, 2])]


def test_another_library_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tflites.opened(tflites.cnn(), tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(_litert_library, "_library", SimpleNamespace)
        with pytest.raises(NotApplicable, match="no profiler that strop knows: LiteRtCreateEnvironment is missing"):
            ran(model)
    _litert_library._library.cache_clear()
    monkeypatch.setattr(_litert_library, "FILE", "libNone.so")
    with pytest.raises(NotApplicable, match=r"libNone.so, which can't be loaded"):
        ran(model)
    _litert_library._library.cache_clear()


def test_what_the_library_refuses_is_told(tmp_path: Path) -> None:
    path = tflites.cnn().write(tmp_path / "model.tflite")
    path.write_bytes(b"nothing")
    with pytest.raises(NotApplicable, match="LiteRtCreateModelFromFile ended with"):
        _litert_library.Watched(path, 1)
