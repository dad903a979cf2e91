"""Thresholds and leaf values of a forest, of which few are different."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ..errors import NotApplicable
from ..forest import Array, Forest
from ..formats.forest import ForestFormat, save
from ..model import FOREST, Format, Model
from ..settings import choice
from ..target import Target
from ..technique import Context, Needs, Phase, Technique
from ._leaves import changes, weights
from .simplify_forest import simplified

AT_ONCE = 16  # the part of what has to go that goes at once
SMALLEST = -1022  # power of two that is a step


@dataclass(frozen=True)
class QuantizeForest(Technique):
    """Put leaf values on a grid of integers, and merge near thresholds of features that are split at more than `bins`.

    The grid's step is a power of two, so that sums of leaves are exact; a score is off by half a step a tree at the
    most. A threshold moves to one that other splits use. Splits that are decided then are taken out.

    Attributes:
        bins: The most thresholds that a feature keeps; with no more than that, none moves.
        bits: Of a leaf value.
    """

    bins: int = choice(255, 127, 63, 31)
    bits: int = choice(16, 8)

    accepts: ClassVar[frozenset[Format]] = frozenset({FOREST})
    phase: ClassVar[Phase] = Phase.QUANTIZE
    quantizes: ClassVar[bool] = True
    needs: ClassVar[Needs] = Needs.SAMPLES

    def expects(self, target: Target) -> float:
        return 0.95

    def requires(self, model: Model, target: Target) -> None:
        if not model.counts.get("trees", 1):
            raise NotApplicable("there is no tree, and nothing to quantize")

    def apply(self, model: Model, context: Context) -> Model:
        forest = ForestFormat().forest(model)
        weight = weights(forest, model, context.calibration)
        return save(simplified(rounded(binned(forest, weight, self.bins), self.bits)), context.folder)


def binned(forest: Forest, weight: Array, bins: int) -> Forest:
    """The forest with that many different thresholds a feature at the most.

    A threshold that goes becomes the nearest that stays; a split weighs what taking it out would change.

    Args:
        weight: [nodes], of the leaves; above 0.
    """
    change, _ = changes(forest, weight)
    numeric = (forest.feature >= 0) & (forest.subset < 0) & np.isfinite(forest.threshold) & (forest.depth >= 0)
    threshold = forest.threshold.copy()
    for feature in np.unique(forest.feature[numeric]):
        nodes = np.flatnonzero(numeric & (forest.feature == feature))
        different, which = np.unique(forest.threshold[nodes], return_inverse=True)
        if len(different) > bins:
            lost = change[nodes] - change[forest.left[nodes]] - change[forest.right[nodes]]
            threshold[nodes] = _grouped(different, np.bincount(which, lost), bins)[which]
    return replace(forest, threshold=threshold)


def _grouped(values: Array, weight: Array, groups: int) -> Array:
    """Ascending values, each become the nearest of those that stay.

    Time and again the ones go that cost least: what they weigh, times the values that lie between them and the next.
    """
    kept, load = np.arange(len(values)), weight + 1e-9 * weight.sum()
    while len(kept) > groups:
        gap = np.diff(kept).astype(float)
        cost = load * np.minimum(np.r_[np.inf, gap], np.r_[gap, np.inf])
        stay = np.sort(np.argsort(cost, kind="stable")[max(1, (len(kept) - groups) // AT_ONCE) :])
        load = np.bincount(_nearest(kept[stay], kept), load)
        kept = kept[stay]
    return values[kept][_nearest(kept, np.arange(len(values)))]


def _nearest(kept: Array, places: Array) -> Array:
    return np.searchsorted((kept[1:] + kept[:-1]) / 2, places)


def rounded(forest: Forest, bits: int) -> Forest:
    """The forest with leaf values on a grid of so many bits, which are signed.

    The middle of each tree's values is added to what the sums begin with, so that the grid spans their differences.
    """
    forest = forest.without_unused_nodes()
    ends = np.flatnonzero(forest.leaf >= 0)
    tree, values, base = forest.tree[ends], forest.values[forest.leaf[ends]], forest.base.copy()
    low, high = (np.full((forest.trees, values.shape[1]), bound) for bound in (np.inf, -np.inf))
    np.minimum.at(low, tree, values)
    np.maximum.at(high, tree, values)
    middle = low / 2 + high / 2
    values = values - middle[tree]
    if values.shape[1] == forest.outputs:
        base += middle.sum(axis=0)
    else:
        np.add.at(base, forest.output, middle[:, 0])
    most = float(np.abs(values).max(initial=0)) / (2 ** (bits - 1) - 1)
    step = 2.0 ** max(math.ceil(math.log2(most)), SMALLEST) if most else 1.0
    leaf = forest.leaf.copy()
    leaf[ends] = np.arange(len(ends))
    return replace(forest, leaf=leaf, values=np.rint(values / step) * step, base=base, step=step)
