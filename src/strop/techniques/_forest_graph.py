"""A forest in ONNX: a tree ensemble of ai.onnx.ml, and what comes of its sums."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .._lazy import lazy
from ..errors import NotApplicable
from ..forest import ZERO, Array, Forest
from ._graph import Graph

if TYPE_CHECKING:
    import onnx
else:
    onnx = lazy("onnx")


def grown(graph: Graph, x: str, forest: Forest) -> str:
    """What a forest gives, written into a graph: [samples, outputs], of the graph's dtype.

    Args:
        x: The matrix in the graph, of the forest's dtype.

    Raises:
        NotApplicable: It has no trees, sums that float32 does not hold, or a link without a form in ONNX.
    """
    if not forest.trees:
        raise NotApplicable("the forest has no trees, and ONNX Runtime takes no empty ensemble")
    if np.abs(forest.values).max() * forest.trees + np.abs(forest.base).max() > np.finfo(np.float32).max:
        raise NotApplicable("the sums may be too large for float32, in which ONNX Runtime gives them")
    if forest.link not in _LINKS:
        raise NotApplicable(f"the link {forest.link!r} is not written in ONNX")
    wide = "float64" in (forest.dtype, forest.sums)
    dtype = "float64" if wide else "float32"
    x, ensemble = graph.cast(x, forest.dtype, dtype), _ensemble(forest.without_unused_nodes(), dtype)
    at = graph.add("TreeEnsembleRegressor", x, domain="ai.onnx.ml", **ensemble)
    at = graph.cast(at, "float32", graph.dtype)
    if forest.divisor != 1:
        at = graph.add("Div", at, graph.number(forest.divisor))
    return _LINKS[forest.link](graph, at, forest.scale)


def _sigmoid(graph: Graph, at: str, scale: float) -> str:
    return graph.add("Sigmoid", graph.add("Mul", at, graph.number(scale)) if scale != 1 else at)


def _of_two(graph: Graph, at: str, scale: float) -> str:
    second = _sigmoid(graph, at, scale)
    return graph.add("Concat", graph.add("Sub", graph.number(1), second), second, axis=1)


def _shares(graph: Graph, at: str, scale: float) -> str:
    return graph.add("Div", at, graph.add("ReduceSum", at, graph.number([1]), keepdims=1))


def _log(graph: Graph, at: str, scale: float) -> str:
    return graph.add("Log", graph.add("Add", graph.number(1), graph.add("Exp", at)))


_LINKS: Mapping[str, Callable[[Graph, str, float], str]] = {
    "identity": lambda graph, at, scale: at,
    "sigmoid": _sigmoid,
    "sigmoid of two": _of_two,
    "softmax": lambda graph, at, scale: graph.add("Softmax", at, axis=1),
    "exponential": lambda graph, at, scale: graph.add("Exp", at),
    "signed square": lambda graph, at, scale: graph.add("Mul", graph.add("Abs", at), at),
    "log of one and exponential": _log,
    "shares": _shares,
    "probabilities": lambda graph, at, scale: at,
}


def _ensemble(forest: Forest, dtype: str) -> dict[str, Any]:
    """The attributes of the operator, for a forest without unused nodes."""
    split, ends = forest.feature >= 0, np.flatnonzero(forest.feature < 0)
    nodes = {
        "treeids": forest.tree, "leaf": ~split, "featureids": np.where(split, forest.feature, 0),
        "values": np.where(split, _down(forest.threshold, dtype), 0),
        "missing_value_tracks_true": forest.nan_left & split, "truenodeids": np.where(split, forest.left, 0),
        "falsenodeids": np.where(split, forest.right, 0),
    }  # fmt: skip
    nodes = _with_chains(forest, nodes, dtype)
    order = np.argsort(nodes["treeids"], kind="stable")  # the nodes of a tree stand together, its root first
    own = np.empty(len(order), np.int64)  # the place of a node in its tree
    own[order] = np.arange(len(order)) - np.searchsorted(nodes["treeids"][order], nodes["treeids"][order])
    for name in ("truenodeids", "falsenodeids"):
        nodes[name] = np.where(nodes["leaf"], 0, own[nodes[name]])
    modes = np.where(nodes.pop("leaf")[order], "LEAF", "BRANCH_LEQ")
    each = forest.values.shape[1]
    tree = np.repeat(forest.tree[ends], each)
    whole = {
        **{f"nodes_{name}": values[order].astype(np.int64) for name, values in nodes.items() if name != "values"},
        "nodes_nodeids": own[order], "target_nodeids": np.repeat(own[ends], each), "target_treeids": tree,
        "target_ids": np.tile(np.arange(each), len(ends)) if each == forest.outputs else forest.output[tree],
    }  # fmt: skip
    numbers = {
        "nodes_values": nodes["values"][order], "target_weights": forest.values[forest.leaf[ends]].ravel(),
        "base_values": forest.base,
    }  # fmt: skip
    return {
        **{name: values.tolist() for name, values in whole.items()}, **dict(_numbers(numbers, dtype)),
        "nodes_modes": modes.tolist(), "n_targets": forest.outputs,
    }  # fmt: skip


def _numbers(given: Mapping[str, Array], dtype: str) -> Iterator[tuple[str, Any]]:
    """Numbers as the operator wants them: lists of float32, or tensors of float64."""
    for name, values in given.items():
        if dtype == "float32":
            yield name, values.astype(np.float32).tolist()
        else:
            yield f"{name}_as_tensor", onnx.numpy_helper.from_array(values.astype(np.float64), name)


def _with_chains(forest: Forest, nodes: dict[str, Array], dtype: str) -> dict[str, Array]:
    """Put `x <= end` in the place of a split that is more, and nodes behind all, until each range has its side."""
    more: dict[str, list[Any]] = {name: [] for name in nodes}
    for node in np.flatnonzero((forest.feature >= 0) & ((forest.subset >= 0) | forest.zero_missing)).tolist():
        sides = forest.left[node], forest.right[node]
        ranges = _ranges(forest, node, dtype)
        for place, (end, left) in enumerate(ranges):
            further = len(nodes["leaf"]) + len(more["leaf"]) + (place > 0)
            made = {
                "treeids": forest.tree[node], "leaf": False, "featureids": forest.feature[node], "values": end,
                "missing_value_tracks_true": left == forest.nan_left[node], "truenodeids": sides[not left],
                "falsenodeids": further if place < len(ranges) - 1 else sides[left],
            }  # fmt: skip
            for name, value in made.items():
                if place:
                    more[name].append(value)
                else:
                    nodes[name][node] = value
    return {name: np.concatenate([values, np.array(more[name], values.dtype)]) for name, values in nodes.items()}


def _ranges(forest: Forest, node: int, dtype: str) -> list[tuple[float, bool]]:
    """The values of a column, cut where they change sides: the end of each range, but for the last, and its side."""
    ends = _ends(forest, node, dtype)
    left = forest.goes_left(np.full(len(ends) + 1, node), np.append(ends, np.inf))
    turns = np.flatnonzero(left[1:] != left[:-1])
    if not len(turns):  # only NaN may go to the other side
        return [(np.inf, bool(left[0]))]
    return [*zip(ends[turns].tolist(), left[turns].tolist(), strict=True)]


def _ends(forest: Forest, node: int, dtype: str) -> Array:
    """Where the side may change: what is up to such a number, and above the one before, goes to one side."""
    found = [np.array([forest.threshold[node]])]
    if forest.subset[node] >= 0:
        members = forest.subset_of(node).astype(np.float64)
        found = [np.where(members > 0, _below(members), -1), _below(np.minimum(members + 1, 2.0**31))]
    if forest.zero_missing[node]:
        found += [_below(np.array([-ZERO])), np.array([ZERO])]
    return np.unique(_down(np.concatenate(found), dtype))


def _below(values: Array) -> Array:
    return np.nextafter(values, -np.inf)


def _down(values: Array, dtype: str) -> Array:
    """Rounded down to a type, so that the same values of that type are less or equal."""
    with np.errstate(over="ignore"):
        rounded = values.astype(dtype)
    return np.where(rounded > values, np.nextafter(rounded, np.dtype(dtype).type(-np.inf)), rounded).astype(np.float64)
