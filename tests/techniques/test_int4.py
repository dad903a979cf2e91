"""Int4 weights, for OpenVINO and for ONNX Runtime: an eighth of the size where matrix products are most of it; others
are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import models
from strop import formats
from strop.data import Data
from strop.errors import NotApplicable
from strop.formats.onnx import OnnxFormat
from strop.model import Model
from strop.nmse import nmse
from strop.target import Target
from strop.technique import Context, apply
from strop.techniques import Int4Weights, OpenvinoInt4Weights, OpenvinoInt8Weights, ToOpenvino
from strop.testing import Example, TechniqueCase
from techniques.test_all import run

pytest.importorskip("openvino")
TARGET = Target(threads=1)
WIDTH, DEEP = 256, 4


def converted(model: Model, folder: Path) -> Model:
    folder.mkdir(parents=True)
    return apply(ToOpenvino(), model, Context(None, model, TARGET, 0, folder))


def products(folder: Path, width: int = WIDTH) -> Example:
    """A row of matrix products, of 256 x 256 by default."""
    lines = [f"h{n} = MatMul({f'r{n - 1}' if n else 'x'}, w{n}) r{n} = Relu(h{n})" for n in range(DEEP)]
    text = f"g (float[N, {width}] x) => (float[N, {width}] r{DEEP - 1}) {{ {' '.join(lines)} }}"
    weights = [models.weight(f"w{n}", width, width, seed=n, scale=2.0) for n in range(DEEP)]
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(models.build(text, weights), folder / "products.onnx")
    x = np.random.default_rng(0).normal(size=(40, width)).astype(np.float32)
    return Example(formats.open(folder / "products.onnx"), Data({"x": x}))


def for_openvino(folder: Path, width: int = WIDTH) -> Example:
    given = products(folder, width)
    return Example(converted(given.model, folder / "converted"), given.data)


class TestInt4Weights(TechniqueCase):
    technique = Int4Weights
    tolerance = 0.2

    def example(self, folder: Path) -> Example:
        return products(folder)

    def misfit(self, folder: Path) -> Model | None:
        return models.case("cnn", folder / "cnn").model


class TestOpenvinoInt4Weights(TechniqueCase):
    technique = OpenvinoInt4Weights
    tolerance = 0.15

    def example(self, folder: Path) -> Example:
        return for_openvino(folder)

    def misfit(self, folder: Path) -> Model | None:
        return converted(models.case("cnn", folder / "cnn").model, folder / "converted")


def test_a_greater_share_is_smaller(tmp_path: Path) -> None:
    given = for_openvino(tmp_path)
    sizes = []
    for number, technique in enumerate((OpenvinoInt8Weights(), *map(OpenvinoInt4Weights, (0.4, 0.7, 1.0)))):
        folder = tmp_path / str(number)
        folder.mkdir()
        sizes.append(apply(technique, given.model, Context(given.data, given.model, TARGET, 0, folder)).size)
    whole = WIDTH * WIDTH
    assert sizes[1] - sizes[2] > 0.4 * whole, "one product more in int4"
    assert sizes[2] - sizes[3] > 0.4 * whole
    assert sizes[3] < sizes[0] - 3 * 0.4 * whole, "all but the last, which NNCF leaves in int8"


def test_rows_that_a_group_does_not_divide_have_smaller_ones(tmp_path: Path) -> None:
    given, sizes = for_openvino(tmp_path, width=288), []
    for technique in (OpenvinoInt8Weights(), OpenvinoInt4Weights(1.0, group=128)):
        (folder := tmp_path / technique.label()).mkdir()
        sizes.append(apply(technique, given.model, Context(given.data, given.model, TARGET, 0, folder)).size)
    assert sizes[1] < sizes[0] - 2 * 0.35 * 288 * 288


def test_what_is_mostly_convolutions_is_refused_with_the_share(tmp_path: Path) -> None:
    model = converted(models.case("cnn", tmp_path / "cnn").model, tmp_path / "converted")
    with pytest.raises(NotApplicable, match=r"has \d+% of its parameters in matrix products, and int4 is for these"):
        OpenvinoInt4Weights().requires(model, TARGET)


def test_a_model_whose_products_are_its_last_layer_is_refused(tmp_path: Path) -> None:
    text = f"g (float[N, {WIDTH}] x) => (float[N, {WIDTH}] h) {{ h = MatMul(x, w) }}"
    onnx.save(models.build(text, [models.weight("w", WIDTH, WIDTH)]), tmp_path / "last.onnx")
    model = converted(formats.open(tmp_path / "last.onnx"), tmp_path / "converted")
    data = Data({"x": np.random.default_rng(0).normal(size=(40, WIDTH)).astype(np.float32)})
    (folder := tmp_path / "made").mkdir()
    with pytest.raises(NotApplicable, match=r"no weights for int4 at a share of 0\.6: NNCF leaves those of the last"):
        apply(OpenvinoInt4Weights(), model, Context(data, model, TARGET, 0, folder))


@pytest.mark.parametrize("share", [0.3, 0.6, 1.0])
def test_products_that_are_moved_least_are_in_int4_and_the_rest_in_int8(share: float, tmp_path: Path) -> None:
    """Of four, one has an outlier in each block, and is the last to be rounded so far."""
    given = products(tmp_path)
    proto = onnx.load(given.model.path)
    wide = next(tensor for tensor in proto.graph.initializer if tensor.name == "w1")
    values = numpy_helper.to_array(wide).copy()
    values[::32] *= 20
    wide.CopyFrom(numpy_helper.from_array(values, "w1"))
    onnx.save(proto, tmp_path / "wide.onnx")
    model = formats.open(tmp_path / "wide.onnx")
    made = apply(Int4Weights(share), model, Context(given.data, model, TARGET, 0, tmp_path / "made"))
    precisions = [one.precision for one in OnnxFormat().dataflow(made).operators if one.kind == "MatMulNBits"]
    count = int(share * DEEP)
    assert precisions.count("int4 weights") == count and len(precisions) == DEEP
    assert (precisions[1] == "int4 weights") == (share == 1)
    assert made.size < model.size * (0.3 - 0.13 * count / DEEP)


def test_gemms_keep_their_bias_and_what_reads_weights_transposed_is_right(tmp_path: Path) -> None:
    text = """g (float[N, 80] x) => (float[N, 48] y) {
        h = Gemm <transB = 1, alpha = 0.5> (x, v, b) r = Relu(h) p = MatMul(r, w) y = Gemm <beta = 2.0> (p, u, c)
    }"""
    shapes = {"v": (72, 80), "b": (72,), "w": (72, 48), "u": (48, 48), "c": (48,)}
    weights = [models.weight(name, *shape) for name, shape in shapes.items()]
    onnx.save(models.build(text, weights), tmp_path / "model.onnx")
    model, data = formats.open(tmp_path / "model.onnx"), Data({"x": models.floats(80)})
    made = apply(Int4Weights(1.0), model, Context(data, model, TARGET, 0, tmp_path / "made"))
    assert 0 < nmse(run(made, data), run(model, data)) < 0.03
    assert not any(node.op_type in ("MatMul", "Gemm") for node in onnx.load(made.path).graph.node)


def test_names_that_are_taken_are_left_to_those_that_have_them(tmp_path: Path) -> None:
    proto = models.build("g (float[N, 64] x) => (float[N, 32] y) { y = MatMul(x, w) }", [models.weight("w", 64, 32)])
    proto.graph.node[0].name = "one"
    proto.graph.node[0].input[1] = proto.graph.initializer[0].name = "one/weights"
    onnx.save(proto, tmp_path / "model.onnx")
    model, data = formats.open(tmp_path / "model.onnx"), Data({"x": models.floats(64)})
    made = apply(Int4Weights(1.0), model, Context(data, model, TARGET, 0, tmp_path / "made"))
    assert 0 < nmse(run(made, data), run(model, data)) < 0.03


def test_weights_that_branches_read_stay(tmp_path: Path) -> None:
    text = """g (float[N, 64] x) => (float[N, 64] y) {
        h = MatMul(x, w) s = ReduceMean <keepdims = 0> (h) c = Greater(s, zero)
        u = If (c) <
            then_branch = t () => (float[N, 64] ty) { ty = Add(h, v) },
            else_branch = e () => (float[N, 64] ey) { ey = MatMul(h, w) }
        >
        y = MatMul(u, w)
    }"""
    weights = [models.weight("w", 64, 64), models.weight("v", 64)]
    zero = onnx.numpy_helper.from_array(np.float32(0), "zero")
    onnx.save(models.build(text, [*weights, zero]), tmp_path / "model.onnx")
    model, data = formats.open(tmp_path / "model.onnx"), Data({"x": models.floats(64)})
    made = apply(Int4Weights(1.0), model, Context(data, model, TARGET, 0, tmp_path / "made"))
    assert 0 < nmse(run(made, data), run(model, data)) < 0.03
