"""The original trained anew, smaller, from other parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import NotApplicable
from ..formats.forest import ForestFormat, save
from ..model import FOREST, Format, Model
from ..settings import span
from ..target import Target
from ..technique import Context, Needs, Phase, Technique
from ..training.boosting import retrain_forest
from ..training.trees import Changes, used


@dataclass(frozen=True)
class Retune(Technique):
    """Train the original anew with fewer rounds, and other leaves and rates, on the features that are still looked at.

    All settings are ratios to the parameters of the original, so a search starts from these.

    Attributes:
        amount: The share of rounds to leave out.
        leaves: Of a tree, as a ratio; where trees are bounded by depth, half the leaves are one level less.
        follow: How far the learning rate makes up for fewer rounds: at 1, a tenth of the rounds learn at ten times the
            rate; at 0 the rate stays.
        least: What a leaf must hold, as a ratio.
    """

    amount: float = span(0.5, 0.0, 0.97, strength=True)
    leaves: float = span(1.0, 0.1, 2.0, log=True)
    follow: float = span(0.75, 0.0, 1.0)
    least: float = span(1.0, 0.25, 16.0, log=True)

    accepts: ClassVar[frozenset[Format]] = frozenset({FOREST})
    phase: ClassVar[Phase] = Phase.SHRINK
    chooses: ClassVar[str | None] = "rounds"
    needs: ClassVar[Needs] = Needs.TRAINING

    def expects(self, target: Target) -> float:
        return float((1 - self.amount) * self.leaves**0.3)  # a tree costs its depth

    def requires(self, model: Model, target: Target) -> None:
        if model.counts.get("trees", 2) < 2:
            raise NotApplicable("there is one tree at the most, and no round to leave out")

    def apply(self, model: Model, context: Context) -> Model:
        rounds = 1 - self.amount
        changes = Changes(rounds=rounds, leaves=self.leaves, rate=rounds**-self.follow, least=self.least)
        return save(retrain_forest(context, used(ForestFormat().forest(model)), changes), context.folder)
