"""Forests are written as ONNX, and ONNX Runtime gives what they give."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import models
from forests import edges, grown
from strop import formats
from strop.data import Data
from strop.errors import NotApplicable
from strop.forest import LINKS, Forest
from strop.formats.forest import save
from strop.model import ONNX_TREES, Model
from strop.native.library import compiler
from strop.plan import routes
from strop.runtimes import Native, Onnxruntime
from strop.target import Target
from strop.technique import Context, Needs, Technique, apply
from strop.techniques import ForestToOnnx, ToForest, ToNative
from strop.testing import Example, TechniqueCase

RNG = np.random.default_rng
SHAPES: list[dict[str, Any]] = [
    {}, {"trees": 1, "leaves": 1}, {"deep": True, "leaves": 60}, {"divisor": 5.0}, {"outputs": 3},
    {"outputs": 3, "vectors": True}, {"outputs": 3, "vectors": True, "divisor": 5.0, "link": "shares"},
]  # fmt: skip
TYPES = [("float64", "float64"), ("float32", "float32"), ("float32", "float64"), ("float64", "float32")]


def written(forest: Forest, folder: Path) -> Model:
    for part in ("given", "made"):
        (folder / part).mkdir(parents=True)
    model = save(forest, folder / "given")
    return apply(ForestToOnnx(), model, Context(None, model, Target(), 0, folder / "made"))


def run(model: Model, *batches: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    (rows,), (result,) = model.signature.inputs, model.signature.outputs
    runner = Onnxruntime().load(model, Target(threads=1))
    found = [runner({rows.name: batch})[result.name] for batch in batches]
    runner.close()
    return found


def agrees(forest: Forest, folder: Path, rows: int = 500) -> Model:
    """As exact as sums are that ONNX Runtime gives in float32; and the forest can be read again."""
    model, x = written(forest, folder), edges(RNG(1), forest, rows)
    expected = forest.predict(x)
    close = 1e-5 * max(1.0, float(np.abs(expected).max()))
    many, one = run(model, x, x[:1])  # which ONNX Runtime computes in different ways
    np.testing.assert_allclose(many, expected, rtol=1e-6, atol=close, strict=True)
    np.testing.assert_allclose(one, expected[:1], rtol=1e-6, atol=close, strict=True)
    if (forest.subset < 0).all() and not forest.zero_missing.any():  # of others, splits share what they lead to
        again = formats.open(model.path)
        assert again.format == ONNX_TREES and again.counts["trees"] == forest.trees
        for ours, theirs in zip((*model.signature.inputs, *model.signature.outputs),
                                (*again.signature.inputs, *again.signature.outputs), strict=True):  # fmt: skip
            assert (theirs.name, theirs.dtype, len(theirs.shape)) == (ours.name, ours.dtype, len(ours.shape))
        found = formats.format_of(ONNX_TREES).forest(again)
        np.testing.assert_allclose(found.predict(x).reshape(expected.shape), expected, rtol=1e-6, atol=close)
    return model


@pytest.mark.parametrize("dtype", TYPES, ids="-".join)
@pytest.mark.parametrize("odd", [(0.0, 0.0), (0.4, 0.4)], ids=str)
def test_every_forest_stays_the_same(tmp_path: Path, odd: tuple[float, float], dtype: tuple[str, str]) -> None:
    """Subsets of categories and zeros that are missing too, which are several comparisons in ONNX."""
    for seed, shape in enumerate(SHAPES):
        given = {"subsets": odd[0], "zero_missing": odd[1], "dtype": dtype[0], "sums": dtype[1], **shape}
        forest = grown(RNG(seed), **given)
        if shape.get("link") == "shares":
            forest = replace(forest, values=np.abs(forest.values) + 0.1, base=np.abs(forest.base))
        agrees(forest, tmp_path / str(seed))


@pytest.mark.parametrize("sums", ["float32", "float64"])
@pytest.mark.parametrize("link", sorted(LINKS))
def test_every_link(tmp_path: Path, link: str, sums: str) -> None:
    forest = grown(RNG(3), outputs=3 if link in ("softmax", "shares") else 1, link=link, sums=sums)
    forest = replace(forest, values=np.abs(forest.values), base=np.abs(forest.base))
    agrees(replace(forest, scale=1.7 if "sigmoid" in link else 1.0), tmp_path)


def test_leaves_reached_are_exact(tmp_path: Path) -> None:
    """Every leaf has a power of two of its own, so that a sum of float64 tells which it is."""
    forest = grown(RNG(4), trees=1, leaves=24, subsets=0.5, zero_missing=0.5)
    forest = replace(forest, values=2.0 ** np.arange(len(forest.values))[:, None], base=np.zeros(1))
    x = edges(RNG(5), forest, 5000)
    np.testing.assert_array_equal(run(written(forest, tmp_path), x)[0], forest.predict(x))


def test_thresholds_that_are_infinite_or_no_float32(tmp_path: Path) -> None:
    forest = grown(RNG(6), dtype="float32", leaves=30)
    odd = RNG(7).choice([np.inf, -np.inf, 0.1, 1 / 3, 1e300, -1e300, 1e-300, -1e-300], len(forest.threshold))
    agrees(replace(forest, threshold=odd).check(), tmp_path)


def test_what_is_written_is_whole_onnx_and_can_be_read_again(tmp_path: Path) -> None:
    forest = grown(RNG(8), outputs=3, vectors=True, dtype="float32", sums="float32", rows="features", result="scores")
    model = agrees(forest, tmp_path)
    onnx.checker.check_model(onnx.load(model.path), full_check=True)
    opened = formats.open(model.path)
    assert (opened.format, opened.signature.names()) == (ONNX_TREES, model.signature.names())
    (tmp_path / "again").mkdir()
    again = apply(ToForest(), opened, Context(None, opened, Target(), 0, tmp_path / "again"))
    x = edges(RNG(1), forest, 500)
    np.testing.assert_allclose(Forest.load(again.path).predict(x), forest.predict(x), rtol=1e-6, atol=1e-6)


def test_sums_that_float32_does_not_hold_are_refused(tmp_path: Path) -> None:
    forest = grown(RNG(9))
    with pytest.raises(NotApplicable, match="too large for float32"):
        written(replace(forest, values=forest.values * 1e38), tmp_path)


def planned(model: Model) -> list[str]:
    found, refused = routes(model, Target(threads=1), Needs.SAMPLES | Needs.LABELS)
    assert not {"to-forest", "forest-to-onnx"} & set(refused)
    return [route.label for route in found]


def test_no_step_follows_it(tmp_path: Path) -> None:
    """What is written for one runtime is neither quantized nor converted, nor read again; networks have no trees."""
    (tmp_path / "forest").mkdir()
    lines = planned(save(grown(RNG(10)), tmp_path / "forest"))
    assert all(line.endswith("forest-to-onnx + onnxruntime") for line in lines if "forest-to-onnx" in line)
    assert {"forest-to-onnx + onnxruntime", "to-native + native"} <= set(lines)
    forest = grown(RNG(11), outputs=2, dtype="float32", sums="float32")
    lines = planned(formats.open(written(forest, tmp_path / "onnx").path))
    assert {"onnxruntime", "to-forest + to-native + native", "to-forest + forest-to-onnx + onnxruntime"} <= set(lines)
    assert not [line for line in lines if "int8" in line or "openvino" in line or "optimize-onnx" in line]
    assert not [line for line in planned(models.case("mlp", tmp_path).model) if "forest" in line or "native" in line]


@pytest.mark.skipif(compiler() is None, reason="needs a C compiler")
@pytest.mark.parametrize("step", [ToNative, ForestToOnnx])
def test_names_types_and_axes_of_the_original_stay(tmp_path: Path, step: type[Technique]) -> None:
    """One result of a regressor in ONNX has two axes, [samples, 1], and one of a forest has one."""
    path = tmp_path / "regressor.onnx"
    ensemble = helper.make_node(
        "TreeEnsembleRegressor", ["rows"], ["scores"], domain="ai.onnx.ml", n_targets=1, nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2], nodes_featureids=[1, 0, 0], nodes_values=[0.5, 0.0, 0.0], nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0], nodes_modes=["BRANCH_LT", "LEAF", "LEAF"], target_treeids=[0, 0],
        target_nodeids=[1, 2], target_ids=[0, 0], target_weights=[1.5, -2.5],
    )  # fmt: skip
    sides = (helper.make_tensor_value_info(name, 1, ["N", width]) for name, width in (("rows", 2), ("scores", 1)))
    graph = helper.make_graph([ensemble], "trees", [next(sides)], [next(sides)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("ai.onnx.ml", 3)], ir_version=8), path)
    model = original = formats.open(path)
    for number, technique in enumerate((ToForest, step)):
        (tmp_path / str(number)).mkdir()
        model = apply(technique(), model, Context(None, original, Target(), 0, tmp_path / str(number)))
    runner = next(kind for kind in (Native, Onnxruntime) if model.format in kind.loads)().load(model, Target(threads=1))
    found = runner({"rows": np.array([[0, 0.5], [0, 0.4], [0, np.nan]], np.float32)})["scores"]
    runner.close()
    assert (model.signature, found.dtype) == (original.signature, np.float32)
    assert found.tolist() == [[-2.5], [1.5], [-2.5]]


class TestForestToOnnx(TechniqueCase):
    technique = ForestToOnnx

    def example(self, folder: Path) -> Example:
        folder.mkdir(parents=True, exist_ok=True)
        forest = grown(RNG(0), trees=20, subsets=0.2, zero_missing=0.2, link="sigmoid")
        return Example(save(forest, folder), Data({"x": RNG(1).normal(size=(30, 4))}))

    def misfit(self, folder: Path) -> Model | None:
        folder.mkdir(parents=True)
        forest = grown(RNG(0))
        return save(replace(forest, roots=forest.roots[:0], output=forest.output[:0]), folder)


class TestToForestFromOnnx(TechniqueCase):
    technique = ToForest

    def example(self, folder: Path) -> Example:
        forest = grown(RNG(2), outputs=3, dtype="float32", sums="float32", rows="rows", result="scores")
        model = written(forest, folder)
        return Example(formats.open(model.path), Data({"rows": RNG(1).normal(size=(30, 4)).astype(np.float32)}))
