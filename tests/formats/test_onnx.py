"""Reading and writing ONNX, whatever it looks like."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import models
from strop import formats
from strop.errors import NotApplicable, StropError, UnsupportedModel, UntrustedModel
from strop.formats import onnx as room
from strop.formats.onnx_graph import is_quantized, opset, prepared


@pytest.mark.parametrize("kind", models.KINDS)
def test_every_kind_opens_with_its_signature(tmp_path: Path, kind: str) -> None:
    model = models.case(kind, tmp_path).model
    session = ort.InferenceSession(str(model.path))
    assert [t.name for t in model.signature.inputs] == [i.name for i in session.get_inputs()]
    assert [t.name for t in model.signature.outputs] == [o.name for o in session.get_outputs()]


def test_what_a_small_graph_computes_is_counted_where_no_size_is_free(tmp_path: Path) -> None:
    """By hand: products once a sample, convolutions once a place, an LSTM's four gates once a step."""
    known = {
        "mlp": 16 * 32 + 32 * 4, "cnn": 8 * 3 * 9 * 16**2 + 16 * 8 * 9 * 8**2 + 16 * 10, "transformer": None,
        "lstm": 4 * 16 * (12 + 16) + 16,
    }  # fmt: skip
    for kind, operations in known.items():
        assert room.OnnxFormat().operations(models.case(kind, tmp_path / kind).model) == operations


def test_sizes_are_fixed_named_or_free(tmp_path: Path) -> None:
    proto = models.mlp()
    proto.graph.input[0].type.tensor_type.shape.dim[0].Clear()
    (x,) = room.OnnxFormat().open(proto).signature.inputs
    assert x.shape == (None, 16)
    frame, state, rate = models.case("lstm", tmp_path).model.signature.inputs
    assert (frame.shape, frame.fixed_batch) == ((1, 12), 1)
    assert (state.shape, state.dtype, rate.shape, rate.dtype) == ((2, 1, 16), "float32", (), "int64")
    assert str(models.case("mlp", tmp_path).model.signature.inputs[0]) == "x: float32[N, 16]"


def test_weights_listed_as_inputs_are_no_inputs(tmp_path: Path) -> None:
    assert [t.name for t in models.case("old_opset", tmp_path).model.signature.inputs] == ["x"]


def test_external_data_ship_and_load(tmp_path: Path) -> None:
    model = models.case("external", tmp_path).model
    assert [file.name for file in model.files] == ["external.onnx", "external.bin"]
    loaded = {t.name: numpy_helper.to_array(t) for t in room.load(model).graph.initializer}
    for tensor in models.cnn().graph.initializer:
        np.testing.assert_array_equal(loaded[tensor.name], numpy_helper.to_array(tensor))


def relocated(folder: Path, location: str) -> Path:
    """The external model, all its weights said to lie elsewhere."""
    path = models.case("external", folder).model.path
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        next(e for e in tensor.external_data if e.key == "location").value = location
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "sub/../../secret.bin"])
def test_external_data_outside_the_folder_are_not_trusted(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(1 << 16))
    with pytest.raises(UntrustedModel, match="own folder"):
        formats.open(relocated(tmp_path / "model", location))


def test_a_link_out_of_the_folder_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(1 << 16))
    path = relocated(tmp_path / "model", "link.bin")
    os.symlink(tmp_path / "secret.bin", tmp_path / "model" / "link.bin")
    with pytest.raises(UntrustedModel, match="not a link"):
        formats.open(path)


def test_missing_or_short_external_data_are_named(tmp_path: Path) -> None:
    path = models.case("external", tmp_path).model.path
    weights = tmp_path / "external.bin"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(UnsupportedModel, match=r"external\.bin must hold at least \d+ bytes.* truncated"):
        formats.open(path)
    weights.unlink()
    with pytest.raises(UnsupportedModel, match=r"external\.bin is missing"):
        formats.open(path)


def test_a_weight_in_a_constant_node_may_not_leave_the_folder_either(tmp_path: Path) -> None:
    proto = models.constants()
    value = proto.graph.node[0].attribute[0].t
    value.ClearField("raw_data")
    value.data_location = TensorProto.EXTERNAL
    value.external_data.add(key="location", value="../../secret")
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(UntrustedModel):
        formats.open(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"hello world\n", "text that begins with 'hello world"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (bytes(range(256)), "can't be parsed"),
        (models.mlp().SerializeToString()[:200], "truncated"),
        (onnx.ModelProto(ir_version=8).SerializeToString(), "can't be parsed"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(UnsupportedModel, match=said):
        formats.open(path)


@given(st.floats(0, 1, exclude_max=True))
def test_every_truncation_is_refused(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    whole = models.cnn().SerializeToString()
    path = tmp_path_factory.mktemp("cut") / "model.onnx"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UnsupportedModel):
        formats.open(path)


@given(st.binary(max_size=200))
def test_random_bytes_never_end_in_another_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("noise") / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(StropError):
        formats.open(path)


def text_output(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.STRING


def sequence_output(proto: onnx.ModelProto) -> None:
    of = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    proto.graph.output[0].type.CopyFrom(of)


def half_brain(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.BFLOAT16


def no_shape(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.ClearField("shape")


def no_nodes(proto: onnx.ModelProto) -> None:
    del proto.graph.node[:]


def lost_output(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].name = "nowhere"


def no_inputs(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(models.weight("x", 1, 16))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (text_output, "'y' of .* is string"), (sequence_output, "'y' of .* is a sequence"), (half_brain, "is bfloat16"),
        (no_shape, "has no shape"), (no_nodes, "has no nodes"), (lost_output, "nowhere"), (no_inputs, "has none"),
    ],
)  # fmt: skip
def test_what_strop_cannot_handle_is_named(change: Callable[[onnx.ModelProto], None], said: str) -> None:
    proto = models.mlp()
    change(proto)
    with pytest.raises(UnsupportedModel, match=said):
        formats.open(proto)


def test_save_keeps_what_data_told_and_leaves_no_scratch(tmp_path: Path) -> None:
    case = models.case("lstm", tmp_path / "given")
    saved = room.save(room.load(case.model), tmp_path, case.model)
    assert saved.signature == case.model.signature
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["model.onnx"]
    assert not list(tmp_path.glob(".*"))


def test_large_weights_go_to_their_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "ONE_FILE", 1000)
    case = models.case("cnn", tmp_path / "given")
    saved = room.save(room.load(case.model), tmp_path, case.model)
    assert [file.name for file in saved.files] == ["model.onnx", "model.onnx.data"]
    image = case.data.batch(0, 4)
    expected = ort.InferenceSession(str(case.model.path)).run(None, image)[0]
    np.testing.assert_array_equal(ort.InferenceSession(str(saved.path)).run(None, image)[0], expected)


def test_a_live_model_is_copied_by_load(tmp_path: Path) -> None:
    proto = models.mlp()
    model = formats.open(proto)
    assert model.files == ()
    room.load(model).graph.name = "changed"
    assert proto.graph.name == "g"


@pytest.mark.parametrize("kind", [kind for kind in models.KINDS if kind != "quantized"])
def test_prepared_computes_the_same(tmp_path: Path, kind: str) -> None:
    case = models.case(kind, tmp_path)
    ready = prepared(room.load(case.model))
    onnx.checker.check_model(ready, full_check=True)
    assert opset(ready) >= 13
    assert not any(node.op_type == "Constant" for node in ready.graph.node)
    assert len({node.name for node in ready.graph.node}) == len(ready.graph.node)
    path = tmp_path / "ready.onnx"
    onnx.save(ready, path)
    feed = {t.name: case.data.batch(0, 1).get(t.name) for t in case.model.signature.inputs}
    if kind == "lstm":
        feed = {**feed, "frame": feed["frame"][:, 0], "state": np.zeros((2, 1, 16), np.float32)}
    if kind == "no_batch":
        feed = {"series": feed["series"][0]}
    expected = ort.InferenceSession(str(case.model.path)).run(None, feed)
    for value, other in zip(ort.InferenceSession(str(path)).run(None, feed), expected, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-5, atol=1e-6)


def test_prepared_infers_anew_what_was_declared_wrong() -> None:
    ready = prepared(models.wrong_shape())
    assert ready.graph.output[0].type.tensor_type.shape.dim[1].dim_value == 4
    shapes = {value.name: value.type.tensor_type.shape.dim[1].dim_value for value in ready.graph.value_info}
    assert shapes["r"] == 32


def test_prepared_refuses_an_opset_that_cannot_be_raised() -> None:
    proto = models.build("g (float[N, 3] x) => (float[N, 3] y) { y = Affine(x) }", [], opset=7)
    with pytest.raises(NotApplicable, match="needs opset 13, and raising it from 7 fails"):
        prepared(proto)


def test_functions_are_inlined() -> None:
    proto = models.mlp()
    doubled = helper.make_function(
        "mine", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    proto.functions.append(doubled)
    proto.opset_import.append(helper.make_opsetid("mine", 1))
    proto.graph.node.append(helper.make_node("Twice", ["y"], ["z"], domain="mine"))
    proto.graph.output[0].name = "z"
    assert {node.domain for node in prepared(proto).graph.node} == {""}


def test_quantized_is_seen() -> None:
    assert is_quantized(models.quantized())
    assert not is_quantized(models.cnn())


def test_signature_of_a_model_with_state_keeps_its_feedback_when_reopened(tmp_path: Path) -> None:
    model = models.case("lstm", tmp_path).model
    forgotten = formats.open(model.path)
    assert not forgotten.signature.states
    assert room.reopened(model.path, model).signature.states == model.signature.states
    assert replace(forgotten, signature=model.signature) == model


def test_a_type_that_onnx_does_not_know_is_refused(tmp_path: Path) -> None:
    proto = models.mlp()
    proto.graph.input[0].type.tensor_type.elem_type = 99
    with pytest.raises(UnsupportedModel, match="of type 99"):
        room.OnnxFormat().open(proto)


@pytest.mark.parametrize(("key", "value"), [("location", "a\0b"), ("location", "a" * 5000), ("offset", "9" * 5000)])
def test_damaged_places_of_external_data_are_refused(tmp_path: Path, key: str, value: str) -> None:
    path = models.case("external", tmp_path).model.path
    proto = onnx.load(path, load_external_data=False)
    tensor = next(t for t in proto.graph.initializer if t.external_data)
    kept = [entry for entry in tensor.external_data if entry.key != key]
    del tensor.external_data[:]
    tensor.external_data.extend([*kept, onnx.StringStringEntryProto(key=key, value=value)])
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(UnsupportedModel):
        formats.open(path)


def test_a_name_in_other_bytes_than_utf8_is_a_name(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"m\xff.onnx")
    path.write_bytes(models.mlp().SerializeToString())
    assert len(formats.open(path).digest()) == 64


def test_the_home_of_nobody_is_a_missing_model() -> None:
    with pytest.raises(UnsupportedModel, match=r"~nobody_of_that_name/x\.onnx does not"):
        formats.open("~nobody_of_that_name/x.onnx")
