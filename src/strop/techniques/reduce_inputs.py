"""Fewer numbers into the last step, and that step trained anew."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .._lazy import lazy
from ..errors import NotApplicable
from ..formats.sklearn import SklearnFormat, load, steps
from ..model import SKLEARN, Format, Model
from ..settings import choice, span
from ..target import Target
from ..technique import Context, Needs, Phase, Technique
from ..training.sklearn import refusing
from ._anew import fitted, given

if TYPE_CHECKING:
    from sklearn import base, decomposition, feature_selection, linear_model, pipeline, preprocessing, svm
else:
    base, decomposition = lazy("sklearn.base"), lazy("sklearn.decomposition")
    feature_selection, pipeline = lazy("sklearn.feature_selection"), lazy("sklearn.pipeline")
    linear_model, svm = lazy("sklearn.linear_model"), lazy("sklearn.svm")
    preprocessing = lazy("sklearn.preprocessing")

PENALTY = 0.01  # of the least under which nothing is left


@dataclass(frozen=True)
class ReduceInputs(Technique):
    """Put a projection or a selection in front of the last step, and train that anew with its own parameters.

    Attributes:
        by: `projection` is PCA, of texts and other sparse features truncated SVD; `selection` keeps the columns that
            tell most by themselves of the labels (an F test), `sparsity` those that a linear model with an L1 penalty
            weighs most (Tibshirani 1996).
        amount: The share of numbers to do without.
    """

    by: str = choice("projection", "selection", "sparsity")
    amount: float = span(0.5, 0.1, 0.95, strength=True)

    accepts: ClassVar[frozenset[Format]] = frozenset({SKLEARN})
    phase: ClassVar[Phase] = Phase.SHRINK
    needs: ClassVar[Needs] = Needs.TRAINING

    def expects(self, target: Target) -> float:
        return float(1 - 0.3 * self.amount)  # what checks of the input take stays

    def requires(self, model: Model, target: Target) -> None:
        if "trees" in model.counts:
            raise NotApplicable("an ensemble of trees does without features as a forest (drop-features)")

    def apply(self, model: Model, context: Context) -> Model:
        *front, last = steps(load(model.path))
        x, labels = given(context, last)
        if labels is None and self.by != "projection":
            raise NotApplicable("what a column tells is seen by labels, and a detector of outliers has none")
        x = pipeline.make_pipeline(*front).transform(x) if front else x
        count = round(x.shape[1] * (1 - self.amount))
        if not 1 <= count < x.shape[1]:
            raise NotApplicable(f"of {x.shape[1]} numbers, {count} would be left")
        with refusing():
            reducer = self._reducer(x, labels, count, hasattr(last, "classes_"), context.seed)
            x = reducer.transform(x)
        learned = fitted(base.clone(last), x, labels, context)
        made = pipeline.make_pipeline(*front, reducer, learned)
        stored = SklearnFormat().store(dataclasses.replace(model, payload=made, files=()), context.folder)
        return dataclasses.replace(stored, signature=model.signature)

    def _reducer(self, x: Any, labels: Any, count: int, classifies: bool, seed: int) -> Any:
        """What takes the columns to fewer, fitted."""
        if self.by == "projection":
            kind = decomposition.TruncatedSVD if hasattr(x, "tocsr") else decomposition.PCA
            return kind(count, random_state=seed).fit(x)
        test = feature_selection.f_classif if classifies else feature_selection.f_regression
        made = feature_selection.SelectKBest(test, k=count).fit(x, labels)
        if self.by == "sparsity":
            made.scores_ = _weights(x, labels, classifies, seed)
        return made


def _weights(x: Any, labels: Any, classifies: bool, seed: int) -> Any:
    """How much a linear model under an L1 penalty weighs each column, all of one scale: [columns], many of them 0."""
    scaler = preprocessing.MaxAbsScaler() if hasattr(x, "tocsr") else preprocessing.StandardScaler()
    x = scaler.fit_transform(x)
    if classifies:
        learned = svm.LinearSVC(penalty="l1", dual=False, random_state=seed).fit(x, labels)
    else:
        wanted = labels - labels.mean()
        most = float(np.abs(x.T @ wanted).max()) / len(wanted)  # of the penalty, at which all weights are 0
        learned = linear_model.Lasso(max(PENALTY * most, 1e-12)).fit(x, wanted)
    return np.abs(np.atleast_2d(learned.coef_)).max(axis=0)
