"""Splits of a forest that decide nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ..forest import Forest
from ..formats.forest import ForestFormat, save
from ..model import FOREST, Format, Model
from ..technique import Context, Phase, Technique

_Range = tuple[float, float, bool]  # above this, up to that, and whether NaN may be


@dataclass(frozen=True)
class SimplifyForest(Technique):
    """Take out splits that the splits above them have decided, and those whose leaves are all the same. Exact."""

    accepts: ClassVar[frozenset[Format]] = frozenset({FOREST})
    phase: ClassVar[Phase] = Phase.SIMPLIFY
    lossless: ClassVar[bool] = True

    def apply(self, model: Model, context: Context) -> Model:
        return save(simplified(ForestFormat().forest(model)), context.folder)


def simplified(forest: Forest) -> Forest:
    """The same predictions from fewer splits."""
    left, right = forest.left.copy(), forest.right.copy()
    roots = np.array([_settled(forest, int(root), left, right) for root in forest.roots], np.int32)
    shorter = replace(forest, left=left, right=right, roots=roots)
    return _merged(shorter).without_unused_nodes()


def _settled(forest: Forest, root: int, left: np.ndarray, right: np.ndarray) -> int:
    """Lead past every split under a root that the splits above it have decided; returns the new root."""
    top = np.array([root], np.int32)
    stack: list[tuple[np.ndarray, int, dict[int, _Range]]] = [(top, 0, {})]
    while stack:
        place, at, known = stack.pop()
        node = int(place[at])
        while forest.feature[node] >= 0 and (side := _only_side(forest, node, known)) is not None:
            node = int((left if side else right)[node])
        place[at] = node
        if forest.feature[node] >= 0:
            stack.extend(
                (array, node, ranges) for array, ranges in zip((left, right), _split(forest, node, known), strict=True)
            )
    return int(top[0])


def _plain(forest: Forest, node: int) -> bool:
    return bool(forest.subset[node] < 0 and not forest.zero_missing[node])


def _range(forest: Forest, node: int, known: dict[int, _Range]) -> _Range:
    return known.get(int(forest.feature[node]), (-np.inf, np.inf, True))


def _only_side(forest: Forest, node: int, known: dict[int, _Range]) -> bool | None:
    """Whether all that gets here goes left (True) or right (False); None where it may do either."""
    if not _plain(forest, node):
        return None
    (low, high, missing), threshold = _range(forest, node, known), forest.threshold[node]
    if high <= threshold and (forest.nan_left[node] or not missing):
        return True
    if low >= threshold and (not forest.nan_left[node] or not missing):
        return False
    return None


def _split(forest: Forest, node: int, known: dict[int, _Range]) -> Iterator[dict[int, _Range]]:
    """What is known of a sample on the left and on the right of a node."""
    if not _plain(forest, node):
        yield known
        yield known
        return
    feature, threshold, nan_left = int(forest.feature[node]), float(forest.threshold[node]), bool(forest.nan_left[node])
    low, high, missing = _range(forest, node, known)
    yield known | {feature: (low, min(high, threshold), missing and nan_left)}
    yield known | {feature: (max(low, threshold), high, missing and not nan_left)}


def _merged(forest: Forest) -> Forest:
    """With a leaf in the place of every split that leads to equal leaves only."""
    feature, leaf = forest.feature.copy(), forest.leaf.copy()
    _, same = np.unique(forest.values, axis=0, return_inverse=True)
    same = same.ravel()
    for level in range(int(forest.depth.max(initial=0)) - 1, -1, -1):
        nodes = np.flatnonzero((forest.depth == level) & (feature >= 0))
        first, second = forest.left[nodes], forest.right[nodes]
        both = (feature[first] < 0) & (feature[second] < 0)
        equal = both & (same[leaf[first]] == same[leaf[second]])
        feature[nodes[equal]], leaf[nodes[equal]] = -1, leaf[first[equal]]
    merged = feature < 0
    return replace(
        forest, feature=feature, leaf=leaf, left=np.where(merged, -1, forest.left),
        right=np.where(merged, -1, forest.right), subset=np.where(merged, -1, forest.subset),
        gain=np.where(merged, np.nan, forest.gain),
    )  # fmt: skip
