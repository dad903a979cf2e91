"""A smaller forest, taught by the original's scores."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from .._lazy import installed
from ..errors import NotApplicable
from ..forest import Array, Forest
from ..formats.forest import ForestFormat, save
from ..formats.trees import joined
from ..model import FOREST, Format, Model
from ..native.library import Library, build, compiler, write_source
from ..settings import choice, span
from ..target import Target
from ..technique import Context, Needs, Phase, Technique
from ..training.boosting import teacher
from ..training.lightgbm import taught
from ..training.trees import lesson, used

WORTH_COMPILING = 1e7  # rows times trees, from which on a compiler's seconds are fewer than NumPy's
PACE = 20.0  # learning rate times rounds
RATES = (0.05, 0.4)  # the lowest and highest


@dataclass(frozen=True)
class DistillForest(Technique):
    """Train a smaller forest on the scores that the original gives, with rows added that are made up.

    In a row that is made up some columns hold the values of other rows; the original says what it scores (Bucila et al.
    2006, section 2). No labels are needed, and any original will do that can be read as a forest. The new one is
    trained by LightGBM, and looks at the features that are still looked at.

    Attributes:
        amount: The share of trees to leave out.
        leaves: Of a tree, as a ratio to the mean of the original's.
        rows: Made-up rows for each row of the train data.
        swapped: The share of columns that hold values of other rows.
    """

    amount: float = span(0.5, 0.0, 0.97, strength=True)
    leaves: float = span(1.0, 0.1, 4.0, log=True)
    rows: int = choice(1, 0, 3)
    swapped: float = span(0.1, 0.02, 0.5, log=True)

    accepts: ClassVar[frozenset[Format]] = frozenset({FOREST})
    phase: ClassVar[Phase] = Phase.SHRINK
    chooses: ClassVar[str | None] = "rounds"
    needs: ClassVar[Needs] = Needs.TRAINING

    def expects(self, target: Target) -> float:
        return float((1 - self.amount) * self.leaves**0.3)  # a tree costs its depth

    def requires(self, model: Model, target: Target) -> None:
        if not installed("lightgbm"):
            raise NotApplicable("a forest is taught by LightGBM, which is not installed")
        if model.counts.get("trees", 1) < 1:
            raise NotApplicable("there are no trees, and nothing is to be learned")

    def apply(self, model: Model, context: Context) -> Model:
        original = teacher(context)
        given = lesson(context, original)
        x = np.concatenate([given.x, *made_up(given.x, self.rows, self.swapped, context.seed)])
        context.progress(0.0, "asking the original")
        first = original.base / original.divisor
        scores = scored(original, x).reshape(len(x), -1) - first
        trees = original.trees // (original.outputs if original.values.shape[1] == 1 else 1)
        rounds = max(1, round(trees * (1 - self.amount)))
        leaves = max(2, round(len(np.unique(original.leaf)) / max(original.trees, 1) * self.leaves))
        rate = float(np.clip(PACE / rounds, *RATES))
        learned = taught(replace(given, x=x).only(used(ForestFormat().forest(model))), scores, rounds, leaves, rate)
        return save(like(original, learned, first), context.folder)


def made_up(x: Array, copies: int, share: float, seed: int) -> list[Array]:
    """Rows that differ from those of x [samples, features] in a share of their columns, which other rows give."""
    random = np.random.default_rng([seed, 0])
    found = []
    for _ in range(copies):
        copy = x.copy()
        for column in copy.T:
            changed = np.flatnonzero(random.random(len(x)) < share)
            column[changed] = column[random.integers(len(x), size=len(changed))]
        found.append(copy)
    return found


def scored(forest: Forest, x: Array) -> Array:
    """The sums by the divisor, before the link, [samples] or [samples, outputs]; compiled, where that pays."""
    plain = replace(forest, link="identity")
    if len(x) * forest.trees < WORTH_COMPILING or compiler() is None:
        return plain.predict(x)
    with tempfile.TemporaryDirectory(prefix="strop-") as scratch:
        folder = Path(scratch)
        write_source(plain, folder)
        build(folder, folder / "model.so")
        return Library(folder / "model.so", plain.dtype, plain.sums, plain.width)(x)


def like(original: Forest, learned: Sequence[Forest], base: Array) -> Forest:
    """One forest of a forest for each output, that takes and gives what the original does."""
    parts = [{name: getattr(one, name) for name in (*Forest.ARRAYS[:12], "values")} for one in learned]
    whole = joined(
        parts, np.arange(len(parts)), base, original.features, names=original.names, dtype=original.dtype,
        sums=original.sums, link=original.link, scale=original.scale,
    )  # fmt: skip
    starts = np.cumsum([0, *(len(one.feature) for one in learned[:-1])])
    roots = np.concatenate([one.roots + start for one, start in zip(learned, starts, strict=True)])
    output = np.repeat(np.arange(len(parts)), [one.trees for one in learned])
    order = np.lexsort((output, np.concatenate([np.arange(one.trees) for one in learned])))  # round by round
    threshold = whole.threshold
    if original.dtype == "float32":  # the greatest that is not above: no float32 lies between
        with np.errstate(over="ignore"):
            rounded = threshold.astype(np.float32)
        threshold = np.where(rounded > threshold, np.nextafter(rounded, np.float32(-np.inf)), rounded)
    return replace(whole, roots=roots[order], output=output[order], threshold=threshold).check()
