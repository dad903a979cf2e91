"""Splits of a forest that decide nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ..forest import Forest
from ..formats.forest import ForestFormat, save
from ..model import FOREST, Format, Model
from ..technique import Context, Phase, Technique

_Range = tuple[float, float, bool]  # above this, up to that, and whether NaN may be
_Listed = tuple[frozenset[int] | None, frozenset[int], bool]  # one of these or any, none of those, and whether NaN may
_Known = dict[tuple[int, bool], Any]  # by feature: its range, and with True its categories


@dataclass(frozen=True)
class SimplifyForest(Technique):
    """Take out splits that the splits above them have decided, and those whose leaves are all the same. Exact.

    So are trees of one leaf left out, where that changes no sum's rounding: those that add zero, and those that are
    added before any other.
    """

    accepts: ClassVar[frozenset[Format]] = frozenset({FOREST})
    phase: ClassVar[Phase] = Phase.SIMPLIFY
    lossless: ClassVar[bool] = True
    version: ClassVar[int] = 2

    def apply(self, model: Model, context: Context) -> Model:
        return save(simplified(ForestFormat().forest(model)), context.folder)


def simplified(forest: Forest) -> Forest:
    """The same predictions from fewer splits."""
    left, right = forest.left.copy(), forest.right.copy()
    roots = np.array([_settled(forest, int(root), left, right) for root in forest.roots], np.int32)
    shorter = replace(forest, left=left, right=right, roots=roots)
    return _without_constants(_merged(shorter)).without_unused_nodes()


def _settled(forest: Forest, root: int, left: np.ndarray, right: np.ndarray) -> int:
    """Lead past every split under a root that the splits above it have decided; returns the new root."""
    top = np.array([root], np.int32)
    stack: list[tuple[np.ndarray, int, _Known]] = [(top, 0, {})]
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


def _only_side(forest: Forest, node: int, known: _Known) -> bool | None:
    """Whether all that gets here goes left (True) or right (False); None where it may do either."""
    if forest.zero_missing[node]:
        return None
    if forest.subset[node] >= 0:
        (some, none, missing), members = _listed(forest, node, known), _members(forest, node)
        left, right = some is not None and some <= members, not ((members - none) if some is None else some & members)
    else:
        (low, high, missing), threshold = _range(forest, node, known), forest.threshold[node]
        left, right = high <= threshold, low >= threshold
    if left and (forest.nan_left[node] or not missing):
        return True
    if right and (not forest.nan_left[node] or not missing):
        return False
    return None


def _split(forest: Forest, node: int, known: _Known) -> Iterator[_Known]:
    """What is known of a sample on the left and on the right of a node."""
    if forest.zero_missing[node]:
        yield known
        yield known
        return
    key, nan_left = (int(forest.feature[node]), bool(forest.subset[node] >= 0)), bool(forest.nan_left[node])
    if forest.subset[node] >= 0:
        (some, none, missing), members = _listed(forest, node, known), _members(forest, node)
        yield known | {key: (members if some is None else some & members, none, missing and nan_left)}
        yield known | {key: (some and some - members, none | members, missing and not nan_left)}
        return
    (low, high, missing), threshold = _range(forest, node, known), float(forest.threshold[node])
    yield known | {key: (low, min(high, threshold), missing and nan_left)}
    yield known | {key: (max(low, threshold), high, missing and not nan_left)}


def _range(forest: Forest, node: int, known: _Known) -> _Range:
    found: _Range = known.get((int(forest.feature[node]), False), (-np.inf, np.inf, True))
    return found


def _listed(forest: Forest, node: int, known: _Known) -> _Listed:
    found: _Listed = known.get((int(forest.feature[node]), True), (None, frozenset(), True))
    return found


def _members(forest: Forest, node: int) -> frozenset[int]:
    return frozenset(forest.subset_of(node).tolist())


def _without_constants(forest: Forest) -> Forest:
    """What trees of one leaf say, added to what the sums begin with, if the sums stay the same to the last bit."""
    constant = forest.feature[forest.roots] < 0
    base, stay = forest.base.astype(forest.sums), np.ones(forest.trees, bool)
    whole = forest.values.shape[1] == forest.outputs
    begun = np.zeros(forest.outputs, bool)  # whether a tree that stays is added already
    for tree in range(forest.trees):
        place = slice(None) if whole else slice(forest.output[tree], forest.output[tree] + 1)
        value = forest.values[forest.leaf[forest.roots[tree]]].astype(forest.sums) if constant[tree] else None
        if value is not None and (not begun[place].any() or not value.any()):
            base[place] += value
            stay[tree] = False
        else:
            begun[place] = True
    return replace(forest, roots=forest.roots[stay], output=forest.output[stay], base=base)


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
