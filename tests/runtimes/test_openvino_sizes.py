"""OpenVINO: models whose inputs have free sizes are compiled for those that come, and answer the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import models
from strop import formats
from strop.data import Data
from strop.errors import RunFailed
from strop.model import OPENVINO, Model
from strop.runtimes import Openvino
from strop.runtimes._openvino_sizes import SIZES, Sized
from strop.target import Target
from strop.technique import Context

pytest.importorskip("openvino")
TARGET = Target(threads=1)
CONVOLVING = """g (float[N, 3, H, W] x) => (float[N, 4] y) {
    h = Conv(x, w) r = Relu(h) y = ReduceMean <axes = [2, 3], keepdims = 0> (r)
}"""


def converted(text: str, folder: Path, **weights: tuple[int, ...]) -> Model:
    from strop._quiet import openvino

    proto = models.build(text, [models.weight(name, *shape) for name, shape in weights.items()])
    onnx.save(proto, folder / "model.onnx")
    openvino().save_model(openvino().convert_model(folder / "model.onnx"), folder / "model.xml", compress_to_fp16=False)
    found = formats.open(folder / "model.xml")
    assert found.format == OPENVINO
    return found


def image(*sizes: int) -> dict[str, Any]:
    return {"x": models.RNG(sum(sizes)).normal(size=sizes).astype(np.float32)}


def free(model: Model) -> Any:
    """What runs it compiled for any sizes."""
    from strop._quiet import openvino

    return openvino().Core().compile_model(str(model.path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def test_each_size_has_its_own_and_what_comes_after_the_first_few_shares_one(tmp_path: Path) -> None:
    model, made = converted(CONVOLVING, tmp_path, w=(4, 3, 3, 3)), list[Any]()
    runner, right = Openvino().load(model, TARGET), free(model)
    sizes = [(1, 3, 8, 8 + number) for number in range(SIZES + 3)] + [(5, 3, 8, 8), (1, 3, 8, 8)]
    for one in sizes:
        np.testing.assert_allclose(runner(image(*one))["y"], right(image(*one))["y"], rtol=1e-4, atol=1e-5)
    sized = Sized(str(model.path), lambda graph: made.append(graph) or graph)  # type: ignore[func-returns-value]
    kept = [sized.of(image(*one)) for one in sizes]
    assert len(made) == SIZES + 1 and len({id(one) for one in kept}) == SIZES + 1
    assert [graph.is_dynamic() for graph in made] == [False] * SIZES + [True]
    assert kept[-1] is kept[0] and kept[-2] is kept[SIZES], "the one for any"


def test_fixed_sizes_are_compiled_when_the_model_is_loaded(tmp_path: Path) -> None:
    text = "g (float[2, 8] x) => (float[2, 4] y) { y = MatMul(x, w) }"
    model, made = converted(text, tmp_path, w=(8, 4)), list[Any]()
    sized = Sized(str(model.path), lambda graph: made.append(graph) or graph)  # type: ignore[func-returns-value]
    assert len(made) == 1
    assert sized.of(image(2, 8)) is made[0] and len(made) == 1


def test_what_can_not_be_fixed_is_run_as_it_is_and_sizes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    model, made = converted(CONVOLVING, tmp_path, w=(4, 3, 3, 3)), list[Any]()
    sized = Sized(str(model.path), lambda graph: made.append(graph) or graph)  # type: ignore[func-returns-value]
    sized.of(image(1, 5, 8, 8))
    assert made[0].is_dynamic(), "the model itself says what is wrong, when it runs"
    runner = Openvino().load(model, TARGET)
    with pytest.raises(RunFailed, match="OpenVINO can't run the model"):
        runner(image(1, 5, 8, 8))
    assert np.isfinite(runner(image(1, 3, 8, 8))["y"]).all(), "and others run on"


def test_layers_are_timed_as_the_model_runs(tmp_path: Path) -> None:
    """Compiled for its size, nothing is left that computes shapes."""
    text = "g (float[N, 3, H, W] x) => (float[N, 3, H, W] y) { h = Conv(x, w) s = Shape(x) y = Reshape(h, s) }"
    model = converted(text, tmp_path, w=(3, 3, 1, 1))
    layers = Openvino().layer_times(model, TARGET, [image(1, 3, 64, 64)], 0.2)
    assert any("h" in layer.layers for layer in layers)
    assert not {layer.operator for layer in layers} & {"ShapeOf", "Reshape"}


def test_the_code_that_is_handed_over_runs_all_sizes(tmp_path: Path) -> None:
    model = converted(CONVOLVING, tmp_path, w=(4, 3, 3, 3))
    code = Openvino().code(model, TARGET)
    space: dict[str, Any] = {"file": str(model.path), "np": np}
    exec(code.load, space)
    for width in range(8, 8 + SIZES + 2):
        space["inputs"] = image(1, 3, 8, width)
        exec(code.call, space)
        np.testing.assert_allclose(space["outputs"]["y"], free(model)(space["inputs"])["y"], rtol=1e-4, atol=1e-5)
    assert len(space["known"]) == SIZES + 1


def test_products_of_unpacked_weights_are_told_by_their_own_names(tmp_path: Path) -> None:
    """With the sizes known, OpenVINO says of such a product that it was what it reads."""
    from strop.techniques import MixedOpenvino

    text = """g (float[N, 3, 64] x) => (float[N, 3, 64] y) {
        n = LayerNormalization(x, g, b)
        m1 = MatMul(n, w1) a1 = Add(m1, b) m2 = MatMul(n, w2) a2 = Add(m2, b) p = Mul(a1, a2)
        m3 = MatMul(p, w3) a3 = Add(m3, b) r = Relu(a3) y = MatMul(r, w4)
    }"""
    weights = {name: (64, 64) for name in ("w1", "w2", "w3", "w4")} | {"g": (64,), "b": (64,)}
    model, data = converted(text, tmp_path, **weights), Data({"x": models.floats(3, 64)})
    parts = MixedOpenvino().parts(model, Context(data, model, TARGET, 0, tmp_path / "parts"))
    assert len(parts.weights["int8 weights"]) == len(parts.members) == 4
    made = parts.save(dict.fromkeys(parts.members, "int8 weights"), tmp_path / "made")
    layers = Openvino().layer_times(made, TARGET, [data.batch(0, 1)], 0.2)
    home = {name: layer.name for layer in layers for name in layer.layers}
    assert len({home[names[0]] for names in parts.members.values()}) == 4, "a layer each"
