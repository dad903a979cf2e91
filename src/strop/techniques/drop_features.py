"""Features that matter least, left out for good."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ..errors import NotApplicable, TechniqueError
from ..forest import Array, Forest
from ..formats.forest import ForestFormat, save
from ..model import FOREST, Format, Model
from ..settings import choice, span
from ..target import Target
from ..technique import Context, Needs, Phase, Technique
from ..training.boosting import library_of, must_stay, retrain_forest
from ..training.trees import Changes, used

ROWS = 1000  # samples that importance is told by


@dataclass(frozen=True)
class DropFeatures(Technique):
    """Leave out the features that matter least, and train the original anew on the others, its parameters unchanged.

    The model still takes all columns, and looks at fewer of them. Features that are to stay are named by `keep` of the
    training settings.

    Attributes:
        by: What tells how much a feature matters: `permutation`, by how much the scores change where its values are
            shuffled (Breiman 2001, section 10); `gain`, what its splits gained in training; `shap`, the mean size of
            its SHAP values (Lundberg et al. 2020).
        amount: The share to leave out of the features that the model looks at.
    """

    by: str = choice("permutation", "gain", "shap")
    amount: float = span(0.5, 0.1, 0.9, strength=True)

    accepts: ClassVar[frozenset[Format]] = frozenset({FOREST})
    phase: ClassVar[Phase] = Phase.SHRINK
    needs: ClassVar[Needs] = Needs.TRAINING

    def expects(self, target: Target) -> float:
        return 1 - 0.1 * self.amount  # as many splits as before, in fewer columns

    def requires(self, model: Model, target: Target) -> None:
        if model.counts.get("features", 2) < 2:
            raise NotApplicable("it looks at one feature at the most, and none can be left out")

    def apply(self, model: Model, context: Context) -> Model:
        library_of(context)
        forest = ForestFormat().forest(model)
        features = used(forest)
        droppable = np.setdiff1d(features, must_stay(context, forest))
        count = min(max(1, round(self.amount * len(features))), len(features) - 1)
        if len(droppable) < count:
            raise NotApplicable(
                f"{count} of its {len(features)} features would go, and {len(features) - len(droppable)} are to be kept"
            )
        context.progress(0.0, f"importance by {self.by}")
        importance = IMPORTANCES[self.by](forest, context)[droppable]
        dropped = droppable[np.argsort(importance, kind="stable")[:count]]
        return save(retrain_forest(context, np.setdiff1d(features, dropped), Changes()), context.folder)


def by_gain(forest: Forest, context: Context) -> Array:
    """What the splits of each feature gained in training: [features].

    Raises:
        NotApplicable: The library does not tell.
    """
    splits = (forest.tree >= 0) & (forest.feature >= 0)
    if np.isnan(forest.gain[splits]).any():
        raise NotApplicable("its splits do not tell what they gained; use permutation or shap")
    return np.bincount(forest.feature[splits], forest.gain[splits], forest.features)


def by_permutation(forest: Forest, context: Context) -> Array:
    """The mean square by which the scores change where the values of a feature are shuffled: [features]."""
    x, random = _sample(context), np.random.default_rng([context.seed, 0])
    found, before = np.zeros(forest.features), forest.leaf[forest.leaves(x)]
    for feature in used(forest):
        looking = np.unique(forest.tree[(forest.tree >= 0) & (forest.feature == feature)])
        trees = replace(forest, roots=forest.roots[looking], output=forest.output[looking])
        shuffled = x.copy()
        shuffled[:, feature] = random.permutation(x[:, feature])
        moved = forest.values[forest.leaf[trees.leaves(shuffled)]] - forest.values[before[:, looking]]
        per_output = [moved[:, trees.output == output].sum(axis=1) for output in range(forest.outputs)]
        found[feature] = np.square(per_output).mean()
        context.progress(0.0, f"importance of feature {feature} of {forest.features}")
    return found


def by_shap(forest: Forest, context: Context) -> Array:
    """The mean size of the SHAP values of the original, told by its own library: [features]."""
    return library_of(context).contributions(context.original, _sample(context))


IMPORTANCES: Mapping[str, Callable[[Forest, Context], Array]] = {
    "gain": by_gain,
    "permutation": by_permutation,
    "shap": by_shap,
}


def _sample(context: Context) -> Array:
    """Some of the train data: [samples, features]."""
    if context.train is None:
        raise TechniqueError("importance needs train data, and none are given")
    (tensor,) = context.original.signature.inputs
    rows = np.random.default_rng([context.seed, 1]).permutation(len(context.train))[:ROWS]
    chosen = context.train.take(np.sort(rows))
    return chosen.batch(0, len(chosen))[tensor.name]
