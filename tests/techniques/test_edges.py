"""Trees behind pre-processing, as ONNX: what lies on the edge of a split falls on the side it does in scikit-learn.

In real data many do: values are whole numbers, or of a few digits, so that the middle between two of them, where a tree
splits, is a third. Scaled, it is on either side by a rounding.
"""

from __future__ import annotations

import functools
from contextlib import nullcontext as nothing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import (
    compose,
    datasets,
    decomposition,
    ensemble,
    feature_selection,
    impute,
    linear_model,
    pipeline,
    preprocessing,
    tree,
)  # fmt: skip

from estimators import as_onnx, matrix, own
from strop import formats
from strop.data import Data
from strop.errors import NotApplicable

pytest.importorskip("skl2onnx")
Array = np.ndarray[Any, Any]
Pipe = pipeline.make_pipeline
TREES = [
    ensemble.RandomForestClassifier(20, random_state=0), ensemble.HistGradientBoostingClassifier(max_iter=20),
    ensemble.ExtraTreesClassifier(20, random_state=0), ensemble.RandomForestRegressor(20, random_state=0),
    ensemble.GradientBoostingClassifier(n_estimators=20, random_state=0), tree.DecisionTreeClassifier(random_state=0),
    ensemble.AdaBoostClassifier(tree.DecisionTreeClassifier(max_depth=4), n_estimators=10, random_state=0),
    ensemble.BaggingClassifier(n_estimators=10, random_state=0),
]  # fmt: skip
NUMBERS = [
    preprocessing.StandardScaler(), preprocessing.MinMaxScaler(), preprocessing.RobustScaler(),
    preprocessing.MaxAbsScaler(), Pipe(impute.SimpleImputer(), preprocessing.StandardScaler()),
    Pipe(impute.SimpleImputer(strategy="median"), preprocessing.StandardScaler(), decomposition.PCA(4)),
]  # fmt: skip


WORDS = ["sex", "age group"]


@functools.cache
def patients() -> tuple[pd.DataFrame, Array]:
    """Of the diabetes study: whole numbers and decimals, two columns of text, one of which has a space in its name."""
    given = datasets.load_diabetes(as_frame=True, scaled=False)
    x = given.data.astype(np.float64)
    x["sex"] = np.where(x["sex"] > 1, "female", "male")
    x["age group"] = np.array(["young", "old", "older"])[np.digitize(x["age"], [40, 60])]
    return x, np.asarray(given.target)


def named(kind: Any) -> str:
    return "-".join(type(step).__name__ for _, step in getattr(kind, "steps", [("", kind)]))


def labelled(trees: Any) -> tuple[pd.DataFrame, Array]:
    x, target = patients()
    return x, target if "Regressor" in named(trees) else np.digitize(target, [100, 180])


def with_gaps(x: pd.DataFrame) -> pd.DataFrame:
    return x.mask((np.arange(x.size).reshape(x.shape) % 13 == 0) & ~x.columns.isin(WORDS))


def columns(x: pd.DataFrame) -> Data:
    return Data({name: x[name].to_numpy().astype(str if name in WORDS else np.float64) for name in x})


def beside_words(x: pd.DataFrame, numbers: Any) -> Any:
    kinds = preprocessing.OneHotEncoder(handle_unknown="ignore")
    return compose.ColumnTransformer([("n", numbers, x.columns.drop(WORDS).tolist()), ("w", kinds, WORDS)])


PAIRS = [(numbers, trees) for numbers in NUMBERS for trees in TREES if numbers is NUMBERS[-2] or trees in TREES[:2]]


@pytest.mark.parametrize("form", ["frame", "matrix"])
@pytest.mark.parametrize(("numbers", "trees"), PAIRS, ids=named)
def test_none_falls_on_the_other_side(numbers: Any, trees: Any, form: str, tmp_path: Path) -> None:
    x, y = labelled(trees)
    if "Imputer" in named(numbers):
        x = with_gaps(x)
    if form == "frame":
        numbers, data = beside_words(x, numbers), columns(x)
    else:
        x = x.drop(columns=WORDS).to_numpy()
        data = matrix(x)
    estimator = Pipe(numbers, trees).fit(x[:200], y[:200])
    model, found = as_onnx(estimator, data, tmp_path)
    expected = own(estimator, x)
    np.testing.assert_allclose(found, expected, atol=1e-6 * expected.max(), strict=True)
    assert "edge" not in model.notes[0]


OTHERS = [
    Pipe(preprocessing.MinMaxScaler((-2, 3), clip=True)),
    Pipe(preprocessing.StandardScaler(), preprocessing.PolynomialFeatures(3), preprocessing.StandardScaler()),
    Pipe(preprocessing.PolynomialFeatures(2, interaction_only=True, include_bias=False), preprocessing.RobustScaler()),
    Pipe(preprocessing.StandardScaler(), preprocessing.KBinsDiscretizer(encode="ordinal", strategy="uniform")),
    Pipe(preprocessing.StandardScaler(), feature_selection.SelectKBest(k=4), preprocessing.MinMaxScaler()),
    Pipe(impute.SimpleImputer(), decomposition.IncrementalPCA(3, whiten=True)),
    Pipe(pipeline.FeatureUnion([("s", preprocessing.StandardScaler()), ("p", decomposition.PCA(2))])),
    Pipe(preprocessing.FunctionTransformer(), preprocessing.MaxAbsScaler()),
]  # fmt: skip


@pytest.mark.parametrize("trees", TREES[:2], ids=named)
@pytest.mark.parametrize("numbers", OTHERS, ids=named)
def test_what_else_may_stand_before_trees(numbers: Any, trees: Any, tmp_path: Path) -> None:
    x, y = labelled(trees)
    x = x.drop(columns=WORDS).to_numpy()
    estimator = Pipe(*(step for _, step in numbers.steps), trees).fit(x[:200], y[:200])
    _, found = as_onnx(estimator, matrix(np.vstack([x, -x[:20], 3 * x[:20]])), tmp_path)
    np.testing.assert_allclose(found[: len(x)], own(estimator, x), atol=1e-6, strict=True)


@pytest.mark.parametrize("trees", TREES[:2], ids=named)
@pytest.mark.parametrize(
    "numbers",
    ["passthrough", preprocessing.StandardScaler(), impute.SimpleImputer(add_indicator=True),
     impute.SimpleImputer(missing_values=101.0, strategy="median")],
    ids=str,
)  # fmt: skip
def test_gaps_are_filled_told_of_or_left_to_the_trees(numbers: Any, trees: Any, tmp_path: Path) -> None:
    x, y = labelled(trees)
    if known := "101" not in str(numbers):
        x = with_gaps(x)
    if empty := getattr(numbers, "add_indicator", False):
        x.loc[:200, "bp"] = np.nan
    assert x.isna().any(axis=None) == known
    with pytest.warns(UserWarning, match="without any observed") if empty else nothing():
        estimator = Pipe(beside_words(x, numbers), trees).fit(x[:200], y[:200])
        expected = own(estimator, x)
    _, found = as_onnx(estimator, columns(x), tmp_path)
    np.testing.assert_allclose(found, expected, atol=1e-6, strict=True)


def test_categories_that_trees_know_of(tmp_path: Path) -> None:
    """Columns that nothing looks at lie between the others, and one part is of text and numbers."""
    x, y = labelled(TREES[1])
    x = x.assign(half=x["age"] // 2).drop(columns="s1").loc[:, ["s2", "sex", "half", "s3", "age group", "bmi", "bp"]]
    codes = preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    front = compose.ColumnTransformer(
        [("codes", codes, [1, 4]), ("mixed", preprocessing.OneHotEncoder(handle_unknown="ignore"), ["half", "sex"]),
         ("s", preprocessing.StandardScaler(), [5, 6])],
        transformer_weights={"s": 0.3}, sparse_threshold=0,
    )  # fmt: skip
    trees = ensemble.HistGradientBoostingClassifier(max_iter=20, categorical_features=[0, 1])
    estimator = Pipe(front, trees).fit(x[:200], y[:200])
    _, found = as_onnx(estimator, columns(x.drop(columns=["s2", "s3"])), tmp_path)
    np.testing.assert_allclose(found, estimator.predict_proba(x), atol=1e-6, strict=True)


def test_text_that_is_let_through_to_numbers_is_refused(tmp_path: Path) -> None:
    x, y = labelled(TREES[0])
    text = impute.SimpleImputer(missing_values="", strategy="most_frequent")
    front = compose.ColumnTransformer([("n", "passthrough", ["age"]), ("w", text, ["sex"])])
    x = x[["age", "sex"]]
    estimator = Pipe(front, preprocessing.OneHotEncoder(handle_unknown="ignore"), TREES[0]).fit(x[:200], y[:200])
    with pytest.raises(NotApplicable, match="'w' of a ColumnTransformer lets text through"):
        as_onnx(estimator, columns(x), tmp_path)


@pytest.mark.parametrize("last", [linear_model.LogisticRegression(), TREES[0]], ids=named)
def test_float64_is_for_what_compares_numbers(last: Any, tmp_path: Path) -> None:
    x, y = labelled(last)
    numbers = Pipe(impute.SimpleImputer(), preprocessing.StandardScaler(), decomposition.PCA(4))
    estimator = Pipe(beside_words(x, numbers), last).fit(x[:200], y[:200])
    model, _ = as_onnx(estimator, columns(x), tmp_path)
    graph = formats.onnx.graph_of(model).graph
    weights = {node.input[1] for node in graph.node if node.op_type == "MatMul"}
    kinds = {tensor.data_type for tensor in graph.initializer if tensor.name in weights}
    assert kinds == {11 if last is TREES[0] else 1}
