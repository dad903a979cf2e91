"""Estimators of scikit-learn in ONNX's own operators, so that every runtime and quantizer of ONNX takes them.

Numbers come as float64. They are centered in it, where they can be, and computed with as float32. What scales, projects
or selects columns is folded into the weights of what follows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from ..errors import NotApplicable
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
    if sums.kernel == "rbf":
        mean = sums.centers.mean(axis=0)  # what is near zero loses least where squares are taken apart
        at, centers = x.moved(mean, np.ones(len(mean))).whole(graph), sums.centers - mean
        inner = affine(graph, at, 2 * sums.gamma * centers.T, -sums.gamma * np.square(centers).sum(axis=1))
        squares = graph.add("ReduceSum", graph.add("Mul", at, at), graph.number([1]), keepdims=1)
        exponent = graph.add("Sub", inner, graph.add("Mul", squares, graph.number(sums.gamma)))
        values = graph.add("Exp", graph.add("Min", exponent, graph.number(0.0)))
    else:
        inner = affine(graph, x.whole(graph), sums.gamma * sums.centers.T, np.full(len(sums.centers), sums.coef0))
        values = graph.add("Tanh", inner) if sums.kernel == "sigmoid" else graph.add(
            "Pow", inner, graph.number(sums.degree))  # fmt: skip
    return affine(graph, values, sums.weights, sums.offset)


def answered(graph: Graph, x: Columns, last: Any, output: str) -> str | None:
    """What the last step gives, float32 [samples, outputs]; None where it is not written here."""
    name = type(last).__name__
    if (output, name) in _LINEAR or (output == "prediction" and _is_linear_regressor(last)):
        return _linear(graph, x, last, output)
    if name in ("MLPClassifier", "MLPRegressor"):
        return _network(graph, x, last)
    if output != "probability" and (hasattr(last, "support_vectors_") or name in _EXPANSIONS):
        try:
            sums = Expansion.of(last)
        except NotApplicable:
            return None
        return _decided(graph, x, sums, len(getattr(last, "classes_", ())))
    if name in ("KNeighborsClassifier", "KNeighborsRegressor") and _plain_neighbors(last):
        return _neighbors(graph, x, last)
    return None


_EXPANSIONS = ("KernelRidge", "GaussianProcessRegressor")
_LINEAR = {
    *(("probability", name) for name in ("LogisticRegression", "LogisticRegressionCV", "LinearDiscriminantAnalysis")),
    *(("decision", name) for name in (
        "LinearSVC", "Perceptron", "RidgeClassifier", "RidgeClassifierCV", "SGDClassifier")),
}  # fmt: skip


def _is_linear_regressor(last: Any) -> bool:
    return any(base.__name__ == "LinearModel" for base in type(last).__mro__)


def _linear(graph: Graph, x: Columns, last: Any, output: str) -> str:
    weights = np.atleast_2d(np.asarray(last.coef_, np.float64)).T
    offset = np.broadcast_to(np.asarray(last.intercept_, np.float64).reshape(-1), weights.shape[1])
    if output != "probability":
        return x.times(graph, weights, offset)
    return _probabilities(graph, weights, offset, lambda weights, offset: x.times(graph, weights, offset))


def _probabilities(
    graph: Graph, weights: Array, offset: Array, written: Callable[[Array, Array], str]
) -> str:  # fmt: skip
    """Of two classes, both by a sigmoid of their own: 1 - p would lose what is left of a small one."""
    if weights.shape[1] > 1:
        return graph.add("Softmax", written(weights, offset), axis=1)
    return graph.add("Sigmoid", written(np.hstack([-weights, weights]), np.hstack([-offset, offset])))


_ACTIVATIONS = {"identity": None, "tanh": "Tanh", "logistic": "Sigmoid", "relu": "Relu"}


def _network(graph: Graph, x: Columns, last: Any) -> str:
    """A multi-layer perceptron."""
    layers = list(zip(last.coefs_, last.intercepts_, strict=True))
    at = ""

    def written(weights: Array, offset: Array) -> str:
        return affine(graph, at, weights, offset) if at else x.times(graph, weights, offset)

    for weights, offset in layers[:-1]:
        at = written(weights, offset)
        if operator := _ACTIVATIONS[last.activation]:
            at = graph.add(operator, at)
    if last.out_activation_ == "identity":
        return written(*layers[-1])
    return _probabilities(graph, *layers[-1], written)


def _decided(graph: Graph, x: Columns, sums: Expansion, classes: int) -> str:
    """Decision values of a kernel machine: those of pairs of classes become votes, as scikit-learn counts them."""
    if classes == 2:
        sums = replace(sums, weights=-sums.weights, offset=-sums.offset)  # libsvm's are positive for the first class
    at = expanded(graph, x, sums)
    if classes <= 2:
        return at
    pairs = list(combinations(range(classes), 2))
    sides = np.zeros((len(pairs), classes))
    for place, (first, second) in enumerate(pairs):
        sides[place, first], sides[place, second] = 1, -1
    # a sample votes for the first where it is not below zero: one half, plus or less one half for either
    positive = graph.add("Cast", graph.add("GreaterOrEqual", at, graph.number(0.0)), to=FLOAT)
    votes = affine(graph, positive, sides, (sides < 0).sum(axis=0))
    trust = affine(graph, at, sides)
    bounded = graph.add("Add", graph.add("Mul", graph.add("Abs", trust), graph.number(3.0)), graph.number(3.0))
    return graph.add("Add", votes, graph.add("Div", trust, bounded))


def _plain_neighbors(last: Any) -> bool:
    metric, power = last.effective_metric_, (last.effective_metric_params_ or {}).get("p", 2)
    euclidean = metric == "euclidean" or (metric == "minkowski" and power == 2)
    return euclidean and last.weights == "uniform" and isinstance(last._fit_X, np.ndarray)


def _neighbors(graph: Graph, x: Columns, last: Any) -> str:
    """The mean of what the nearest samples have; of a distance, what x alone adds to it changes no order."""
    samples = last._fit_X
    if classes := len(getattr(last, "classes_", ())):
        taught = np.eye(classes)[np.asarray(last._y).reshape(-1)]
    else:
        taught = np.asarray(last._y, np.float64).reshape(-1, 1)
    mean = samples.mean(axis=0)
    at, samples = x.moved(mean, np.ones(len(mean))), samples - mean
    nearness = at.times(graph, 2 * samples.T, -np.square(samples).sum(axis=1))
    graph.add("TopK", nearness, graph.array(np.array([last.n_neighbors]), "int64"), axis=1, largest=1, sorted=0)
    top = graph.nodes[-1]
    top.output.append(f"{top.output[0]}_places")
    found = graph.add("Gather", graph.array(taught, "float32"), top.output[1], axis=0)
    return graph.add("ReduceMean", found, graph.number([1]), keepdims=0)
