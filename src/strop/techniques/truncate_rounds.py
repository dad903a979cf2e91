"""The last rounds of boosting, or some of the trees that are averaged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ..errors import NotApplicable
from ..forest import Forest
from ..formats.forest import ForestFormat, save
from ..model import FOREST, Format, Model
from ..settings import span
from ..target import Target
from ..technique import Context, Phase, Technique


@dataclass(frozen=True)
class TruncateRounds(Technique):
    """Leave out the last rounds: what a later round of boosting corrects is ever less. No data are needed.

    Attributes:
        amount: The share of rounds to leave out.
    """

    amount: float = span(0.5, 0.05, 0.95, strength=True)

    accepts: ClassVar[frozenset[Format]] = frozenset({FOREST})
    phase: ClassVar[Phase] = Phase.SHRINK
    chooses: ClassVar[str | None] = "rounds"

    def expects(self, target: Target) -> float:
        return 1 - self.amount

    def requires(self, model: Model, target: Target) -> None:
        if model.counts.get("trees", 2) < 2:
            raise NotApplicable("there is one tree at the most, and no round to leave out")

    def apply(self, model: Model, context: Context) -> Model:
        return save(truncated(ForestFormat().forest(model), self.amount), context.folder)


def truncated(forest: Forest, amount: float) -> Forest:
    """The first rounds: of each output the first of its trees, one at least."""
    order = np.argsort(forest.output, kind="stable")
    trees = np.bincount(forest.output, minlength=forest.outputs)
    place = np.empty(forest.trees, np.int64)
    place[order] = np.arange(forest.trees) - np.repeat(np.cumsum(trees) - trees, trees)
    kept = place < np.maximum(1, np.rint((1 - amount) * trees))[forest.output]
    divisor = forest.divisor * kept.sum() / forest.trees if forest.divisor != 1 else 1.0  # of an average
    return replace(
        forest, roots=forest.roots[kept], output=forest.output[kept], divisor=float(divisor)
    ).without_unused_nodes()
