"""The leaves of a forest: how many samples end at each, and one in the place of a split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..data import Data
from ..forest import Array, Forest
from ..model import Model

ROWS = 4096  # looked at at a time
MOST = 1e15  # samples, in what a file tells
UNSEEN = 0.5  # samples that every leaf is taken to have seen: a leaf that none came to may still be right


def matrices(model: Model, data: Data) -> Iterator[Array]:
    """The samples as a forest takes them, [samples, features], some at a time."""
    (rows,) = model.signature.inputs
    for start in range(0, len(data), ROWS):
        yield data.batch(start, start + ROWS)[rows.name]


def levels(forest: Forest) -> list[Array]:
    """The splits of each depth, the deepest first."""
    splits = np.flatnonzero((forest.feature >= 0) & (forest.depth >= 0))
    order = splits[np.argsort(-forest.depth[splits], kind="stable")]
    return np.split(order, np.flatnonzero(np.diff(forest.depth[order])) + 1) if len(order) else []


def weights(forest: Forest, model: Model, samples: Data | None) -> Array:
    """[nodes], above 0: how many samples (or their weight) end at a leaf, in training and among those given."""
    weight: Array = np.clip(np.nan_to_num(forest.count), 0, MOST) + UNSEEN
    for x in matrices(model, samples) if samples is not None else ():
        weight += np.bincount(forest.leaves(x).ravel(), minlength=len(weight))
    return weight


def changes(forest: Forest, weight: Array) -> tuple[Array, Array]:
    """What one leaf in a node's place would change, [nodes], and the mean that it would hold, [nodes, width].

    A change is squared, and summed over outputs and samples.

    Args:
        weight: [nodes], of the leaves.
    """
    weight, change = weight.copy(), np.zeros(len(weight))
    mean = np.zeros((len(weight), forest.values.shape[1]))
    mean[forest.leaf >= 0] = forest.values[forest.leaf[forest.leaf >= 0]]
    for nodes in levels(forest):
        left, right = forest.left[nodes], forest.right[nodes]
        weight[nodes] = weight[left] + weight[right]
        apart, part = mean[right] - mean[left], weight[right] / weight[nodes]
        mean[nodes] = mean[left] + part[:, None] * apart  # of equal leaves, exactly their value
        change[nodes] = change[left] + change[right] + weight[left] * part * (apart * apart).sum(axis=1)
    return change, mean


def ended(forest: Forest, nodes: Array, values: Array) -> Forest:
    """With leaves of these values [nodes, width] in the place of some splits; what hung there goes."""
    changed = {name: getattr(forest, name).copy() for name in ("feature", "left", "right", "subset", "leaf", "gain")}
    for name in ("feature", "left", "right", "subset"):
        changed[name][nodes] = -1
    changed["gain"][nodes] = np.nan
    changed["leaf"][nodes] = len(forest.values) + np.arange(len(nodes))
    return replace(forest, **changed, values=np.concatenate([forest.values, values])).without_unused_nodes()
