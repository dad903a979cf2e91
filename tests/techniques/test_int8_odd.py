"""Int8 by ONNX Runtime, and conversion, of graphs that its quantizers alone get wrong, or that can't be borne."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import models
from strop import formats
from strop.data import Data
from strop.errors import NotApplicable
from strop.formats.openvino import OpenvinoFormat
from strop.nmse import nmse
from strop.target import Target
from strop.technique import Context, Technique, apply
from strop.techniques import DynamicInt8, OpenvinoInt8, StaticInt8, ToOpenvino
from techniques.test_all import run

TARGET = Target(threads=1)
HEAD = "g (float[N, 16] x) =>"


def scaled() -> onnx.ModelProto:
    """Products and biases with factors; two read the same weights."""
    return models.build(
        f"""{HEAD} (float[N, 16] y) {{
            h = Gemm <alpha = 0.5, beta = 4.0> (x, w, b)
            r = Relu(h)
            y = Gemm <beta = 0.25> (r, w, b)
        }}""",
        [models.weight("w", 16, 16), models.weight("b", 16, scale=16)],
    )


def tied() -> onnx.ModelProto:
    """What decodes reads the weights of what encodes, transposed."""
    return models.build(
        f"{HEAD} (float[N, 16] y) {{ h = Gemm <transB = 1> (x, w, b) r = Relu(h) y = Gemm(r, w, c) }}",
        [models.weight("w", 16, 16), models.weight("b", 16), models.weight("c", 16)],
    )


def clipped() -> onnx.ModelProto:
    """What is clipped is an output, too."""
    return models.build(
        f"{HEAD} (float[N, 16] h, float[N, 16] y) {{ h = MatMul(x, w) r = Relu(h) y = MatMul(r, v) }}",
        [models.weight("w", 16, 16), models.weight("v", 16, 16)],
    )


def made(kind: type[Technique], proto: onnx.ModelProto, folder: Path) -> float:
    onnx.save(proto, folder / "model.onnx")
    model, data = formats.open(folder / "model.onnx"), Data({"x": models.floats(16)})
    found = apply(kind(), model, Context(data, model, TARGET, 0, folder / "made"))
    return nmse(run(found, data), run(model, data))


@pytest.mark.parametrize("kind", [DynamicInt8, StaticInt8])
@pytest.mark.parametrize("build", [scaled, tied, clipped])
def test_no_factor_is_lost_no_scale_taken_for_another_and_no_output_clipped(
    build: Callable[[], onnx.ModelProto], kind: type[Technique], tmp_path: Path
) -> None:
    assert 0 < made(kind, build(), tmp_path) < 1e-3


def test_an_input_that_is_an_output_is_refused_with_its_name(tmp_path: Path) -> None:
    proto = clipped()
    proto.graph.output[0].name = "x"
    with pytest.raises(NotApplicable, match="hands its input 'x' on as an output"):
        made(StaticInt8, proto, tmp_path)


def test_inputs_that_conversion_adds_are_counted(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    proto = clipped()
    proto.graph.output[0].name = "x"
    with pytest.raises(NotApplicable, match="has 1 inputs, and 2 once OpenVINO has converted it"):
        made(ToOpenvino, proto, tmp_path)


def test_recurrent_layers_stay_in_floats_where_openvino_answers_wrongly_in_int8(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    proto = models.build(
        """g (float[N, 20, 16] x) => (float[N, 20, 8] y) {
            t = Transpose <perm = [1, 0, 2]> (x)
            h, last, cell = LSTM <hidden_size = 32> (t, w, r)
            s = Squeeze(h, one)
            b = Transpose <perm = [1, 0, 2]> (s)
            y = MatMul(b, v)
        }""",
        [models.weight("w", 1, 128, 16), models.weight("r", 1, 128, 32), models.weight("v", 32, 8),
         numpy_helper.from_array(np.array([1]), "one")],
    )  # fmt: skip
    onnx.save(proto, tmp_path / "model.onnx")
    model, data = formats.open(tmp_path / "model.onnx"), Data({"x": models.floats(20, 16)})
    plain = apply(ToOpenvino(), model, Context(data, model, TARGET, 0, tmp_path / "plain"))
    found = apply(OpenvinoInt8(), plain, Context(data, model, TARGET, 0, tmp_path / "made"))
    assert 0 < nmse(run(found, data), run(model, data)) < 1e-3
    assert (
        "OpenVINO answers wrongly with it in int8" in OpenvinoInt8().spared(OpenvinoFormat().dataflow(found)).values()
    )
