"""Plain trees: a forest as the compilers of trees can express it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import NotApplicable
from ..forest import ZERO, Array, Forest

MOST_CATEGORIES = 1 << 24
"""Category numbers from here on are not told apart where categories are read as float32."""


def plain(forest: Forest) -> Forest:
    """The same forest, of thresholds and of subsets on columns of their own; its base is trees of one leaf, its nodes
    lie tree by tree.

    Where the input is float32, thresholds are rounded down to it: no float32 lies between.

    Raises:
        NotApplicable: It can't be expressed so.
    """
    split, listed = forest.feature >= 0, forest.subset >= 0
    numbers, looked_up = forest.feature[split & ~listed], forest.feature[split & listed]
    if len(both := np.intersect1d(numbers, looked_up)):
        raise NotApplicable(f"column {both[0]} holds numbers in some splits and categories in others")
    if forest.members.max(initial=0) >= MOST_CATEGORIES:
        raise NotApplicable(f"category {forest.members.max()} is too large: they must be under {MOST_CATEGORIES}")
    empty = np.diff(forest.member_ends, prepend=0) == 0
    if (forest.nan_left & listed & np.append(empty, False)[forest.subset]).any():
        raise NotApplicable("NaN alone goes left in some splits of categories")
    # zero is as good as NaN where all that counts as zero goes the same way without being asked for
    alike = np.where(forest.nan_left, forest.threshold >= ZERO, forest.threshold < -ZERO)
    if (split & forest.zero_missing & (listed | ~alike)).any():
        raise NotApplicable("zero stands for missing in some splits, and goes another way than its neighbours")
    threshold = rounded_down(forest.threshold) if forest.dtype == "float32" else forest.threshold
    return _with_base_as_trees(replace(forest, threshold=threshold)).without_unused_nodes()


def precision(forest: Forest) -> str:
    """The one type for thresholds, leaves and sums that keeps them: `float32` or `float64`."""
    return "float32" if forest.dtype == forest.sums == "float32" else "float64"


def columns_of_categories(forest: Forest) -> Array:
    """[features] bool: which columns hold categories, in a plain forest."""
    found = np.zeros(forest.features, bool)
    found[forest.feature[(forest.feature >= 0) & (forest.subset >= 0)]] = True
    return found


def tree_nodes(forest: Forest) -> list[slice]:
    """Where the nodes of each tree of a plain forest lie, its root first."""
    ends = np.searchsorted(forest.tree, np.arange(forest.trees), side="right").tolist()
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def _with_base_as_trees(forest: Forest) -> Forest:
    """Sums that begin with a base are those of trees of one leaf that come first: to the last bit."""
    outputs = np.arange(forest.outputs) if forest.values.shape[1] == 1 else np.zeros(1, np.int32)
    values = forest.base.reshape(len(outputs), -1)
    if not forest.base.any() and forest.trees:
        return forest
    more, size = len(outputs), len(forest.feature)
    leaf = {"feature": -1, "threshold": 0, "left": -1, "right": -1, "nan_left": False, "zero_missing": False,
            "subset": -1, "count": np.nan, "gain": np.nan}  # fmt: skip
    nodes: dict[str, Any] = {
        name: np.append(getattr(forest, name), np.repeat(value, more)) for name, value in leaf.items()
    }
    return replace(
        forest, **nodes, leaf=np.append(forest.leaf, len(forest.values) + np.arange(more)),
        values=np.concatenate([forest.values, values]), roots=np.r_[size + np.arange(more), forest.roots],
        output=np.r_[outputs, forest.output], base=np.zeros(forest.outputs),
    )  # fmt: skip


def rounded_down(threshold: Array) -> Array:
    """The largest float32 that are not above these thresholds, as float64."""
    with np.errstate(over="ignore"):
        near = threshold.astype(np.float32)
    return np.where(near > threshold, np.nextafter(near, np.float32(-np.inf)), near).astype(np.float64)
