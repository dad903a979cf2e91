"""What a forest is made of: trees, leaves, depths, the columns that splits look at, the splits that a sample passes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..forest import Array, Forest
from ..model import Batch, Model, Tensor
from ..spelling import option
from ..structure import Layer, Structure
from ..units import quantity

LINK = 4  # bytes, of a column's number, or a node's
_WALKED = 1 << 22  # steps from a root to a leaf that are followed at a time, at the most


def structure_of(forest: Forest, model: Model, samples: Batch | None = None) -> Structure:
    """What a profile tells of it.

    Args:
        forest: What the model was read into.
        model: On disk.
        samples: Those whose ways through the trees are counted. None: the training samples that the model remembers at
            its leaves, or, where it does not, every leaf alike.
    """
    rows, result = model.signature.inputs[0], model.signature.outputs[0]
    x = None if samples is None else samples[rows.name]
    reached = forest.tree >= 0
    splits, leaves = reached & (forest.feature >= 0), reached & (forest.feature < 0)
    listed = int((splits & (forest.subset >= 0)).sum())
    depth = forest.depth[leaves]
    visits = _visits(forest, leaves, x)
    kinds = {"thresholds": _short(forest.dtype), "leaves": _short(forest.sums)}
    split, leaf = node_bytes(forest)
    held = split * int(splits.sum()) + leaf * int(leaves.sum())
    facts: dict[str, Any] = {
        "trees": forest.trees,
        "outputs": forest.outputs,
        "leaves": int(leaves.sum()),
        "splits": {"thresholds": int(splits.sum()) - listed, "categories": listed},
        "depth": {"max": int(depth.max(initial=0)), "mean": float(depth.mean()) if len(depth) else 0.0},
        "visits": visits,
        "types": kinds,
        "nodes": {"split": split, "leaf": leaf, "bytes": held},
        "columns": _columns(forest, splits),
        "unused": [_name(forest, at) for at in np.setdiff1d(np.arange(forest.features), forest.feature[splits])],
    }
    trees = Layer(
        "trees", "TreeEnsemble", visits["mean"], held, int(splits.sum()) + int(leaves.sum()) * forest.values.shape[1],
        (rows.name,), (result.name,), visits["mean"] * split + forest.trees * leaf, waits=True,
    )  # fmt: skip
    values = {tensor.name: tensor_bytes(tensor) for tensor in (rows, result)}
    return Structure((trees,), facts, _told(facts), values, (result.name,))


def node_bytes(forest: Forest) -> tuple[int, int]:
    """What a split takes as plain arrays hold it, which is a threshold, a column and two children; and what a leaf."""
    number = np.dtype(forest.dtype).itemsize
    return number + 3 * LINK, np.dtype(forest.sums).itemsize * forest.values.shape[1]


def tensor_bytes(tensor: Tensor) -> float:
    """Of one sample."""
    return float(
        math.prod(size for size in tensor.shape[1:] if isinstance(size, int)) * np.dtype(tensor.dtype).itemsize
    )


def _short(dtype: str) -> str:
    return dtype.replace("float", "f")


def _columns(forest: Forest, splits: Array) -> list[dict[str, Any]]:
    """The columns that splits look at, those of the most gain (or splits) first."""
    feature = forest.feature[splits]
    count = np.bincount(feature, minlength=forest.features)
    gain = np.bincount(feature, forest.gain[splits], forest.features)
    known = bool(np.isfinite(gain).all() and gain.sum() > 0)
    share = gain / gain.sum() if known else np.full(forest.features, np.nan)
    order = np.lexsort((-count, -share if known else -count))
    return [
        {"name": _name(forest, at), "splits": int(count[at]), "gain": float(share[at]) if known else None}
        for at in order
        if count[at]
    ]


def _visits(forest: Forest, leaves: Array, x: Array | None) -> dict[str, Any]:
    """The splits that a sample passes in all trees together: mean, and between which 9 samples of 10 lie, if known."""
    if x is not None and len(x):
        rows = max(1, _WALKED // max(1, forest.trees))
        parts = [forest.depth[forest.leaves(x[at : at + rows])].sum(axis=1) for at in range(0, len(x), rows)]
        passed = np.concatenate(parts)
        low, high = np.percentile(passed, (5, 95))
        found = {"mean": float(passed.mean()), "low": float(low), "high": float(high), "samples": len(x)}
        return {**found, "by": "samples"}
    tree, depth, weight = forest.tree[leaves], forest.depth[leaves], forest.count[leaves]
    remembered = bool(len(weight) and np.isfinite(weight).all() and (weight >= 0).all())
    weight = weight if remembered else np.ones(len(depth))
    total = np.bincount(tree, weight, forest.trees)
    if not total.all():
        remembered, weight = False, np.ones(len(depth))
        total = np.bincount(tree, weight, forest.trees)
    mean = float((np.bincount(tree, weight * depth, forest.trees) / total).sum())
    return {"mean": mean, "low": None, "high": None, "samples": 0, "by": "training" if remembered else "leaves"}


def _name(forest: Forest, column: int) -> str:
    return forest.names[column] if forest.names else str(column)


def _told(facts: Mapping[str, Any]) -> dict[str, str]:
    trees, leaves, visits, kinds = facts["trees"], facts["leaves"], facts["visits"], facts["splits"]
    nodes, types = facts["nodes"], facts["types"]
    each = max(trees, 1)
    by = {
        "samples": f"by the ways of {visits['samples']:,} samples",
        "training": "by the training samples that the model remembers at its leaves",
        "leaves": f"if every leaf is reached alike; the model does not tell, and {option('data')} would",
    }[visits["by"]]
    spread = f", {visits['low']:,.0f} to {visits['high']:,.0f} for 9 samples of 10" if visits["low"] is not None else ""
    used, unused = len(facts["columns"]), len(facts["unused"])
    return {
        "trees": f"{trees:,}, with {leaves:,} leaves, {leaves / each:.3g} a tree; "
        f"leaves are {facts['depth']['mean']:.1f} splits deep in the mean, {facts['depth']['max']} at the most",
        "splits": f"{kinds['thresholds']:,} by a threshold, {kinds['categories']:,} by a set of categories",
        "visits": f"a sample passes {visits['mean']:,.0f} splits, {visits['mean'] / each:.1f} a tree{spread}: {by}",
        "types": f"thresholds are compared in {types['thresholds']}, leaves added in {types['leaves']}",
        "nodes": f"{quantity(nodes['bytes'], 'bytes')} as plain arrays have them: {nodes['split']} bytes a split, "
        f"{nodes['leaf']} a leaf",
        "columns": f"{used:,} of {used + unused:,} are looked at",
    }
