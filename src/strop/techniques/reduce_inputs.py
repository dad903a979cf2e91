"""Fewer numbers into the last step, and that step trained anew."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .._lazy import lazy
from ..errors import NotApplicable, TechniqueError
from ..formats.sklearn import Called, SklearnFormat, load, steps
from ..model import SKLEARN, Format, Model
from ..settings import choice, span
from ..target import Target, usable_cores
from ..technique import Context, Needs, Phase, Technique
from ..training.trees import FEWEST

if TYPE_CHECKING:
    import threadpoolctl
    from sklearn import base, decomposition, feature_selection, pipeline
else:
    base, decomposition = lazy("sklearn.base"), lazy("sklearn.decomposition")
    feature_selection, pipeline = lazy("sklearn.feature_selection"), lazy("sklearn.pipeline")
    threadpoolctl = lazy("threadpoolctl")


@dataclass(frozen=True)
class ReduceInputs(Technique):
    """Put a projection or a selection in front of the last step, and train that anew with its own parameters.

    Attributes:
        by: `projection` is PCA, of texts and other sparse features truncated SVD; `selection` keeps the columns that
            tell most by themselves of the labels (an F test).
        amount: The share of numbers to do without.
    """

    by: str = choice("projection", "selection")
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
        if context.train is None:
            raise TechniqueError("training needs train data, and none are given")
        *front, last = steps(load(model.path))
        labels = _labels(context, last)
        called = Called(load(model.path), model.signature)
        given = called.input(context.train.batch(0, len(context.train)))
        x = pipeline.make_pipeline(*front).transform(given) if front else given
        count = round(x.shape[1] * (1 - self.amount))
        if not 1 <= count < x.shape[1]:
            raise NotApplicable(f"of {x.shape[1]} numbers, {count} would be left")
        reducer = self._reducer(hasattr(x, "tocsr"), count, hasattr(last, "classes_"), context.seed)
        fitted = base.clone(last)
        fixed = {"random_state": context.seed, "n_jobs": len(usable_cores()), "verbose": 0}
        fitted.set_params(**{name: fixed[name] for name in fixed.keys() & fitted.get_params(deep=False).keys()})
        context.progress(0.0, "training it anew")
        with threadpoolctl.threadpool_limits(len(usable_cores())):
            fitted.fit(reducer.fit_transform(x, labels), labels)
        made = pipeline.make_pipeline(*front, reducer, fitted)
        stored = SklearnFormat().store(dataclasses.replace(model, payload=made, files=()), context.folder)
        return dataclasses.replace(stored, signature=model.signature)

    def _reducer(self, sparse: bool, count: int, classifies: bool, seed: int) -> Any:
        if self.by == "selection":
            test = feature_selection.f_classif if classifies else feature_selection.f_regression
            return feature_selection.SelectKBest(test, k=count)
        if sparse:
            return decomposition.TruncatedSVD(count, random_state=seed)
        return decomposition.PCA(count, random_state=seed)


def _labels(context: Context, last: Any) -> np.ndarray[Any, Any]:
    """The labels as the estimator was trained with them.

    Raises:
        NotApplicable: There are none, too few, or other ones than it knows.
    """
    given = context.train.label_array() if context.train is not None else None
    if given is None or given.ndim != 1:
        raise NotApplicable("training it anew needs one label a sample, and the train data have none")
    if len(given) < FEWEST:
        raise NotApplicable(f"training needs {FEWEST} samples at the least, and there are {len(given)}")
    if not hasattr(last, "classes_"):
        return given
    missing = np.setdiff1d(np.arange(len(last.classes_)), given)
    if given.dtype.kind not in "iub" or len(missing) or given.max() >= len(last.classes_):
        raise NotApplicable(f"labels must be all of its {len(last.classes_)} classes, by number from 0")
    return np.asarray(last.classes_[given])
