"""Int4 weights: an eighth of the size where matrix products are most of it; others are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import models
from strop import formats
from strop.data import Data
from strop.errors import NotApplicable
from strop.model import Model
from strop.target import Target
from strop.technique import Context, apply
from strop.techniques import OpenvinoInt4Weights, OpenvinoInt8Weights, ToOpenvino
from strop.testing import Example, TechniqueCase

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
    return Example(converted(formats.open(folder / "products.onnx"), folder / "converted"), Data({"x": x}))


class TestOpenvinoInt4Weights(TechniqueCase):
    technique = OpenvinoInt4Weights
    tolerance = 0.15

    def example(self, folder: Path) -> Example:
        return products(folder)

    def misfit(self, folder: Path) -> Model | None:
        return converted(models.case("cnn", folder / "cnn").model, folder / "converted")


def test_a_greater_share_is_smaller(tmp_path: Path) -> None:
    given = products(tmp_path)
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
    given, sizes = products(tmp_path, width=288), []
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
