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
from strop.runtime import Profiled, Runtime
from strop.runtimes import Eager, Gtil, Onnxruntime, Openvino, _profiled
from strop.runtimes._profiled import _calm, _even
from strop.target import Target
from strop.technique import Context, apply
from strop.techniques import ToOpenvino

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
    assert all(layer.seconds >= 0 for layer in found)
    assert any(layer.seconds for layer in found)


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
    np.testing.assert_allclose(_even(found, 6.0, 9.0), [1.0, 2.5, 2.5])
    np.testing.assert_allclose(_even(found, 6.0, 1.5), [1.0, 1.5, 1.5])
    np.testing.assert_allclose(_even(found, -1.0, 9.0), 0.0)


def test_what_a_call_waited_is_taken_off_where_it_took_longer_than_others() -> None:
    logged = np.array([[1.0, 10.0], [1.0, 14.0], [3.0, 10.0]])
    np.testing.assert_allclose(_calm(logged, np.array([0.0, 4.0, 2.0])), [[1, 10], [1, 10], [1, 10]])
    np.testing.assert_allclose(_calm(logged[:1], np.array([5.5])), [[0.5, 5.0]], err_msg="in every call")


def test_a_runtime_without_a_profiler_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable, match="gtil has no profiler"):
        Gtil().layer_times(stored(models.mlp(), tmp_path), TARGET, [])
    with pytest.raises(NotApplicable, match="all trees of a forest are one node"):
        Onnxruntime().layer_times(replace(stored(models.mlp(), tmp_path), format=ONNX_TREES), TARGET, [])
