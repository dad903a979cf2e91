"""The transformers of a pipeline in ONNX's own operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from ._estimator_graph import Columns, expanded
from ._graph import KINDS, Graph
from ._kernels import Array, Expansion


def transformed(graph: Graph, x: Columns, step: Any) -> Columns | None:
    """What a step makes of a matrix; None where it is not written here."""
    name = type(step).__name__
    if name == "FunctionTransformer" and step.func is None:
        return x
    if name in _SCALERS:
        x = x.moved(*_SCALERS[name](step))
        return _clipped(graph, x, step.feature_range) if getattr(step, "clip", False) else x
    if name == "SimpleImputer" and isinstance(step.missing_values, Real):
        return _filled(graph, x, step)
    if name in ("PCA", "IncrementalPCA"):
        return _projected(graph, x, step)
    if name == "PolynomialFeatures":
        return _products(graph, x, step.powers_)
    if name == "TruncatedSVD":
        return Columns.plain(x.times(graph, step.components_.T), graph.dtype, len(step.components_))
    if name == "BernoulliRBM":
        neurons = graph.add("Sigmoid", x.times(graph, step.components_.T, step.intercept_hidden_))
        return Columns.plain(neurons, graph.dtype, len(step.components_))
    if name == "Nystroem" and step.kernel in ("rbf", "linear", "poly", "polynomial", "sigmoid"):
        gamma = 1.0 / len(x.scale) if step.gamma is None else step.gamma
        form = {"kernel": step.kernel.removesuffix("nomial"), "gamma": gamma}
        form |= {key: value for key in ("coef0", "degree") if (value := getattr(step, key)) is not None}
        if step.kernel != "rbf" and "coef0" not in form:
            form["coef0"] = 1.0
        weights = step.normalization_.T
        at = expanded(graph, x, Expansion(step.components_, weights, np.zeros(weights.shape[1]), **form))
        return Columns.plain(at, graph.dtype, weights.shape[1])
    if type(step).__module__.startswith("sklearn.feature_selection") and hasattr(step, "get_support"):
        return x.selected(graph, step.get_support(indices=True))
    return None


_SCALERS: Mapping[str, Callable[[Any], Sequence[tuple[str, Array | None]]]] = {
    "StandardScaler": lambda step: (("Sub", step.mean_ if step.with_mean else None), ("Div", step.scale_)),
    "MinMaxScaler": lambda step: (("Mul", step.scale_), ("Add", step.min_)),
    "MaxAbsScaler": lambda step: (("Div", step.scale_),),
    "RobustScaler": lambda step: (("Sub", step.center_), ("Div", step.scale_)),
}  # fmt: skip


def _projected(graph: Graph, x: Columns, step: Any) -> Columns:
    """PCA; before what compares numbers, in the order of scikit-learn's."""
    weights, count = step.components_.T, len(step.components_)
    spread = np.maximum(np.sqrt(step.explained_variance_), np.finfo(np.float64).eps) if step.whiten else None
    if graph.dtype == "float64":
        at = x.times(graph, weights)
        return Columns.plain(at, "float64", count).moved(("Sub", step.mean_ @ weights), ("Div", spread))
    at = x.moved(("Sub", step.mean_)).times(graph, weights if spread is None else weights / spread)
    return Columns.plain(at, "float32", count)


def _products(graph: Graph, x: Columns, powers: Array) -> Columns:
    """PolynomialFeatures: products of columns, of which one of ones fills those of fewer."""
    degree, ones = max(1, int(powers.sum(axis=1).max())), powers.shape[1]
    factors = [np.repeat(np.arange(ones), row) for row in powers]
    places = np.array([np.pad(row, (0, degree - len(row)), constant_values=ones) for row in factors])
    ends = graph.number([0, 0, 0, 1])
    wide = graph.add("Pad", x.whole(graph), ends, graph.number(1.0))
    at = ""
    for column in places.T[::-1]:
        factor = graph.add("Gather", wide, graph.array(column, "int64"), axis=1)
        at = graph.add("Mul", at, factor) if at else factor
    return Columns.plain(at, graph.dtype, len(powers))


def _clipped(graph: Graph, x: Columns, ends: tuple[float, float]) -> Columns:
    stored = [graph.array(np.array(end), x.dtype) for end in ends]
    return Columns.plain(graph.add("Clip", x.exact(graph, x.dtype), *stored), x.dtype, len(x.scale))


def _filled(graph: Graph, x: Columns, step: Any) -> Columns:
    """What is missing, filled in; columns that nothing is known of left out, and those that tell of gaps added."""
    at = x.exact(graph, x.dtype)
    if np.isnan(step.missing_values):
        missing = graph.add("IsNaN", at)
    else:
        missing = graph.add("Equal", at, graph.array(np.array(step.missing_values), x.dtype))
    fills = np.asarray(step.statistics_, np.float64)
    at = graph.add("Where", missing, graph.array(fills, x.dtype), at)
    filled = Columns.plain(at, x.dtype, len(fills))
    if np.isnan(fills).any():
        filled = filled.selected(graph, np.flatnonzero(~np.isnan(fills)))
    if not step.add_indicator:
        return filled
    told = graph.add("Gather", missing, graph.array(step.indicator_.features_, "int64"), axis=1)
    at = graph.add("Concat", filled.name, graph.add("Cast", told, to=KINDS[x.dtype]), axis=1)
    return Columns.plain(at, x.dtype, len(filled.scale) + len(step.indicator_.features_))
