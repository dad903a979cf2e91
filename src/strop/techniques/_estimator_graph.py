"""Estimators of scikit-learn in ONNX's own operators, so that every runtime and quantizer of ONNX takes them.

Numbers come as float64. They are centered in it, where they can be, and computed with in the dtype of the graph. What
scales, projects or selects columns is folded into the weights of what follows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ._graph import Graph
from ._kernels import Array, Expansion


@dataclass(frozen=True)
class Columns:
    """A matrix on its way: what is done to each column, of which only what it begins with is written so far.

    Attributes:
        name: In the graph.
        dtype: Of that: `float64`, or `float32`.
        center, scale: [features], what it comes to: `(name - center) * scale`.
        moves: The same, as scikit-learn does it: one operator of ONNX after the other, with its numbers [features].
        flat: Whether it is a column of a frame: [samples].
    """

    name: str
    dtype: str
    center: Array
    scale: Array
    moves: tuple[tuple[str, Array], ...] = ()
    flat: bool = False

    @classmethod
    def plain(cls, name: str, dtype: str, features: int) -> Columns:
        return cls(name, dtype, np.zeros(features), np.ones(features))

    def moved(self, *moves: tuple[str, Array | None]) -> Columns:
        """Moved further; what comes without numbers is not done."""
        center, scale, done = self.center, self.scale, self.moves
        for operator, values in moves:
            if values is not None:
                center = center + _SIGN.get(operator, 0.0) * values / scale
                scale = scale * values if operator == "Mul" else scale / values if operator == "Div" else scale
                done = (*done, (operator, np.asarray(values, np.float64)))
        return replace(self, center=center, scale=scale, moves=done)

    def selected(self, graph: Graph, kept: Array) -> Columns:
        """Some of the columns."""
        at = graph.add("Gather", self.name, graph.array(kept, "int64"), axis=1)
        moves = tuple((operator, values[kept]) for operator, values in self.moves)
        return Columns(at, self.dtype, self.center[kept], self.scale[kept], moves)

    def centered(self, graph: Graph) -> str:
        """Written in the graph's dtype, but for its scale."""
        name = self.name
        if self.center.any():
            name = graph.add("Sub", name, graph.array(self.center, self.dtype))
        return graph.cast(name, self.dtype, graph.dtype)

    def times(self, graph: Graph, weights: Array, offset: Array | None = None) -> str:
        """`x @ weights + offset`, written."""
        if graph.dtype == "float64":
            return affine(graph, self.whole(graph), weights, offset)
        return affine(graph, self.centered(graph), self.scale[:, None] * weights, offset)

    def exact(self, graph: Graph, dtype: str) -> str:
        """Written as scikit-learn has it, for what compares numbers: not folded, and rounded once, at the end."""
        name = self.name
        for operator, values in self.moves:
            name = graph.add(operator, name, graph.array(values, self.dtype))
        return graph.cast(name, self.dtype, dtype)

    def whole(self, graph: Graph) -> str:
        """Written in the graph's dtype; where that is float64, as scikit-learn has it."""
        if graph.dtype == "float64":
            return self.exact(graph, "float64")
        name = self.centered(graph)
        return name if (self.scale == 1).all() else graph.add("Mul", name, graph.array(self.scale, graph.dtype))


_SIGN = {"Sub": 1.0, "Add": -1.0}  # what such a move does to the center


def affine(graph: Graph, name: str, weights: Array, offset: Array | None = None) -> str:
    found = graph.add("MatMul", name, graph.array(weights, graph.dtype))
    if offset is None or not np.any(offset):
        return found
    return graph.add("Add", found, graph.array(offset, graph.dtype))


def expanded(graph: Graph, x: Columns, sums: Expansion) -> str:
    """Sums of a kernel's values, written: two products, and what the kernel is between them."""
    if sums.kernel == "linear":
        return x.times(graph, sums.centers.T @ sums.weights, sums.offset)
    return affine(graph, kernel_values(graph, x, sums), sums.weights, sums.offset)


def kernel_values(graph: Graph, x: Columns, sums: Expansion) -> str:
    """A kernel at x and some centers, written: [samples, centers]."""
    if sums.kernel == "rbf":
        mean = sums.centers.mean(axis=0)  # what is near zero loses least where squares are taken apart
        at, centers = x.moved(("Sub", mean)).whole(graph), sums.centers - mean
        inner = affine(graph, at, 2 * sums.gamma * centers.T, -sums.gamma * np.square(centers).sum(axis=1))
        squares = graph.add("ReduceSum", graph.add("Mul", at, at), graph.number([1]), keepdims=1)
        exponent = graph.add("Sub", inner, graph.add("Mul", squares, graph.number(sums.gamma)))
        return graph.add("Exp", graph.add("Min", exponent, graph.number(0.0)))
    inner = affine(graph, x.whole(graph), sums.gamma * sums.centers.T, np.full(len(sums.centers), sums.coef0))
    return graph.add("Tanh", inner) if sums.kernel == "sigmoid" else graph.add(
        "Pow", inner, graph.number(sums.degree))  # fmt: skip
