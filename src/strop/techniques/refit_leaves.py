"""The values of leaves, fitted anew to what the original says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from .. import formats
from ..errors import NotApplicable
from ..forest import Array, Forest
from ..formats.forest import ForestFormat, save
from ..formats.trees import TreeFormat
from ..model import FOREST, Format, Model
from ..settings import span
from ..technique import Context, Needs, Phase, Technique, remaining
from ._leaves import matrices

MOST = 100_000_000  # leaves to remember, one a sample and tree: 400 MB
STEPS = 100  # of conjugate gradients
ENOUGH = 1e-3  # of the gradient that they begin with, at which they end
TO_FIT = 0.7  # of the time, after which no more samples are taken


@dataclass(frozen=True)
class RefitLeaves(Technique):
    """Fit all leaves together to the original's scores on the train data, after steps that took something away.

    Ridge regression in the space of leaves (Ren et al. 2015, "Global refinement of random forest", section 3), solved
    by conjugate gradients; what is penalized is the distance to the present values. Labels are not used: a
    Newton step towards them lost many times as much AUROC. Nor is a sample weighed by how far its probability moves
    with its score, which was worse in AUROC and log loss alike (both of LightGBM on KDD census).

    Attributes:
        ridge: How strongly present values hold: as if each had been seen with so many samples.
    """

    ridge: float = span(10.0, 0.1, 1000.0, log=True)

    accepts: ClassVar[frozenset[Format]] = frozenset({FOREST})
    phase: ClassVar[Phase] = Phase.SHRINK
    needs: ClassVar[Needs] = Needs.TRAINING
    mends: ClassVar[bool] = True

    def apply(self, model: Model, context: Context) -> Model:
        room = formats.format_of(context.original.format)
        if not isinstance(room, TreeFormat):
            raise NotApplicable(f"the original, in {context.original.format}, is not read into trees to learn from")
        if context.train is None:
            raise NotApplicable("there are no train data")
        forest, teacher = ForestFormat().forest(model), room.forest(context.original)
        rows = np.random.default_rng(context.seed).permutation(len(context.train))
        rows = np.sort(rows[: max(1, MOST // max(1, forest.trees))])
        stop, found = remaining(context) * (1 - TO_FIT), []
        for x in matrices(model, context.train.take(rows)):
            found.append((forest.leaf[forest.leaves(x)], teacher.scores(x) / teacher.divisor))
            if remaining(context) < stop:
                break
        leaves, scores = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        return save(refitted(forest, leaves, scores, self.ridge, lambda: remaining(context) < 0), context.folder)


def refitted(
    forest: Forest, leaves: Array, wanted: Array, ridge: float, stop: Callable[[], bool] = lambda: False
) -> Forest:
    """The forest with values that bring its scores nearer to those that are wanted.

    Conjugate gradients lower what is minimized with every step, so that to stop early costs accuracy only.

    Args:
        leaves: [samples, trees], the rows of `forest.values` that samples end at.
        wanted: [samples, outputs], scores after the divisor.
        ridge: See `RefitLeaves`.
        stop: Asked after every step.
    """
    values = forest.values.copy()
    columns = np.ascontiguousarray(leaves.T)
    whole = values.shape[1] == forest.outputs
    for output in range(forest.outputs):
        ends = columns if whole else columns[forest.output == output]
        column = values[:, output if whole else 0]  # of all trees, of which others than these stay as they are
        missing = wanted[:, output] - (forest.base[output] + _sums(ends, column)) / forest.divisor
        column += _ridge(ends, len(values), missing * forest.divisor, ridge, stop)
    return replace(forest, values=values, step=0.0)


def _ridge(ends: Array, size: int, missing: Array, ridge: float, stop: Callable[[], bool]) -> Array:
    """What to add to each value, so that their squares, times `ridge`, and those of what is still missing are least."""
    scale = _totals(ends, np.ones(len(missing)), size) + ridge
    change, rest = np.zeros(size), _totals(ends, missing, size)
    eased = rest / scale
    way, left = eased, float(rest @ eased)
    enough = ENOUGH**2 * left
    for _ in range(STEPS):
        if left <= enough or stop():
            break
        bent = _totals(ends, _sums(ends, way), size) + ridge * way
        far = left / float(way @ bent)
        change, rest = change + far * way, rest - far * bent
        eased = rest / scale
        before, left = left, float(rest @ eased)
        way = eased + left / before * way
    return change


def _sums(ends: Array, values: Array) -> Array:
    """[samples], of the values at the leaves [trees, samples]."""
    total = np.zeros(ends.shape[1])
    for leaves in ends:
        total += values[leaves]
    return total


def _totals(ends: Array, of: Array, size: int) -> Array:
    """[size], what the samples at each leaf come to."""
    total: Array = np.zeros(size)
    for leaves in ends:
        total += np.bincount(leaves, of, size)
    return total
