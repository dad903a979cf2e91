"""The last step of a pipeline in ONNX's own operators: what it answers, of the matrix that comes to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from ..errors import NotApplicable, UnsupportedModel
from ..formats.sklearn import forest_of, is_ensemble, walk
from ._estimator_graph import Columns, affine, expanded
from ._estimator_neighbors import NEIGHBORS, is_euclidean, neighbors
from ._estimator_process import process
from ._forest_graph import grown
from ._graph import FLOAT, Graph
from ._kernels import Array, Expansion


def answered(graph: Graph, x: Columns, last: Any, output: str) -> str | None:
    """What the last step gives [samples, outputs]; None where it is not written here."""
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
    if name in NEIGHBORS and is_euclidean(last):
        return neighbors(graph, x, last)
    if name == "GaussianProcessClassifier":
        return process(graph, x, last)
    if is_ensemble(last):
        return _forest(graph, x, last)
    return None


def compares(last: Any) -> bool:
    """Whether it holds trees: on which side of a split a number lies, any rounding of it may decide."""
    return any(type(part).__name__ in ("Tree", "TreePredictor") for part in walk(last))


def check(last: Any) -> None:
    """Refuse what skl2onnx would write, and answer otherwise.

    Raises:
        NotApplicable: It is such a last step.
    """
    if type(last).__name__ in NEIGHBORS and last.weights == "distance" and not is_euclidean(last):
        kind = "sparse samples" if hasattr(last._fit_X, "tocsr") else f"the metric {last.effective_metric_}"
        raise NotApplicable(f"neighbours that are weighted by distance need Euclidean ones to be ONNX, not {kind}")


def _forest(graph: Graph, x: Columns, last: Any) -> str:
    """An ensemble of trees, which compares what it takes as float32, or as float64 where its thresholds are that."""
    try:
        forest = forest_of(last)
    except UnsupportedModel as error:
        raise NotApplicable(str(error)) from error
    forest, at = replace(forest, sums=forest.dtype), x.exact(graph, forest.dtype)
    if forest.link != "probabilities" or forest.outputs != 2:
        return grown(graph, at, forest)
    second = grown(graph, at, replace(forest, values=forest.values[:, 1:], base=forest.base[1:], link="identity"))
    return graph.add("Concat", graph.add("Sub", graph.number(1.0), second), second, axis=1)


_EXPANSIONS = ("KernelRidge", "GaussianProcessRegressor")
_LINEAR = {
    *(("probability", name) for name in ("LogisticRegression", "LogisticRegressionCV", "LinearDiscriminantAnalysis")),
    *(("decision", name) for name in (
        "LinearSVC", "Perceptron", "RidgeClassifier", "RidgeClassifierCV", "SGDClassifier", "SGDOneClassSVM")),
    ("probability", "SGDClassifier"),
}  # fmt: skip


def _is_linear_regressor(last: Any) -> bool:
    return any(base.__name__ == "LinearModel" for base in type(last).__mro__)


def _linear(graph: Graph, x: Columns, last: Any, output: str) -> str:
    weights = np.atleast_2d(np.asarray(last.coef_, np.float64)).T
    added = -last.offset_ if type(last).__name__ == "SGDOneClassSVM" else last.intercept_
    offset = np.broadcast_to(np.asarray(added, np.float64).reshape(-1), weights.shape[1])
    if output != "probability":
        return x.times(graph, weights, offset)
    if type(last).__name__ == "SGDClassifier" and (weights.shape[1] > 1 or last.loss == "modified_huber"):
        return _one_against_rest(graph, x.times(graph, weights, offset), weights.shape[1], last.loss)
    return _probabilities(graph, weights, offset, lambda weights, offset: x.times(graph, weights, offset))


def _probabilities(
    graph: Graph, weights: Array, offset: Array, written: Callable[[Array, Array], str]
) -> str:  # fmt: skip
    """Of two classes, both by a sigmoid of their own: 1 - p would lose what is left of a small one."""
    if weights.shape[1] > 1:
        return graph.add("Softmax", written(weights, offset), axis=1)
    return graph.add("Sigmoid", written(np.hstack([-weights, weights]), np.hstack([-offset, offset])))


def _one_against_rest(graph: Graph, scores: str, classes: int, loss: str) -> str:
    """Each class's own probability over the sum of all (Zadrozny and Elkan 2002); where that is 0, all are alike."""
    alike = graph.number(1 / classes)
    if loss == "modified_huber":
        own = graph.add("Clip", graph.add("Add", graph.add("Mul", scores, graph.number(0.5)), graph.number(0.5)),
                        graph.number(0.0), graph.number(1.0))  # fmt: skip
        if classes == 1:
            return graph.add("Concat", graph.add("Sub", graph.number(1.0), own), own, axis=1)
        total = graph.add("ReduceSum", own, graph.number([1]), keepdims=1)
        return graph.add("Where", graph.add("Equal", total, graph.number(0.0)), alike, graph.add("Div", own, total))
    logs = graph.add("Neg", graph.add("Softplus", graph.add("Neg", scores)))  # float32 would lose them as they are
    most = graph.add("ReduceMax", scores, graph.number([1]), keepdims=1)
    lost = graph.add("Less", most, graph.number(-float(np.log(np.finfo(np.float64).max))))  # scikit-learn has 0 there
    return graph.add("Where", lost, alike, graph.add("Softmax", logs, axis=1))


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
