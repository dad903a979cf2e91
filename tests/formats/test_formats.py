"""Finding the format of a model, and what every format owes."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import models
from strop import formats
from strop.errors import UnsupportedModel
from strop.formats.onnx import OnnxFormat
from strop.formats.openvino import OpenvinoFormat
from strop.model import ONNX, OPENVINO
from strop.target import Target
from strop.technique import Context
from strop.techniques import ToOpenvino
from strop.testing import FAKE_FORMAT, FormatCase, fake_model


class TestOnnx(FormatCase):
    format = OnnxFormat()

    def example(self, folder: Path) -> Path:
        return models.case("external", folder).model.path

    def broken(self, folder: Path) -> Path:
        path = folder / "text.onnx"
        path.write_text("these are no weights\n")
        return path


class TestOpenvino(FormatCase):
    format = OpenvinoFormat()

    def example(self, folder: Path) -> Path:
        pytest.importorskip("openvino")
        case = models.case("several_inputs", folder / "onnx")
        (folder / "ir").mkdir()
        return ToOpenvino().apply(case.model, Context(None, case.model, Target(), 0, folder / "ir")).path

    def broken(self, folder: Path) -> Path:
        path = folder / "model.xml"
        path.write_text("<net name='x'><layers>")
        path.with_suffix(".bin").touch()
        return path


class TestFake(FormatCase):
    format = FAKE_FORMAT

    def example(self, folder: Path) -> Path:
        return fake_model(folder).path

    def broken(self, folder: Path) -> Path:
        path = folder / "model.fake"
        path.write_text("[")
        return path


def test_file_folder_and_live_object_are_found(tmp_path: Path) -> None:
    path = models.case("mlp", tmp_path).model.path
    for source in (path, str(path), tmp_path, onnx.load(path)):
        assert formats.open(source).format == ONNX


def test_openvino_names_and_types_are_those_of_the_ir(tmp_path: Path) -> None:
    model = OpenvinoFormat().open(TestOpenvino().example(tmp_path))
    assert model.format == OPENVINO
    assert [str(t) for t in model.signature.inputs] == [
        "numbers: float32[?, 6]", "kind: int32[?]", "flags: bool[?, 2]"
    ]  # fmt: skip
    assert [file.name for file in model.files] == ["model.xml", "model.bin"]


def test_an_ir_without_its_weights_is_refused(tmp_path: Path) -> None:
    path = TestOpenvino().example(tmp_path)
    weights = path.with_suffix(".bin")
    content = weights.read_bytes()
    weights.write_bytes(content[:-1])
    with pytest.raises(UnsupportedModel, match="truncated"):
        formats.open(path)
    weights.unlink()
    with pytest.raises(UnsupportedModel, match=r"model\.bin is missing"):
        formats.open(path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("absent.onnx", "does not"),
        ("model.pt", "weights=FILE"),
        ("notes.txt", "onnx, openvino"),
        ("two", "exactly one"),
    ],
)
def test_what_no_format_takes_is_refused_with_the_known_ones(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "two").mkdir()
    for file in ("model.pt", "notes.txt", "two/a.onnx", "two/b.onnx"):
        (tmp_path / file).write_text("?")
    with pytest.raises(UnsupportedModel, match=said):
        formats.open(tmp_path / name)


def test_an_object_of_no_format_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="got a dict"):
        formats.open({})


def test_formats_are_found_by_name() -> None:
    assert formats.format_of("onnx").name == ONNX
    with pytest.raises(UnsupportedModel, match="onnx, openvino"):
        formats.format_of("onix")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<edge ", "<gone "), ("<layer ", "<gone "), ("<dim>3</dim>", "<dim>abc</dim>"),
        ('offset="0"', 'offset="x"'), ('<?xml version="1.0"?>', '<?xml version="1.0" encoding="foo"?>'),
    ],
)  # fmt: skip
def test_a_broken_openvino_graph_is_refused(tmp_path: Path, old: str, new: str) -> None:
    port = '<port id="0" precision="FP32" names="{}"><dim>1</dim><dim>3</dim></port>'
    graph = (
        '<?xml version="1.0"?><net name="m" version="11"><layers>'
        f'<layer id="0" name="x" type="Parameter"><output>{port.format("x")}</output></layer>'
        f'<layer id="1" name="c" type="Const"><data offset="0" size="0"/><output>{port.format("c")}</output></layer>'
        '<layer id="2" name="r" type="Result"><input/></layer></layers>'
        '<edges><edge from-layer="0" from-port="0" to-layer="2" to-port="0"/></edges></net>'
    )
    (tmp_path / "m.bin").touch()
    (tmp_path / "m.xml").write_text(graph)
    assert [t.name for t in formats.open(tmp_path / "m.xml").signature.outputs] == ["x"]
    assert old in graph
    (tmp_path / "m.xml").write_text(graph.replace(old, new))
    with pytest.raises(UnsupportedModel, match=r"m\.xml"):
        formats.open(tmp_path / "m.xml")
