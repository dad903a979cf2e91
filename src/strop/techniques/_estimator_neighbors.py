"""Nearest neighbours in ONNX's own operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._estimator_graph import Columns
from ._graph import Graph
from ._kernels import Array

NEIGHBORS = ("KNeighborsClassifier", "KNeighborsRegressor")
NEAR = 1e-30  # a squared distance that is none: of samples that are hit, each counts the same, and no other does


def is_euclidean(last: Any) -> bool:
    """Whether it goes by the Euclidean distance to samples that are held dense."""
    metric, power = last.effective_metric_, (last.effective_metric_params_ or {}).get("p", 2)
    euclidean = metric == "euclidean" or (metric == "minkowski" and power == 2)
    return euclidean and last.weights in ("uniform", "distance", None) and isinstance(last._fit_X, np.ndarray)


def neighbors(graph: Graph, x: Columns, last: Any) -> str:
    """The mean of what the nearest samples have; of a distance, what x alone adds to it changes no order."""
    samples = last._fit_X
    if classes := len(getattr(last, "classes_", ())):
        taught = np.eye(classes)[np.asarray(last._y).reshape(-1)]
    else:
        taught = np.asarray(last._y, np.float64).reshape(-1, 1)
    mean = samples.mean(axis=0)
    at, samples = x.moved(("Sub", mean)), samples - mean
    nearness = at.times(graph, 2 * samples.T, -np.square(samples).sum(axis=1))
    graph.add("TopK", nearness, graph.array(np.array([last.n_neighbors]), "int64"), axis=1, largest=1, sorted=0)
    top = graph.nodes[-1]
    top.output.append(f"{top.output[0]}_places")
    places = top.output[1]
    found = graph.add("Gather", graph.array(taught, "float32"), places, axis=0)
    if last.weights != "distance":
        return graph.add("ReduceMean", found, graph.number([1]), keepdims=0)
    return _weighted(graph, at, samples, places, found)


def _weighted(graph: Graph, x: Columns, samples: Array, places: str, found: str) -> str:
    """The mean by one over the distance. It is taken anew: near 0, little is left of it in products."""
    near = graph.add("Gather", graph.array(samples, "float32"), places, axis=0)
    apart = graph.add("Sub", graph.add("Unsqueeze", x.whole(graph), graph.number([1])), near)
    squares = graph.add("ReduceSum", graph.add("Mul", apart, apart), graph.number([2]), keepdims=1)
    distance = graph.add("Sqrt", graph.add("Max", squares, graph.number(NEAR)))
    weights = graph.add("Reciprocal", distance)
    total = graph.add("ReduceSum", graph.add("Mul", found, weights), graph.number([1]), keepdims=0)
    return graph.add("Div", total, graph.add("ReduceSum", weights, graph.number([1]), keepdims=0))
