"""Gaussian processes that classify, in ONNX's own operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._lazy import lazy
from ._estimator_graph import Columns, affine, kernel_values
from ._graph import Graph
from ._kernels import Array, Expansion

if TYPE_CHECKING:
    from sklearn.gaussian_process import _gpc
else:
    _gpc = lazy("sklearn.gaussian_process._gpc")

NODES, MIDDLE, REACH = 10, 0.42, 0.15


def process(graph: Graph, x: Columns, last: Any) -> str:
    """The probabilities of the classes: of two by one process, of more by one for each against the rest.

    Raises:
        NotApplicable: Its kernel is of another form.
    """
    machines = getattr(last.base_estimator_, "estimators_", None) or [last.base_estimator_]
    found = [_probability(graph, x, machine) for machine in machines]
    if len(found) == 1:
        return graph.add("Concat", graph.add("Sub", graph.number(1.0), found[0]), found[0], axis=1)
    each = graph.add("Concat", *found, axis=1)
    return graph.add("Div", each, graph.add("ReduceSum", each, graph.number([1]), keepdims=1))


def _probability(graph: Graph, x: Columns, machine: Any) -> str:
    """That of the second class (Rasmussen and Williams 2006, algorithm 3.2): [samples, 1]."""
    constant, sums = Expansion.of_process(machine.kernel_, machine.X_train_)
    values = kernel_values(graph, x, sums)
    mean = affine(graph, values, constant * (machine.y_train_ - machine.pi_)[:, None])
    half = constant * np.linalg.solve(machine.L_, np.diag(machine.W_sr_)).T
    explained = affine(graph, values, half)
    explained = graph.add("ReduceSum", graph.add("Mul", explained, explained), graph.number([1]), keepdims=1)
    whole = float(machine.kernel_.diag(np.zeros((1, len(x.scale))))[0])
    variance = graph.add("Max", graph.add("Sub", graph.number(whole), explained), graph.number(0.0))
    slopes, weights = _error_functions()
    spread = graph.add(
        "Sqrt", graph.add("Add", affine(graph, variance, 2 * np.square(slopes)[None]), graph.number(1.0))
    )
    bent = graph.add("Erf", graph.add("Div", affine(graph, mean, slopes[None]), spread))
    return affine(graph, bent, weights[:, None] / 2, np.full(1, weights.sum() / 2))


def _error_functions() -> tuple[Array, Array]:
    """Slopes and weights [functions] of the error functions whose sum scikit-learn takes for a sigmoid.

    Its own five have slopes so alike, and weights in the thousands that cancel, that float32 loses 3e-4 of a
    probability. A sum is linear in them, so it is carried over to slopes further apart, by polynomial interpolation
    at Chebyshev's nodes: then it is off by 1e-5, whatever the mean and the variance.
    """
    slopes, weights = _gpc.LAMBDAS.reshape(-1), _gpc.COEFS.reshape(-1)
    nodes = MIDDLE + REACH * np.cos((2 * np.arange(NODES) + 1) / (2 * NODES) * np.pi)
    ratios = (slopes[:, None, None] - nodes) / (nodes[:, None] - nodes + np.eye(NODES))
    others = np.where(np.eye(NODES, dtype=bool), 1.0, ratios)
    return nodes, weights @ others.prod(axis=2)
