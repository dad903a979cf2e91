"""Models of known bottlenecks are diagnosed right, their parts add up, and what can't be told is said."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

import models
from strop import formats
from strop.cli import app
from strop.data import Data
from strop.formats._onnx_inside import reads
from strop.formats._onnx_tensors import stored_bytes
from strop.formats._told import UNUSED
from strop.insight import Found, Peaks, bound_by, layers, shares_of, summarize
from strop.insight.memory import held
from strop.insight.observe import _overhead, _said
from strop.insight.roofline import rows
from strop.insight.table import layer_table
from strop.model import ONNX, OPENVINO
from strop.profiling import profile
from strop.runtime import LayerTime, Profiled
from strop.stats import Interval
from strop.structure import Layer, Structure
from strop.target import Target
from strop.technique import Context, Technique, apply
from strop.techniques import OpenvinoInt8, TfliteInt8, ToOpenvino

TARGET = Target(threads=1)
PEAKS = Peaks("onnxruntime", 1, {"f32": 1e11, "int8": 4e11}, 1e10, 1e11, 1 << 20, 1 << 25, 2e-7)


def chain(count: int, kinds: tuple[str, ...] = ("Relu", "Sin", "Abs", "Cos")) -> onnx.ModelProto:
    """Operators in a row on 16 numbers."""
    names = ["x", *(f"v{at}" for at in range(1, count)), "y"]
    nodes = [helper.make_node(kinds[at % len(kinds)], [names[at]], [names[at + 1]]) for at in range(count)]
    ends = [[helper.make_tensor_value_info(end, TensorProto.FLOAT, ["N", 16])] for end in ("x", "y")]
    graph = helper.make_graph(nodes, "chain", ends[0], ends[1])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def product(rows: int, width: int, count: int) -> onnx.ModelProto:
    """Matrix products in a row, each with weights of its own."""
    names = ["x", *(f"v{at}" for at in range(1, count)), "y"]
    nodes = [helper.make_node("MatMul", [names[at], f"w{at}"], [names[at + 1]]) for at in range(count)]
    ends = [[helper.make_tensor_value_info(end, TensorProto.FLOAT, ["N", rows, width])] for end in ("x", "y")]
    weights = np.full((width, width), 1 / width, np.float32)
    stored = [numpy_helper.from_array(weights, f"w{at}") for at in range(count)]
    graph = helper.make_graph(nodes, "product", ends[0], ends[1], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peaks of a machine, not those that this one has just now."""
    monkeypatch.setattr("strop.profiling.peaks", lambda runtime, target: PEAKS)


def adds_up(found: dict[str, Any]) -> bool:
    parts = sum(layer["seconds"]["value"] for layer in found["layers"] if layer["seconds"])
    return bool(parts == pytest.approx(found["seconds"]["value"], rel=0.1))


def adding_up(model: object) -> Any:
    """A profile whose parts add up: layers and whole calls are timed in turn, and neighbours may come in between."""
    for _ in range(5):
        found = profile(model, target=TARGET)
        if adds_up(found):
            break
    assert adds_up(found), found["layers"]
    return found


@pytest.mark.parametrize(
    "bound, proto",
    [
        ("overhead", lambda: chain(400)),
        ("memory", lambda: product(1, 2048, 6)),  # 100 MB of weights, each number used once
        ("compute", lambda: product(256, 512, 8)),  # 8 MB of weights, each number used 256 times
    ],
)
def test_models_of_known_bottlenecks_are_diagnosed(bound: str, proto: Any) -> None:
    found = adding_up(proto())
    assert found["bound_by"] == bound, found["shares"]
    assert found["shares"][bound] > 0.6, found["shares"]
    assert sum(layer["bytes"] for layer in found["layers"]) == stored_bytes(proto())
    said = summarize(found)
    assert f"({bound})" in said and "Where the time goes" in said
    for width in (110, 80):
        assert max(map(len, summarize(found, width).splitlines())) <= width
    json.dumps(found)


@pytest.mark.parametrize("quantized", [False, True])
def test_a_tflite_model_adds_up(quantized: bool, tmp_path: Path) -> None:
    tflites = pytest.importorskip("tflites", reason="comes with the extra litert", exc_type=ImportError)
    example = tflites.example(tmp_path / "given")
    model = tflites.quantize(TfliteInt8(), example, tmp_path / "made") if quantized else example.model
    found = adding_up(model.path)
    overhead, *layers = found["layers"]
    named = [name for layer in layers for name in layer["layers"]]
    assert overhead["name"] == "call" and len(named) == len(set(named))
    assert {"first", "second", "mean", "logits"} <= set(named)
    assert set(found["peaks"]["rates"]) == {"f32", "int8"}
    assert all(layer["bound_by"] and layer["attainable"] > 0 for layer in layers if layer["layers"])
    assert found["shares"] and "Where the time goes" in summarize(found)


@pytest.mark.parametrize("steps", [(ToOpenvino(),), (ToOpenvino(), OpenvinoInt8())], ids=["float", "int8"])
def test_an_openvino_model_adds_up(steps: tuple[Technique, ...], tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    onnx.save(product(64, 256, 6), tmp_path / "model.onnx")
    model = original = formats.open(tmp_path / "model.onnx")
    data = Data({"x": np.random.default_rng(0).normal(size=(8, 64, 256)).astype(np.float32)})
    for place, step in enumerate(steps):
        model = apply(step, model, Context(data, original, TARGET, 0, tmp_path / f"{place}"))
    found = adding_up(model.path)
    named = {name for layer in found["layers"] for name in layer["layers"]}
    assert {f"v{at}" for at in range(1, 6)} | {"y"} <= named
    products = [layer for layer in found["layers"] if layer["operator"] == "MatMul"]
    assert [layer["precision"] for layer in products] == ["int8" if len(steps) > 1 else "f32"] * 6


def dies(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def test_a_profiler_that_kills_its_process_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strop.profiling.observe", dies)
    found = profile(chain(4), target=TARGET)
    assert found["seconds"]["value"] > 0
    assert any("layers were not timed: its process" in note for note in found["notes"]), found["notes"]


def test_a_model_of_5000_nodes_is_profiled() -> None:
    found = profile(chain(5000), target=TARGET)
    assert len(found["layers"]) == 5001 and found["bound_by"] == "overhead"


def test_shapes_that_are_computed_on_the_way_are_known(tmp_path: Path) -> None:
    proto = models.build(
        """g (float[N, C, H, 8] x) => (float[N, M, 4] y) {
            whole = Shape(x)
            one = Constant <value_ints = [1]> ()
            two = Constant <value_ints = [2]> ()
            height = Slice(whole, two, three)
            all = Constant <value_ints = [-1]> ()
            zero = Constant <value_ints = [0]> ()
            size = Concat <axis = 0> (zero, all, eight)
            rows = Reshape(x, size)
            y = MatMul(rows, w)
        }""",
        [models.weight("w", 8, 4), numpy_helper.from_array(np.array([3]), "three"),
         numpy_helper.from_array(np.array([8]), "eight")],
    )  # fmt: skip
    found = taken_apart(proto, {"x": np.zeros((5, 3, 2, 8), np.float32)}, tmp_path)
    assert found.operations == 3 * 2 * 8 * 4
    assert found.values["rows"] == 4 * 3 * 2 * 8
    assert not found.missing


def test_operators_of_onnx_runtime_s_own_hand_their_shapes_on(tmp_path: Path) -> None:
    """As ONNX Runtime has them."""
    proto = models.build(
        """g (float[N, 8, 6, 6] x) => (float[N, 4] y) {
            a = QuantizeLinear(x, scale, zero)
            b = com.microsoft.QLinearAdd(a, scale, zero, a, scale, zero, scale, zero)
            c = com.microsoft.QLinearSigmoid(b, scale, zero, scale, zero)
            d = com.microsoft.QLinearGlobalAveragePool <channels_last = 0> (c, scale, zero, scale, zero)
            e = DequantizeLinear(d, scale, zero)
            f = Flatten(e)
            g = com.microsoft.Gelu(f)
            h = com.microsoft.FusedMatMul(g, w)
            y, mean, deviation, sum = com.microsoft.SkipLayerNormalization(h, h, gamma)
        }""",
        [models.weight("w", 8, 4), models.weight("gamma", 4), numpy_helper.from_array(np.float32(0.1), "scale"),
         numpy_helper.from_array(np.uint8(0), "zero")],
    )  # fmt: skip
    proto.opset_import.add(domain="com.microsoft", version=1)
    between = {"b": np.uint8, "c": np.uint8, "d": np.uint8, "h": np.float32, "sum": np.float32}
    watched = onnx.ModelProto.FromString(proto.SerializeToString())
    watched.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in between)
    given = {"x": np.zeros((5, 8, 6, 6), np.float32)}
    session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    found = taken_apart(proto, given, tmp_path)
    for name, value in zip(between, session.run(list(between), given), strict=True):
        assert value.dtype == between[name] and found.values[name] == value.nbytes / 5, name
    assert found.values["b"] == found.values["c"] == 8 * 6 * 6, "a byte each"
    assert found.values["d"] == 8 and found.values["h"] == found.values["sum"] == 4 * 4
    assert found.operations == 8 * 4


def taken_apart(proto: onnx.ModelProto, samples: dict[str, np.ndarray], folder: Path) -> Structure:
    room = formats.format_of(ONNX)
    folder.mkdir(exist_ok=True)
    return room.structure(room.store(room.open(proto), folder), samples)


@pytest.mark.parametrize("kind", ["mlp", "cnn", "transformer", "lstm", "constants", "old_opset", "quantized"])
def test_sizes_are_told_to_the_byte(kind: str, tmp_path: Path) -> None:
    given = models.case(kind, tmp_path)
    found = formats.format_of(ONNX).structure(given.model, given.data.inputs)
    assert found.bytes == stored_bytes(onnx.load(given.model.path))
    assert not found.missing
    order = {value: place for place, layer in enumerate(found.layers) for value in layer.writes}
    for place, layer in enumerate(found.layers):
        assert all(order.get(value, -1) < place for value in layer.reads)


def test_openvino_s_sizes_are_those_of_its_weights_file(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    given = models.case("cnn", tmp_path / "onnx")
    (tmp_path / "ir").mkdir()
    model = apply(ToOpenvino(), given.model, Context(None, given.model, TARGET, 0, tmp_path / "ir"))
    found = formats.format_of("openvino").structure(model, given.data.inputs)
    whole = formats.format_of(ONNX).structure(given.model, given.data.inputs)
    assert found.operations == whole.operations
    assert found.bytes == model.files[1].stat().st_size


def test_zeros_among_weights_are_counted(tmp_path: Path) -> None:
    proto = models.mlp()
    weights = np.zeros((16, 32), np.float32)
    weights[:4] = 1
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, proto.graph.initializer[0].name))
    assert taken_apart(proto, {}, tmp_path).facts["zeros"] == pytest.approx(384 / (512 + 128))


BRANCH = """
    s = ReduceSum <keepdims = 0> (x)
    b = Cast <to = 9> (s)
    y = If (b) <
        then_branch = t () => (float[N, 16] a) { a = MatMul(x, w) },
        else_branch = e () => (float[N, 16] c) { c = MatMul(x, v) }>"""
LOOP = """
    y = Loop (times, on, x) <
        body = l (int64 i, bool c, float[N, 16] h) => (bool d, float[N, 16] a) { d = Identity(c)  a = MatMul(h, w) }>"""
SCAN = """
    last, y = Scan <num_scan_inputs = 1,
        body = l (float[16] h, float[16] r) => (float[16] k, float[16] o) {
            m = MatMul(h, w)  k = Add(m, r)  o = Identity(k)
        }> (first, x)"""


def flowing(lines: str) -> onnx.ModelProto:
    """A graph whose inner graphs read `w` of the main one; a branch has `v` of its own."""
    proto = models.build(
        f"g (float[N, 16] x) => (float[N, 16] y) {{ {lines} }}",
        [models.weight("w", 16, 16), numpy_helper.from_array(np.array(3), "times"),
         numpy_helper.from_array(np.array(True), "on"), models.weight("first", 16)],
    )  # fmt: skip
    read = {value for node in proto.graph.node for value in reads(node)}
    for at in reversed(range(len(proto.graph.initializer))):
        if proto.graph.initializer[at].name not in read:
            del proto.graph.initializer[at]
    for attribute in proto.graph.node[-1].attribute:
        if attribute.name == "else_branch":
            attribute.g.initializer.append(models.weight("v", 16, 16))
    return proto


@pytest.mark.parametrize("lines", [BRANCH, LOOP, SCAN])
def test_what_graphs_within_read_of_those_around_them_counts_once(lines: str, tmp_path: Path) -> None:
    proto = flowing(lines)
    found = taken_apart(proto, {"x": np.ones((2, 16), np.float32)}, tmp_path)
    assert found.bytes == stored_bytes(proto)
    assert UNUSED not in [layer.name for layer in found.layers]
    pytest.importorskip("openvino")
    (tmp_path / "ir").mkdir()
    given = formats.open(tmp_path / "model.onnx")
    model = apply(ToOpenvino(), given, Context(None, given, TARGET, 0, tmp_path / "ir"))
    room = formats.format_of(OPENVINO)
    found = room.structure(model, {"x": np.ones((2, 16), np.float32)})
    assert found.bytes == model.files[1].stat().st_size
    (holder,) = (layer for layer in found.layers if layer.operator in ("If", "Loop", "TensorIterator"))
    assert holder.bytes > 4 * 16 * 16 and holder.operations >= 16 * 16 / 2
    assert found.missing == (
        f"{holder.name} is told of as a whole: what a loop repeats counts once, and of branches all",
    )
    flow = room.dataflow(model)
    assert sum(one.bytes for one in flow.stored.values()) + sum(flow.opaque.values()) == found.bytes


def test_what_a_branch_holds_is_told_as_a_whole(tmp_path: Path) -> None:
    proto = flowing(BRANCH)
    found = taken_apart(proto, {"x": np.ones((2, 16), np.float32)}, tmp_path)
    (branch,) = (layer for layer in found.layers if layer.operator == "If")
    assert branch.operations == 2 * 16 * 16 and branch.bytes == 2 * 4 * 16 * 16
    assert "x" in branch.reads
    assert found.missing[0].startswith("If:y is told of as a whole")
    done = profile(proto, target=TARGET)
    assert any("told of as a whole" in note for note in done["notes"]) and adds_up(done)
    assert sum(layer["bytes"] for layer in done["layers"]) == done["held"]["weights"] == stored_bytes(proto)


def observed(taken: list[float], call: float, step: float) -> tuple[float, list[str]]:
    """What is said of layers that take so long, and the rest of a call."""
    layers = tuple(LayerTime(f"{at}", "Relu", seconds, (f"{at}",)) for at, seconds in enumerate(taken))
    seconds = Interval(call, call, call)
    found = rows(layers, Structure(()), None, 1)
    return _overhead(seconds, found)[0].value, _said(Profiled(layers, np.array([call]), step=step), seconds, 0.0)


def test_times_that_are_steps_of_the_profiler_are_said_to_be_so() -> None:
    rest, (said,) = observed([2.14e-6] * 6 + [8e-6], 3e-5, 1e-6)
    assert rest == pytest.approx(3e-5 - 6 * 2.14e-6 - 8e-6)
    assert said == (
        "the profiler tells times in steps of 1 µs, and of 7 rows 6 took less than 3 of these: "
        "their times are hardly known"
    )
    assert observed([2.14e-6] * 6 + [8e-6], 3e-5, 1e-9)[1] == []
    assert observed([2.14e-6] * 6 + [1e-3], 1.1e-3, 1e-6)[1] == [], "they are next to nothing of it"


def test_what_rounding_leaves_of_a_call_is_no_overhead() -> None:
    taken = [1.1e-6, 2.2e-6, 3.3e-6]
    assert observed(taken, sum(taken) + 3e-21, 1e-9)[0] == 0.0
    assert observed(taken, sum(taken) + 3e-9, 1e-9)[0] == pytest.approx(3e-9)


def test_what_a_runtime_puts_in_is_called_by_the_row_before_it() -> None:
    structure = Structure((Layer("n1", "Conv", 0, 0, place="module.stem"), Layer("n2", "Relu", 0, 0)))
    times = [
        LayerTime("Reorder_token_1", "ReorderInput", 1e-4, (), after="x"), LayerTime("n1", "Conv", 1e-4, ("n1",)),
        LayerTime("Reorder_token_2", "ReorderOutput", 1e-4, (), after="n1"),
        LayerTime("cast", "Cast", 1e-4, (), after="n1"), LayerTime("n2", "Relu", 1e-4, ("n2",)),
    ]  # fmt: skip
    whole = Interval(1e-3, 1e-3, 1e-3)
    found = Found(structure, whole, None, None, 0, 1, (), rows(times, structure, None, 1))
    names = ["after x", "stem", "after stem ReorderOutput", "after stem Cast", "n2"]
    assert [one["name"] for one in layers(found, 1)] == names


def test_memory_is_most_where_most_values_are_waited_for() -> None:
    layers = (
        Layer("a", "", 0, 10, reads=("x",), writes=("p",)),
        Layer("b", "", 0, 20, reads=("p",), writes=("q",)),
        Layer("c", "", 0, 30, reads=("p", "q"), writes=("y",)),
    )
    sizes = {"x": 1.0, "p": 10.0, "q": 5.0, "y": 2.0}
    found = held(Structure(layers, values=sizes, results=("y",)), samples=2)
    assert found is not None
    assert (found.weights, found.most, found.at, found.largest) == (60, 34.0, "c", "a")
    assert found.over_time == (22.0, 30.0, 34.0)
    assert held(Structure(layers), samples=1) is None


def test_the_roof_that_is_lowest_binds() -> None:
    layers = (
        Layer("dense", "MatMul", 1e6, 0, reads=("x",), writes=("a",), weights=1e4),
        Layer("wide", "MatMul", 1e3, 0, reads=("a",), writes=("b",), weights=1e6),
        Layer("tiny", "Add", 0, 0, reads=("b",), writes=("c",)),
        Layer("cast", "Cast", 0, 0, reads=("c",), writes=("d",)),
    )
    structure = Structure(layers, values=dict.fromkeys("xabcd", 100.0), results=("d",))
    times = [LayerTime(layer.name, layer.operator, 1e-4, (layer.name,), "f32") for layer in layers]
    times.append(LayerTime("reorder 1", "ReorderOutput", 2e-4, ()))
    found = rows(times, structure, PEAKS, 1)
    assert [row.bound_by for row in found] == ["compute", "memory", "overhead", "conversion", "conversion"]
    assert found[0].attainable == pytest.approx(2e6 / 1e11)
    assert found[1].attainable == pytest.approx(1e6 / 1e11 + 200 / 1e11)
    assert found[0].moved == 1e4 + 200
    assert bound_by(found, 1e-3) == "overhead" and bound_by(found, 0.0) == "conversion"
    fused = rows([LayerTime("f", "Fused", 1e-4, ("wide", "tiny"), "int8")], structure, PEAKS, 1)[0]
    assert fused.moved == 1e6 + 200, "what one layer hands the other stays inside"
    assert fused.layers == ("wide", "tiny") and fused.name == "wide"
    assert rows(times, structure, None, 1)[0].bound_by is None
    unknown = rows(times[:1], Structure(layers, values={"x": 100.0}, results=("d",)), PEAKS, 1)[0]
    assert unknown.bound_by is unknown.attainable is None, "what it computes is of no size that is known"
    most = shares_of([*found[1:], unknown], 0.0)
    assert most["compute"] == 0 and sum(most.values()) == pytest.approx(5 / 6), "of the rest it is told"
    assert shares_of([found[0], unknown, unknown], 0.0) == {}, "it is not known of most"


def test_names_that_would_move_the_cursor_are_spelled_out(tmp_path: Path) -> None:
    proto = models.mlp()
    proto.graph.node[0].name = "\x1b[2Jevil\nname\r" + "long" * 60
    onnx.save(proto, tmp_path / "model.onnx")
    result = CliRunner().invoke(app, ["profile", str(tmp_path / "model.onnx"), "--threads", "1"])
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.stdout and "\r" not in result.stdout and "evil\n" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 110
    entry = {"name": "a\nb", "operator": "c\td", "seconds": {"value": 1.0, "low": 1.0, "high": 1.0}, "layers": ["a\nb"],
             "share": {"value": 1.0}, "bound_by": None, "operations": 0.0, "bytes": 0}  # fmt: skip
    assert any("a\\nb" in line and "c\\td" in line for line in layer_table([entry], 80))


@pytest.mark.parametrize(
    ("seconds", "bound"),
    [(6e-6, "memory"), (3e-5, "latency"), (1e-3, "overhead")],
    ids=["as its bytes arrive", "as reads that wait take", "longer than reads could"],
)
def test_what_binds_trees_is_told_by_what_their_reads_can_take(seconds: float, bound: str) -> None:
    trees = Layer("trees", "TreeEnsemble", 400.0, 10**9, 10**8, ("x",), ("y",), 100_000.0, waits=True)
    made = Structure((trees,), values={"x": 80.0, "y": 8.0}, results=("y",))
    known = Peaks("any", 1, {}, 2e10, 2e11, 1 << 20, 1 << 25, 0.0)
    (row,) = rows([LayerTime("trees", "TreeEnsemble", seconds, ("trees",), "f64")], made, known, 1)
    assert row.bound_by == bound and row.attainable == pytest.approx(5e-6, rel=0.01)
    assert rows([LayerTime("trees", "", seconds, ("trees",))], made, None, 1)[0].bound_by is None
    untold = replace(made, layers=(replace(trees, operations=None),))
    assert rows([LayerTime("trees", "", seconds, ("trees",))], untold, known, 1)[0].bound_by is None
    products = replace(made, layers=(replace(trees, waits=False),))
    (row,) = rows([LayerTime("trees", "", seconds, ("trees",))], products, known, 1)
    assert row.bound_by is None, "for no rate of products is known"
