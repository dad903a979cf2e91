"""ONNX graphs of trees are read into forests that predict what ONNX Runtime does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import models
from forests import edges
from strop import formats
from strop.errors import UnsupportedModel
from strop.forest import Forest
from strop.formats.onnx_trees import OnnxTreesFormat
from strop.model import ONNX, ONNX_TREES, Model, ModelFormat
from strop.runtimes import Onnxruntime
from strop.target import Target
from strop.testing import FormatCase

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng
FEATURES = 4
NUMBERS = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}


def drawn(
    seed: int, operator: str, *, outputs: int = 1, trees: int = 6, leaves: int = 10, ids: tuple[int, ...] = (0,),
    modes: tuple[str, ...] = ("BRANCH_LEQ",), dtype: str = "float32", base: int = 0, each: int = 1,
    positive: bool = False, deep: bool = False, tracks: bool = True, **attributes: Any,
) -> dict[str, Any]:  # fmt: skip
    """The attributes of an ensemble of the older operators, drawn at random, its thresholds on a coarse grid."""
    rng, prefix = RNG(seed), "class" if operator == "TreeEnsembleClassifier" else "target"
    nodes: list[list[Any]] = []
    weights: list[list[Any]] = []
    for tree in range(trees):
        made = [[tree, 0, 0, 0.0, "LEAF", 0, 0, 0]]
        ends = [0]
        for _ in range(leaves - 1):
            node = made[ends.pop(-1 if deep else int(rng.integers(len(ends))))]
            node[2:] = [
                int(rng.integers(FEATURES)), float(rng.choice([0.0, -0.0, *rng.normal(size=3).round(1)])),
                str(rng.choice(modes)), len(made), len(made) + 1, int(rng.integers(2)),
            ]  # fmt: skip
            ends += [len(made), len(made) + 1]
            made += [[tree, len(made) + side, 0, 0.0, "LEAF", 0, 0, 0] for side in (0, 1)]
        nodes += made
        for end in ends:
            for output in rng.choice(ids, each, replace=False):
                weight = float(rng.normal())
                weights.append([tree, end, int(output), abs(weight) if positive else weight])
    names = ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")
    found: dict[str, Any] = {f"nodes_{name}": [node[at] for node in nodes] for at, name in enumerate(names)}
    if tracks:
        found["nodes_missing_value_tracks_true"] = [node[7] for node in nodes]
    found |= {
        f"{prefix}_{name}": [w[at] for w in weights] for at, name in enumerate(("treeids", "nodeids", "ids", "weights"))
    }
    if base:
        found["base_values"] = rng.normal(size=base).tolist()
    found |= {"classlabels_int64s": [*range(outputs)]} if prefix == "class" else {"n_targets": outputs}
    if dtype == "float64":
        for name in ("nodes_values", f"{prefix}_weights", "base_values"):
            if name in found:
                found[f"{name}_as_tensor"] = numpy_helper.from_array(np.array(found.pop(name), np.float64), name)
    return found | attributes


def proto(
    operator: str, attributes: dict[str, Any], *more: onnx.NodeProto, dtype: str = "float32", opset: int = 3
) -> onnx.ModelProto:
    """A model of one ensemble, its scores named `scores`, and of what follows; the last is called `y`."""
    labels = ["label"] if operator == "TreeEnsembleClassifier" else []
    last = more[-1].output[0] if more else "scores"
    node = helper.make_node(operator, ["rows"], [*labels, "scores"], domain="ai.onnx.ml", **attributes)
    width = attributes.get("n_targets") or len(attributes.get("classlabels_int64s", [0]))
    info = helper.make_tensor_value_info
    made = NUMBERS[dtype] if operator == "TreeEnsemble" else TensorProto.FLOAT
    outputs = [info("label", TensorProto.INT64, ["N"])] if labels else []
    graph = helper.make_graph(
        [node, *more], "trees", [info("rows", NUMBERS[dtype], ["N", FEATURES])],
        [*outputs, info(last, made, ["N", width])],
        [numpy_helper.from_array(np.array([2.5], np.float32), "factor")],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def agrees(source: object, folder: Path, *, rows: Array | None = None) -> Forest:
    """ONNX Runtime's own outputs, and those of the forest that was read, on rows that hit every edge."""
    folder.mkdir(parents=True, exist_ok=True)
    model = formats.open(source)
    assert model.format == ONNX_TREES
    model = formats.format_of(model.format).store(model, folder)
    forest = OnnxTreesFormat().forest(model)
    x = edges(RNG(9), forest, 400) if rows is None else rows
    runner = Onnxruntime().load(model, Target(threads=1))
    found = runner({forest.rows: x})
    runner.close()
    (result,) = model.signature.outputs
    assert list(found) == [result.name]
    value = found[result.name]
    assert (value.dtype, value.shape) == (result.dtype, (len(x), result.shape[1]))
    expected = forest.predict(x).reshape(len(x), -1)
    exact = forest.link == "identity" and not forest.base.any() and forest.dtype == forest.sums and forest.divisor == 1
    close = 0 if exact else 1e-6
    np.testing.assert_allclose(
        value, expected, rtol=close, atol=close * max(1.0, float(np.abs(expected).max(initial=0)))
    )
    return forest


SOFTMAX = {"post_transform": "SOFTMAX"}
PLAIN = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT")
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "regressor": ("TreeEnsembleRegressor", {}),
    "regressor, base": ("TreeEnsembleRegressor", {"base": 1}),
    "regressor, every way to compare": ("TreeEnsembleRegressor", {"modes": PLAIN}),
    "regressor, nan undefined": ("TreeEnsembleRegressor", {"modes": PLAIN, "tracks": False}),
    "regressor, float64": ("TreeEnsembleRegressor", {"modes": PLAIN, "dtype": "float64", "base": 1}),
    "regressor, average": ("TreeEnsembleRegressor", {"aggregate_function": "AVERAGE", "base": 1}),
    "regressor, one tree": ("TreeEnsembleRegressor", {"trees": 1, "aggregate_function": "AVERAGE"}),
    "regressor, one leaf": ("TreeEnsembleRegressor", {"trees": 2, "leaves": 1}),
    "regressor, deep": ("TreeEnsembleRegressor", {"trees": 2, "leaves": 70, "deep": True}),
    "regressor, targets": ("TreeEnsembleRegressor", {"outputs": 3, "ids": (0, 1, 2), "each": 3, "base": 3}),
    "regressor, mixed": ("TreeEnsembleRegressor", {"outputs": 3, "ids": (0, 2), "aggregate_function": "AVERAGE"}),
    "regressor, softmax": ("TreeEnsembleRegressor", {"outputs": 3, "ids": (0, 1, 2), "post_transform": "SOFTMAX"}),
    "regressor, logistic": ("TreeEnsembleRegressor", {"outputs": 2, "ids": (0, 1), "post_transform": "LOGISTIC"}),
    "classes": ("TreeEnsembleClassifier", {"outputs": 3, "ids": (0, 1, 2), "each": 3}),
    "classes, softmax": ("TreeEnsembleClassifier", {"outputs": 3, "ids": (0, 1, 2), "base": 3, **SOFTMAX}),
    "classes, logistic": ("TreeEnsembleClassifier", {"outputs": 3, "ids": (0, 1, 2), "post_transform": "LOGISTIC"}),
    "two classes, both told": ("TreeEnsembleClassifier", {"outputs": 2, "ids": (0, 1), "each": 2}),
    "two classes, softmax": ("TreeEnsembleClassifier", {"outputs": 2, "ids": (0, 1), "each": 2, **SOFTMAX}),
    "two classes, second told": ("TreeEnsembleClassifier", {"outputs": 2, "ids": (1,), "post_transform": "LOGISTIC"}),
    **{
        f"two classes, one score, {transform}, {sign}, base {base}": (
            "TreeEnsembleClassifier",
            {"outputs": 2, "post_transform": transform, "positive": sign == "positive", "base": base},
        )
        for transform in ("NONE", "LOGISTIC", "SOFTMAX") for sign in ("positive", "mixed") for base in (0, 1)
    },
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_ensemble_is_onnx_runtimes_own(tmp_path: Path, case: str) -> None:
    operator, settings = CASES[case]
    for seed in range(2):
        dtype = settings.get("dtype", "float32")
        agrees(proto(operator, drawn(seed, operator, **settings), dtype=dtype), tmp_path / str(seed))


def newest(dtype: str, **attributes: Any) -> dict[str, Any]:
    """Two trees of the newest operator, one of them a single leaf."""
    number = np.dtype(dtype)
    return {
        "nodes_modes": numpy_helper.from_array(np.array([0, 3, 1], np.uint8)), "nodes_featureids": [0, 1, 0],
        "nodes_splits": numpy_helper.from_array(np.array([0.5, -0.1, 0.0], number)), "tree_roots": [0, 2],
        "nodes_truenodeids": [1, 0, 3], "nodes_trueleafs": [0, 1, 1], "nodes_falsenodeids": [2, 1, 3],
        "nodes_falseleafs": [1, 1, 1], "nodes_missing_value_tracks_true": [1, 0, 0], "leaf_targetids": [0, 1, 0, 1],
        "leaf_weights": numpy_helper.from_array(np.array([0.1, 0.2, 0.3, 0.4], number)), "n_targets": 2, **attributes,
    }  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("attributes", [{}, {"aggregate_function": 0}])
def test_the_newest_operator_too(tmp_path: Path, dtype: str, attributes: dict[str, Any]) -> None:
    forest = agrees(proto("TreeEnsemble", newest(dtype, **attributes), dtype=dtype, opset=5), tmp_path)
    assert forest.sums == dtype


def test_links_that_converters_write_as_nodes(tmp_path: Path) -> None:
    attributes = drawn(0, "TreeEnsembleRegressor", base=1)
    node = helper.make_node
    exponential = (node("Exp", ["scores"], ["e"]), node("Mul", ["e", "factor"], ["y"]))
    assert agrees(proto("TreeEnsembleRegressor", attributes, *exponential), tmp_path / "a").link == "exponential"
    sigmoid = (node("Identity", ["scores"], ["s"]), node("Sigmoid", ["s"], ["y"]))
    assert agrees(proto("TreeEnsembleRegressor", attributes, *sigmoid), tmp_path / "b").link == "sigmoid"


R = "TreeEnsembleRegressor"
C = "TreeEnsembleClassifier"
PLAINLY_ONNX: dict[str, Callable[[], onnx.ModelProto]] = {
    "no trees": models.mlp,
    "an aggregate of its own": lambda: proto(R, drawn(0, R, aggregate_function="MAX")),
    "a transform of its own": lambda: proto(R, drawn(0, R, post_transform="PROBIT")),
    "a transform that ONNX Runtime takes for another": lambda: proto(
        "TreeEnsemble", newest("float32", post_transform=1), opset=5
    ),
    "equality with fractions": lambda: proto(R, drawn(0, R, modes=("BRANCH_EQ",))),
    "inequality": lambda: proto(R, drawn(0, R, modes=("BRANCH_NEQ",))),
    "an empty ensemble": lambda: proto(R, {"n_targets": 1}),
    "shared nodes": lambda: proto(R, _changed("nodes_truenodeids", 0, 2)),
    "two base values of one score": lambda: proto(C, drawn(0, C, outputs=2, base=2)),
    "classes by chance": lambda: proto(C, drawn(0, C, outputs=2, ids=(0, 1))),
    "a node after it": lambda: proto(R, drawn(0, R), helper.make_node("Tanh", ["scores"], ["y"])),
    "a factor after it": lambda: proto(R, drawn(0, R), helper.make_node("Mul", ["scores", "factor"], ["y"])),
    "across rows": lambda: proto(R, drawn(0, R), helper.make_node("Softmax", ["scores"], ["y"], axis=0)),
}


@pytest.mark.parametrize("kind", PLAINLY_ONNX)
def test_what_is_more_than_a_forest_is_a_plain_onnx_model(tmp_path: Path, kind: str) -> None:
    onnx.save(PLAINLY_ONNX[kind](), tmp_path / "model.onnx")
    assert formats.open(tmp_path / "model.onnx").format == ONNX
    assert formats.open(PLAINLY_ONNX[kind]()).format == ONNX


def _changed(name: str, place: int, value: object) -> dict[str, Any]:
    found = drawn(0, R)
    return found | {name: [*found[name][:place], value, *found[name][place + 1 :]]}


BROKEN: dict[str, Callable[[], dict[str, Any]]] = {
    "a cycle": lambda: _changed("nodes_truenodeids", 0, 0),

    "a child that is none": lambda: _changed("nodes_truenodeids", 0, 99),
    "a child below zero": lambda: _changed("nodes_falsenodeids", 0, -1),
    "an id twice": lambda: _changed("nodes_nodeids", 1, 0),
    "a tree in two parts": lambda: _changed("nodes_treeids", 3, 2),
    "a huge id": lambda: _changed("nodes_treeids", 0, 1 << 40),
    "a column that is none": lambda: _changed("nodes_featureids", 0, FEATURES),
    "a column beyond measure": lambda: _changed("nodes_featureids", 0, 1 << 32),
    "a column below zero": lambda: _changed("nodes_featureids", 0, -1),
    "an unknown comparison": lambda: _changed("nodes_modes", 0, "BRANCH_MAYBE"),
    "a threshold of NaN": lambda: _changed("nodes_values", 0, float("nan")),
    "an infinite weight": lambda: _changed("target_weights", 0, float("inf")),
    "a weight of no leaf": lambda: _changed("target_nodeids", 0, 99),
    "an output that is none": lambda: _changed("target_ids", 0, 7),
    "a list cut off": lambda: drawn(0, R) | {"nodes_values": [1.0]},
    "weights cut off": lambda: drawn(0, R) | {"target_weights": [1.0]},
    "no children": lambda: {k: v for k, v in drawn(0, R).items() if k != "nodes_truenodeids"},
    "base values that fit nothing": lambda: drawn(0, R, base=3),
    "outputs beyond measure": lambda: drawn(0, R) | {"n_targets": 1 << 40},
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_trees_are_a_named_error(tmp_path: Path, kind: str) -> None:
    onnx.save(proto(R, BROKEN[kind]()), tmp_path / "model.onnx")
    with pytest.raises(UnsupportedModel) as refusal:
        formats.open(tmp_path / "model.onnx")
    assert "broken" in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("nodes_truenodeids", [1, 9, 3]), ("nodes_truenodeids", [0, 0, 3]), ("nodes_falsenodeids", [9, 1, 3]),
     ("tree_roots", [0, 3]), ("leaf_targetids", [0, 1, 0, 2]), ("leaf_targetids", [0])],
)  # fmt: skip
def test_broken_trees_of_the_newest_operator_too(name: str, value: list[int]) -> None:
    with pytest.raises(UnsupportedModel, match="broken"):
        formats.open(proto("TreeEnsemble", newest("float32", **{name: value}), opset=5))


class TestOnnxTrees(FormatCase):
    format: ClassVar[ModelFormat] = OnnxTreesFormat()

    def example(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        onnx.save(proto(C, drawn(0, C, outputs=2, post_transform="LOGISTIC")), folder / "model.onnx")
        return folder / "model.onnx"

    def broken(self, folder: Path) -> Path:
        path = self.example(folder)
        path.write_bytes(path.read_bytes()[:600])
        return path

    def test_labels_are_left_out(self, tmp_path: Path) -> None:
        model = self.format.open(self.example(tmp_path))
        assert [str(tensor) for tensor in model.signature.inputs] == ["rows: float32[N, 4]"]
        assert [str(tensor) for tensor in model.signature.outputs] == ["scores: float32[N, 2]"]
        assert dict(model.counts) == {"trees": 6, "leaves": 60, "depth": model.counts["depth"], "features": 4}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("missing", [False, True])
def test_chains_of_categories_become_subsets(tmp_path: Path, missing: bool) -> None:
    lightgbm, onnxmltools = pytest.importorskip("lightgbm"), pytest.importorskip("onnxmltools")
    from onnxmltools.convert.common.data_types import FloatTensorType

    rng = RNG(6)
    x = rng.normal(size=(600, FEATURES)).astype(np.float32)
    x[:, 2] = rng.integers(0, 40, 600)
    y = (x[:, 2] % 3 == 1) + x[:, 0]
    if missing:
        x[rng.random(600) < 0.1, 2] = np.nan
    settings = {"n_estimators": 5, "verbose": -1, "n_jobs": 1, "min_data_per_group": 1, "cat_smooth": 1}
    model = lightgbm.LGBMRegressor(**settings).fit(x, y, categorical_feature=[2])
    made = onnxmltools.convert_lightgbm(model, initial_types=[("input", FloatTensorType([None, FEATURES]))])
    odd = [-1, 40, 77, -np.inf, np.inf, np.nan, -0.0]
    rows = np.concatenate([x, x[:100]])
    rows[600:, 2] = rng.choice(odd, 100)
    forest = agrees(made, tmp_path, rows=rows)
    assert np.diff(forest.member_ends, prepend=0).max() > 3


def _table(rows: int = 200) -> tuple[Array, Array]:
    x = RNG(1).normal(size=(rows, FEATURES)).astype(np.float32)
    return x, x[:, 0] * x[:, 1] + x[:, 2]


def _converted(model: Any, y: Array, *, missing: bool = True, zipmap: bool = False) -> onnx.ModelProto:
    """A model fitted, and converted by the library that does so."""
    x = _table()[0]
    if missing:
        x = np.where(RNG(2).random(x.shape) < 0.1, np.float32(np.nan), x)
    model.fit(x, y)
    library = type(model).__module__.split(".")[0]
    if library == "sklearn":
        skl2onnx = pytest.importorskip("skl2onnx")
        options = {id(model): {"zipmap": zipmap}} if hasattr(model, "predict_proba") else None
        return skl2onnx.to_onnx(model, x[:1], options=options, target_opset={"": 18, "ai.onnx.ml": 3})
    onnxmltools = pytest.importorskip("onnxmltools")
    from onnxmltools.convert.common.data_types import FloatTensorType

    kinds = [("input", FloatTensorType([None, FEATURES]))]
    if library == "xgboost":
        return onnxmltools.convert_xgboost(model, initial_types=kinds)
    return onnxmltools.convert_lightgbm(model, initial_types=kinds, zipmap=zipmap)


Y = _table()[1]
TWO, THREE = (Y > 0).astype(int), np.digitize(Y, [-0.5, 0.5])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "y", "settings"),
    [
        ("lightgbm.LGBMClassifier", TWO, {}), ("lightgbm.LGBMClassifier", THREE, {}),
        ("lightgbm.LGBMRegressor", Y, {}), ("lightgbm.LGBMRegressor", np.exp(Y), {"objective": "poisson"}),
        ("xgboost.XGBClassifier", TWO, {}), ("xgboost.XGBClassifier", THREE, {}), ("xgboost.XGBRegressor", Y, {}),
        ("xgboost.XGBRegressor", np.exp(Y), {"objective": "count:poisson"}),
        *((f"sklearn.ensemble.{kind}Classifier", y, {})
          for kind in ("RandomForest", "GradientBoosting", "HistGradientBoosting") for y in (TWO, THREE)),
        *((f"sklearn.ensemble.{kind}Regressor", Y, {})
          for kind in ("RandomForest", "GradientBoosting", "HistGradientBoosting")),
    ],
    ids=lambda value: value.rpartition(".")[2] if isinstance(value, str) else None,
)  # fmt: skip
def test_what_converters_write(tmp_path: Path, name: str, y: Array, settings: dict[str, Any]) -> None:
    room, _, kind = name.rpartition(".")
    rounds = "max_iter" if kind.startswith("Hist") else "n_estimators"
    quiet = {"verbose": -1} if room == "lightgbm" else {}
    if not kind.startswith(("Gradient", "Hist")):
        quiet["n_jobs"] = 1
    model = getattr(pytest.importorskip(room), kind)(**{rounds: 4}, **quiet, **settings)
    agrees(_converted(model, y, missing=not kind.startswith("Gradient")), tmp_path, rows=_rows(kind))


def _rows(kind: str) -> Array:
    x = RNG(3).normal(size=(300, FEATURES)).astype(np.float32)
    return x if kind.startswith("Gradient") else np.where(RNG(4).random(x.shape) < 0.1, np.float32(np.nan), x)


@pytest.mark.filterwarnings("ignore")
def test_maps_of_classes_become_numbers(tmp_path: Path) -> None:
    lightgbm = pytest.importorskip("lightgbm")
    settings: dict[str, Any] = {"n_estimators": 4, "verbose": -1, "n_jobs": 1}
    maps, numbers = (_converted(lightgbm.LGBMClassifier(**settings), THREE, zipmap=zipmap) for zipmap in (True, False))
    assert maps.graph.output[1].type.HasField("sequence_type")
    opened: list[Model] = [formats.open(made) for made in (maps, numbers)]
    assert [str(t) for t in opened[0].signature.outputs] == [str(t) for t in opened[1].signature.outputs]
    for place, made in enumerate((maps, numbers)):
        agrees(made, tmp_path / str(place), rows=_rows(""))
