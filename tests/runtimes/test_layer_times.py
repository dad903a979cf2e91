"""What runtimes tell of each layer: fused ones by the names in the model's file, conversions apart, loops as one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import models
from strop import formats
from strop.errors import NotApplicable
from strop.model import ONNX, ONNX_TREES, Batch, Model
from strop.runtime import Array, LayerTime, Profiled, Runtime
from strop.runtimes import Eager, Gtil, Onnxruntime, Openvino, _onnxruntime_layers, _profiled
from strop.runtimes._openvino_fusion import Node, origins
from strop.runtimes._openvino_layers import _together
from strop.runtimes._profiled import Turns, _calm, _even, behind, per_layer
from strop.target import Target
from strop.technique import Context, apply
from strop.techniques import OpenvinoInt8, ToOpenvino

TARGET = Target(threads=1)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more turns than it takes."""
    monkeypatch.setattr(_profiled, "SECONDS", 0.1)
    monkeypatch.setattr(_profiled, "PATIENCE", 0.5)


def stored(proto: onnx.ModelProto, folder: Path) -> Model:
    folder.mkdir(exist_ok=True)
    room = formats.format_of(ONNX)
    return room.store(room.open(proto), folder)


def ran(model: Model, batch: Batch, runtime: Runtime | None = None) -> Profiled:
    return (runtime or Onnxruntime()).profiled(model, TARGET, [batch])


def image() -> Batch:
    return {"image": models.floats(3, 16, 16)[:2]}


def test_each_node_is_told_of_once_under_the_name_that_its_file_has(tmp_path: Path) -> None:
    proto = models.cnn()
    for place, node in enumerate(proto.graph.node):
        node.name = f"{node.op_type} {place}"
    found = ran(stored(proto, tmp_path), image()).layers
    by_layers = {layer.layers: layer for layer in found}
    assert ("Conv 0", "BatchNormalization 1", "Relu 2") in by_layers
    assert ("Conv 4", "Relu 5") in by_layers
    assert Counter(name for layer in found for name in layer.layers) == {node.name: 1 for node in proto.graph.node}
    assert by_layers["Conv 4", "Relu 5"].precision == "f32"
    assert {layer.operator for layer in found if not layer.layers} <= {"ReorderOutput", "ReorderInput"}
    known = {"image", *(node.name for node in proto.graph.node)}
    assert all(layer.after in known for layer in found if not layer.layers)
    assert all(layer.seconds >= 0 for layer in found)
    assert any(layer.seconds for layer in found)


@pytest.mark.parametrize("rest", ["Relu", ""])
def test_a_sum_belongs_to_the_convolution_that_it_is_fused_into(rest: str, tmp_path: Path) -> None:
    """And not to what reads it; where the other addend is no convolution's, ONNX Runtime fuses only for one layout."""
    proto = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 16, 8, 8] image) => (float[1, 16, 8, 8] y) <float[16, 16, 1, 1] w> {{
            a = Conv(image, w)
            s = MaxPool <kernel_shape = [1, 1]> (a)
            b = Conv(s, w)
            c = Add(b, s)
            {"d = Relu(c)" if rest else ""}
            y = Conv({"d" if rest else "c"}, w)
        }}"""
    )
    weights = np.random.default_rng(0).normal(size=(16, 16, 1, 1)).astype(np.float32)
    del proto.graph.initializer[:]
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    found = ran(stored(proto, tmp_path), {"image": models.floats(16, 8, 8)[:1]}).layers
    if not any(layer.name.endswith("_nchwc") for layer in found):
        pytest.skip("on this CPU ONNX Runtime blocks no channels")
    told = [layer.layers for layer in found if layer.layers]
    assert ("Conv:b", "Add:c", *(["Relu:d"] if rest else [])) in told
    assert ("Conv:y",) in told


def test_what_has_no_name_goes_by_what_it_computes(tmp_path: Path) -> None:
    proto = models.mlp()
    for node in proto.graph.node:
        node.name = "same" if node.op_type in ("MatMul", "Add") else ""
    names = {
        name for layer in ran(stored(proto, tmp_path), {"x": models.floats(16)[:1]}).layers for name in layer.layers
    }
    assert names == {"Gemm:h", "Relu:r", "same", "Add:y"}


def test_a_branch_is_one_layer(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 16] x) => (float[N, 16] y) {
            s = ReduceSum <keepdims = 0> (x)
            b = Cast <to = 9> (s)
            h = If (b) <
                then_branch = t () => (float[N, 16] a) { p = Relu(x)  a = Exp(p) },
                else_branch = e () => (float[N, 16] c) { c = Neg(x) }>
            y = Abs(h)
        }"""
    )
    layers = ran(stored(proto, tmp_path), {"x": models.floats(16)[:1]}).layers
    assert [layer.operator for layer in layers] == ["ReduceSum", "Cast", "If", "Abs"]
    assert [layer.layers for layer in layers] == [("ReduceSum:s",), ("Cast:b",), ("If:h",), ("Abs:y",)]


def loop(steps: int) -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 16] x) => (float[N, 16] y) <int64 n = {{{steps}}}, bool go = {{1}}> {{
            h = Loop (n, go, x) <body = b (int64 i, bool c, float[N, 16] a) => (bool d, float[N, 16] e) {{
                d = Identity(c)  r = Relu(a)  s = Exp(r)  t = Neg(s)  e = Tanh(t) }}>
            y = Abs(h)
        }}"""
    )


@pytest.mark.parametrize("steps", [3, 40])
def test_what_the_profiler_takes_within_a_loop_is_taken_off(
    steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes of every step, which takes it far longer than these take."""
    seen = []

    def spied(logged: Array, turns: Turns, within: float, written: Array) -> Array:
        seen.append((turns, within, written))
        return per_layer(logged, turns, within, written)

    monkeypatch.setattr(_onnxruntime_layers, "per_layer", spied)
    found = ran(stored(loop(steps), tmp_path), {"x": models.floats(16)[:1]}).layers
    assert [(layer.operator, layer.layers) for layer in found] == [("Loop", ("Loop:h",)), ("Abs", ("Abs:y",))]
    ((turns, within, written),) = seen
    np.testing.assert_array_equal(written, [5 * steps + 1, 1])
    # 50 us and 1 us, where the profiler takes 5 each time
    logged = np.array([[5e-5 + 5e-6 * (5 * steps + 1), 6e-6]])
    calm = Turns(np.array([5.1e-5]), np.zeros(1), 0.0, turns.kept)
    np.testing.assert_allclose(per_layer(logged, calm, within, written), [5e-5, 1e-6], atol=1e-6)


def test_what_rounding_leaves_is_no_time() -> None:
    """Layers of 2 us, of which the profiler took all but a part that only floats know of."""
    logged, calls = np.full((1, 3), 1.8e-6), Turns(np.array([1e-12]), np.zeros(1), 0.0, np.zeros(1, int))
    np.testing.assert_array_equal(per_layer(logged, calls, 1e-5), 0.0)


def test_what_a_runtime_puts_in_is_known_by_the_layer_before_it() -> None:
    layers = {"fused": ["conv", "relu"], "reorder": [], "cast": [], "first": []}
    reads = {"fused": "first", "reorder": "fused", "cast": "reorder", "first": "x"}
    assert [behind(name, layers, reads) for name in ("cast", "reorder", "first")] == ["relu", "relu", "x"]
    assert behind("a", {}, {"a": "b", "b": "a"}) == behind("none", {}, {}) == "", "nothing is before it"


def test_openvino_tells_by_the_names_in_its_file(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    given = models.case("cnn", tmp_path / "onnx")
    (tmp_path / "ir").mkdir()
    model = apply(ToOpenvino(), given.model, Context(None, given.model, TARGET, 0, tmp_path / "ir"))
    found = ran(model, image(), Openvino()).layers
    xml = model.path.read_text()
    named = [name for layer in found for name in layer.layers]
    assert named and all(f'name="{name}"' in xml for name in named)
    fused = [layer for layer in found if len(layer.layers) > 1]
    assert any(layer.precision == "f32" for layer in fused)


def test_every_product_in_integers_has_time_under_its_own_name(tmp_path: Path) -> None:
    """OpenVINO calls them by what dequantizes them, or by nothing of the file; with VNNI attention runs as one."""
    library = pytest.importorskip("openvino")
    given = models.case("transformer", tmp_path / "given")
    model = given.model
    for place, step in enumerate((ToOpenvino(), OpenvinoInt8())):
        folder = tmp_path / f"made{place}"
        folder.mkdir()
        model = apply(step, model, Context(given.data, given.model, TARGET, 0, folder))
    found = ran(model, {name: array[:16] for name, array in given.data.inputs.items()}, Openvino()).layers
    kinds = {op.get_friendly_name(): op.get_type_name() for op in library.Core().read_model(model.path).get_ops()}
    products = sorted(name for name, kind in kinds.items() if kind == "MatMul")
    assert products == ["c", "f", "h", "k", "o", "q", "raw", "v"]
    rows = [[name for name in layer.layers if kinds[name] == "MatMul"] for layer in found]
    assert sorted(name for own in rows for name in own) == products, "each once"
    for layer, own in zip(found, rows, strict=True):
        assert len(own) <= 1 or sorted(own) == ["c", "raw"], "of their own"
        assert layer.seconds > 0 or not own
        assert layer.layers or layer.operator in ("Convert", "Reorder"), layer
        assert bool(layer.after) != bool(layer.layers) and layer.after in {"", *kinds}, layer
        assert layer.precision == "int8" or not own


def node(name: str, kind: str, *reads: str, told: str = "") -> Node:
    return Node(name, name, kind, reads, tuple(filter(None, told.split(","))))


def test_names_that_openvino_does_not_tell_are_found_by_what_is_read() -> None:
    given = [
        node("x", "Parameter"), node("w", "Constant"), node("floats", "Convert", "w"),
        node("q", "MatMul", "x", "floats"), node("round", "FakeQuantize", "q"),
        node("v", "Constant"), node("k", "MatMul", "round", "v"), node("raw", "MatMul", "q", "k"),
        node("half", "Constant"), node("scaled", "Multiply", "raw", "half"),
        node("u", "Constant"), node("o", "MatMul", "scaled", "u"), node("sum", "Add", "o", "x"),
        node("fused", "ScaledDotProductAttention", "sum", "sum"), node("y", "Result", "fused"),
    ]  # fmt: skip
    compiled = [
        node("x", "Input", told="x"), node("x_abcd", "Reorder", "x"), node("w", "Const", told="w"),
        node("1", "FullyConnected", "x_abcd", "w", told="Multiply_1,round"),
        node("k/DequantizationMultiply", "FullyConnected", "1", told="k/DequantizationMultiply"),
        node("scaled", "MatMul", "1", "k/DequantizationMultiply", told="scaled,scaled/DequantizationMultiply"),
        node("u", "Const", told="u"), node("2", "FullyConnected", "scaled", "u", told="Multiply_2"),
        node("sum", "Eltwise", "2", "x", told="sum"), node("fused/turned", "Transpose", "sum"),
        node("3", "MatMul", "fused/turned", "sum"), node("4", "Softmax", "3"),
        node("5", "MatMul", "4", "sum", told="fused"), node("5_abcd", "Reorder", "5"),
        node("y", "Output", "5_abcd", told="y"),
    ]  # fmt: skip
    found = {one.name: own for one, own in zip(compiled, origins(compiled, given), strict=True)}
    assert found["1"] == ("floats", "q", "round")
    assert found["k/DequantizationMultiply"] == ("k",)
    assert found["scaled"] == ("raw", "scaled")
    assert found["2"] == ("o",) and found["sum"] == ("sum",)
    assert found["fused/turned"] == found["3"] == found["4"] == found["5"] == ("fused",)
    assert found["x_abcd"] == found["5_abcd"] == ()


def test_nodes_of_one_layer_are_told_of_together() -> None:
    of = {"order": (), "product": ("fused",), "sum": ("sum",), "last": ("fused",), "convert": ()}
    times = [LayerTime(name, name.title(), 1e-6, layers) for name, layers in of.items()]
    assert [(one.name, one.operator, one.seconds) for one in _together(times)] == [
        ("order", "Order", 1e-6), ("sum", "Sum", 1e-6), ("last", "Last", 2e-6), ("convert", "Convert", 1e-6),
    ]  # fmt: skip


def test_modules_are_told_by_their_names(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from strop.formats.torch import TorchFormat

    tanh = torch.nn.Tanh()
    net = torch.nn.Sequential(torch.nn.Linear(16, 32), tanh, torch.nn.Linear(32, 32), tanh)
    room = TorchFormat()
    batch = {"input": models.floats(16)}
    model = room.fit(room.store(room.open(net), tmp_path), batch)
    found = ran(model, batch, Eager())
    assert [(layer.operator, layer.layers) for layer in found.layers] == [
        ("Linear", ("0",)), ("Tanh", ("1",)), ("Linear", ("2",)),
    ]  # fmt: skip
    assert found.layers[0].precision == "f32" and len(found.calls)


def test_int8_is_told(tmp_path: Path) -> None:
    given = models.case("quantized", tmp_path)
    batch = {name: array[:1] for name, array in given.data.inputs.items()}
    assert "int8" in {layer.precision for layer in ran(given.model, batch).layers}


def test_layers_take_no_longer_than_the_call(tmp_path: Path) -> None:
    proto = models.build(
        "g (float[N, 512] x) => (float[N, 512] y) { a = MatMul(x, v)  b = Relu(a)  y = MatMul(b, w) }",
        [models.weight("v", 512, 512), models.weight("w", 512, 512)],
    )
    found = ran(stored(proto, tmp_path), {"x": models.RNG(0).normal(size=(256, 512)).astype(np.float32)})
    whole, parts = float(np.median(found.calls)), sum(layer.seconds for layer in found.layers)
    assert 0.5 * whole < parts < 1.5 * whole, "by far, whatever else runs here"


def test_what_a_profiler_takes_is_taken_off_evenly_and_no_layer_below_zero() -> None:
    found = np.array([1.0, 5.0, 10.0])
    once, twice = np.ones(3), np.array([1.0, 1.0, 2.0])
    np.testing.assert_allclose(_even(found, 6.0, 9.0, once), [1.0, 2.5, 2.5])
    np.testing.assert_allclose(_even(found, 6.0, 1.5, once), [1.0, 1.5, 1.5])
    np.testing.assert_allclose(_even(found, -1.0, 9.0, once), 0.0)
    np.testing.assert_allclose(_even(found, 7.0, 9.0, twice), [1.0, 2.0, 4.0])
    np.testing.assert_allclose(_even(found, 7.0, 1.5, twice), [1.0, 1.5, 3.0])


def test_what_a_call_waited_is_taken_off_where_it_took_longer_than_others() -> None:
    logged = np.array([[1.0, 10.0], [1.0, 14.0], [3.0, 10.0]])
    np.testing.assert_allclose(_calm(logged, np.array([0.0, 4.0, 2.0])), [[1, 10], [1, 10], [1, 10]])
    np.testing.assert_allclose(_calm(logged[:1], np.array([5.5])), [[0.5, 5.0]], err_msg="in every call")


def test_a_runtime_without_a_profiler_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable, match="gtil has no profiler"):
        Gtil().layer_times(stored(models.mlp(), tmp_path), TARGET, [])
    with pytest.raises(NotApplicable, match="all trees of a forest are one node"):
        Onnxruntime().layer_times(replace(stored(models.mlp(), tmp_path), format=ONNX_TREES), TARGET, [])
