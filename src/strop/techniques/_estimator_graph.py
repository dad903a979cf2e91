"""Estimators of scikit-learn in ONNX's own operators, so that every runtime and quantizer of ONNX takes them.

Numbers come as float64. They are centered in it, where they can be, and computed with as float32. What scales, projects
or selects columns is folded into the weights of what follows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ._graph import Graph
from ._kernels import Array, Expansion

FLOAT, DOUBLE = 1, 11  # of onnx.TensorProto


@dataclass(frozen=True)
class Columns:
    """A matrix on its way: `(name - center) * scale`, of which only the name is written so far.

    Attributes:
        name: In the graph.
        double: Whether that is float64.
        center, scale: [features].
    """

    name: str
    double: bool
    center: Array
    scale: Array

    @classmethod
    def plain(cls, name: str, double: bool, features: int) -> Columns:
        return cls(name, double, np.zeros(features), np.ones(features))

    def moved(self, shift: Array, factor: Array) -> Columns:
        """`(x - shift) * factor` of it."""
        return replace(self, center=self.center + shift / self.scale, scale=self.scale * factor)

    def centered(self, graph: Graph) -> str:
        """Written as float32, but for its scale."""
        name = self.name
        if self.center.any():
            name = graph.add("Sub", name, graph.array(self.center, "float64" if self.double else "float32"))
        return graph.add("Cast", name, to=FLOAT) if self.double else name

    def times(self, graph: Graph, weights: Array, offset: Array | None = None) -> str:
        """`x @ weights + offset`, written."""
        return affine(graph, self.centered(graph), self.scale[:, None] * weights, offset)

    def exact(self, graph: Graph) -> str:
        """Written as scikit-learn has it where it compares numbers: rounded to float32 once, at the end."""
        dtype, name = "float64" if self.double else "float32", self.name
        for operator, values, idle in (("Sub", self.center, 0), ("Mul", self.scale, 1)):
            name = name if (values == idle).all() else graph.add(operator, name, graph.array(values, dtype))
        return graph.add("Cast", name, to=FLOAT) if self.double else name

    def whole(self, graph: Graph) -> str:
        """Written as float32."""
        name = self.centered(graph)
        return name if (self.scale == 1).all() else graph.add("Mul", name, graph.array(self.scale, "float32"))


def affine(graph: Graph, name: str, weights: Array, offset: Array | None = None) -> str:
    found = graph.add("MatMul", name, graph.array(weights, "float32"))
    if offset is None or not np.any(offset):
        return found
    return graph.add("Add", found, graph.array(offset, "float32"))


def transformed(graph: Graph, x: Columns, step: Any) -> Columns | None:
    """What a step makes of a matrix; None where it is not written here."""
    name = type(step).__name__
    if name in _SCALERS and not getattr(step, "clip", False):
        return x.moved(*_SCALERS[name](step, len(x.scale)))
    if name == "PCA":
        spread = np.sqrt(step.explained_variance_) if step.whiten else 1.0
        at = x.moved(step.mean_, np.ones(len(x.scale))).times(graph, step.components_.T / spread)
        return Columns.plain(at, False, len(step.components_))
    if name == "TruncatedSVD":
        return Columns.plain(x.times(graph, step.components_.T), False, len(step.components_))
    if name == "BernoulliRBM":
        neurons = graph.add("Sigmoid", x.times(graph, step.components_.T, step.intercept_hidden_))
        return Columns.plain(neurons, False, len(step.components_))
    if name == "Nystroem" and step.kernel in ("rbf", "linear", "poly", "polynomial", "sigmoid"):
        gamma = 1.0 / len(x.scale) if step.gamma is None else step.gamma
        form = {"kernel": step.kernel.removesuffix("nomial"), "gamma": gamma}
        form |= {key: value for key in ("coef0", "degree") if (value := getattr(step, key)) is not None}
        if step.kernel != "rbf" and "coef0" not in form:
            form["coef0"] = 1.0
        weights = step.normalization_.T
        at = expanded(graph, x, Expansion(step.components_, weights, np.zeros(weights.shape[1]), **form))
        return Columns.plain(at, False, weights.shape[1])
    if type(step).__module__.startswith("sklearn.feature_selection") and hasattr(step, "get_support"):
        kept = step.get_support(indices=True)
        at = graph.add("Gather", x.name, graph.array(kept, "int64"), axis=1)
        return Columns(at, x.double, x.center[kept], x.scale[kept])
    return None


_SCALERS: Mapping[str, Callable[[Any, int], tuple[Array, Array]]] = {
    "StandardScaler": lambda step, n: (_or(step.mean_, n, 0.0) * step.with_mean, 1 / _or(step.scale_, n, 1.0)),
    "MinMaxScaler": lambda step, n: (-step.min_ / step.scale_, step.scale_),
    "MaxAbsScaler": lambda step, n: (np.zeros(n), 1 / step.scale_),
    "RobustScaler": lambda step, n: (_or(step.center_, n, 0.0), 1 / _or(step.scale_, n, 1.0)),
}  # fmt: skip


def _or(values: Array | None, count: int, default: float) -> Array:
    return np.full(count, default) if values is None else np.asarray(values, np.float64)


def expanded(graph: Graph, x: Columns, sums: Expansion) -> str:
    """Sums of a kernel's values, written: two products, and what the kernel is between them."""
    if sums.kernel == "linear":
        return x.times(graph, sums.centers.T @ sums.weights, sums.offset)
    return affine(graph, kernel_values(graph, x, sums), sums.weights, sums.offset)


def kernel_values(graph: Graph, x: Columns, sums: Expansion) -> str:
    """A kernel at x and some centers, written: [samples, centers]."""
    if sums.kernel == "rbf":
        mean = sums.centers.mean(axis=0)  # what is near zero loses least where squares are taken apart
        at, centers = x.moved(mean, np.ones(len(mean))).whole(graph), sums.centers - mean
        inner = affine(graph, at, 2 * sums.gamma * centers.T, -sums.gamma * np.square(centers).sum(axis=1))
        squares = graph.add("ReduceSum", graph.add("Mul", at, at), graph.number([1]), keepdims=1)
        exponent = graph.add("Sub", inner, graph.add("Mul", squares, graph.number(sums.gamma)))
        return graph.add("Exp", graph.add("Min", exponent, graph.number(0.0)))
    inner = affine(graph, x.whole(graph), sums.gamma * sums.centers.T, np.full(len(sums.centers), sums.coef0))
    return graph.add("Tanh", inner) if sums.kernel == "sigmoid" else graph.add(
        "Pow", inner, graph.number(sums.degree))  # fmt: skip
