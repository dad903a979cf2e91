"""A small forest in the place of any estimator, taught by its scores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from .._lazy import installed
from ..errors import NotApplicable
from ..forest import Forest
from ..formats.forest import save
from ..model import FOREST, SKLEARN, Format, Model
from ..settings import choice, span
from ..target import Target
from ..technique import Context, Needs, Phase, Technique
from ..training.lightgbm import taught
from ..training.trees import lesson
from ._asked import Array, asked
from .distill_forest import PACE, RATES, like

ROUNDS = 400  # at an amount of 0


@dataclass(frozen=True)
class TeachForest(Technique):
    """Train a forest on the scores that an estimator gives, with rows added that are made up (`distill-estimator`).

    The forest takes the place of a whole pipeline of numbers, pre-processing included; it is trained by LightGBM, and
    all that is done to forests can follow.

    Attributes:
        amount: The share to leave out of 400 rounds.
        leaves: Of a tree.
        rows: Made-up rows for each row of the train data.
        swapped: The share of columns that hold values of other rows.
    """

    amount: float = span(0.5, 0.0, 0.97, strength=True)
    leaves: int = span(31, 4, 255, log=True)
    rows: int = choice(1, 0, 3)
    swapped: float = span(0.1, 0.02, 0.5, log=True)

    accepts: ClassVar[frozenset[Format]] = frozenset({SKLEARN})
    returns: ClassVar[Format | None] = FOREST
    phase: ClassVar[Phase] = Phase.CONVERT
    chooses: ClassVar[str | None] = "estimator"
    needs: ClassVar[Needs] = Needs.TRAINING

    def expects(self, target: Target) -> float:
        return float(0.3 * (1 - self.amount))

    def requires(self, model: Model, target: Target) -> None:
        if not installed("lightgbm"):
            raise NotApplicable("a forest is taught by LightGBM, which is not installed")
        if "trees" in model.counts:
            raise NotApplicable("it is an ensemble of trees, which is read into a forest (to-forest)")
        if len(model.signature.inputs[0].shape) != 2:
            raise NotApplicable("a forest takes one matrix of numbers, and this takes columns or a text")

    def apply(self, model: Model, context: Context) -> Model:
        (rows,), (result,) = model.signature.inputs, model.signature.outputs
        found = asked(context, self.rows, self.swapped)
        base = found.scores.mean(axis=0)
        link = "identity"
        if result.name == "probability":
            link = "softmax" if len(base) > 1 else "sigmoid of two"
        like_this = replace(_none(base, int(rows.shape[1] or 0)), names=rows.columns, link=link, rows=rows.name)
        rounds = max(1, round(ROUNDS * (1 - self.amount)))
        given = replace(lesson(context, like_this), x=np.asarray(found.input))
        rate = float(np.clip(PACE / rounds, *RATES))
        learned = taught(given, found.scores - base, rounds, self.leaves, rate)
        made = replace(like(like_this, learned, base), rows=rows.name, result=result.name)
        return replace(save(made, context.folder), signature=model.signature)


def _none(base: Array, features: int) -> Forest:
    """A forest of no trees."""
    empty: dict[str, Any] = {name: np.zeros(0) for name in Forest.ARRAYS}
    return Forest(**{**empty, "values": np.zeros((0, 1)), "base": base, "features": features})
