"""Splits that change little of what the forest says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ..errors import NotApplicable
from ..forest import Array, Forest
from ..formats.forest import ForestFormat, save
from ..model import FOREST, Format, Model
from ..settings import span
from ..target import Target
from ..technique import Context, Needs, Phase, Technique
from ._leaves import changes, ended, levels, weights

HALVINGS = 60  # of the price of a leaf, from the most that it can be


@dataclass(frozen=True)
class PruneLeaves(Technique):
    """Merge leaves whose difference changes the forest's output least, and leave out trees that are one leaf then.

    Cost-complexity pruning (Breiman et al. 1984, chapter 3), its cost not the error but the squared change of a tree's
    output, summed over samples: those of the training, where the forest tells their number (or weight), and those to
    calibrate with. All trees are ranked together. A new leaf is the weighted mean of those that it stands for.

    Attributes:
        amount: The share of leaves to take out.
    """

    amount: float = span(0.5, 0.05, 0.95, strength=True)

    accepts: ClassVar[frozenset[Format]] = frozenset({FOREST})
    phase: ClassVar[Phase] = Phase.SHRINK
    needs: ClassVar[Needs] = Needs.SAMPLES

    def expects(self, target: Target) -> float:
        return 1 - 0.7 * self.amount  # of one row, LightGBM, 300 trees of 63 leaves: 0.63 at 0.5, 0.45 at 0.8

    def requires(self, model: Model, target: Target) -> None:
        if model.counts.get("leaves", 2) <= model.counts.get("trees", 1):
            raise NotApplicable("no tree has a split, and there is no leaf to take out")

    def apply(self, model: Model, context: Context) -> Model:
        forest = ForestFormat().forest(model)
        return save(pruned(forest, weights(forest, model, context.calibration), self.amount), context.folder)


def pruned(forest: Forest, weight: Array, amount: float) -> Forest:
    """The forest without that share of its leaves, or less where the next step would take out more.

    Of the trees that a price of leaves makes worth it, each is the best of its size (Breiman et al. 1984, theorem
    3.10), so the price is all that is searched. Leaves that are equal cost nothing, and are merged in any case.

    Args:
        weight: [nodes], of the leaves; above 0.
    """
    steps = levels(forest)
    change, mean = changes(forest, weight)
    ends = int(((forest.feature < 0) & (forest.depth >= 0)).sum())
    most = float(change.max(initial=0)) or 1.0
    low, high = -float(HALVINGS), 0.0  # powers of two, of the most
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        leaves, _ = _worth(forest, change, steps, most * 2.0**middle)
        low, high = (middle, high) if leaves >= (1 - amount) * ends else (low, middle)
    _, cut = _worth(forest, change, steps, most * 2.0**low)
    return _without_constants(ended(forest, np.flatnonzero(cut), mean[cut]))


def _worth(forest: Forest, change: Array, steps: list[Array], price: float) -> tuple[int, Array]:
    """How many leaves are worth their price, and [nodes] whether a split is not."""
    cost, leaves = np.full(len(change), price), np.ones(len(change), np.int64)
    cut = np.zeros(len(change), bool)
    for nodes in steps:
        left, right = forest.left[nodes], forest.right[nodes]
        whole, split = change[nodes] + price, cost[left] + cost[right]
        cut[nodes] = whole <= split
        cost[nodes] = np.minimum(whole, split)
        leaves[nodes] = np.where(cut[nodes], 1, leaves[left] + leaves[right])
    return int(leaves[forest.roots].sum()), cut


def _without_constants(forest: Forest) -> Forest:
    """What trees of one leaf say is added to what the sums begin with."""
    constant = forest.feature[forest.roots] < 0
    values, base = forest.values[forest.leaf[forest.roots[constant]]], forest.base.copy()
    if forest.values.shape[1] == forest.outputs:
        base += values.sum(axis=0)
    else:
        np.add.at(base, forest.output[constant], values[:, 0])
    rest = ~constant
    return replace(forest, roots=forest.roots[rest], output=forest.output[rest], base=base).without_unused_nodes()
