"""A pipeline whose last step does nothing: what it takes is what the pipeline spends before that step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._lazy import lazy
from ..errors import NotApplicable
from ._pipelines import steps

if TYPE_CHECKING:
    from sklearn import base, dummy, linear_model
else:
    base, dummy, linear_model = lazy("sklearn.base"), lazy("sklearn.dummy"), lazy("sklearn.linear_model")


def is_idle(last: Any) -> bool:
    """Whether it is a constant, or, where decision values are asked for, a product with zeros."""
    kind = type(last).__name__
    return kind in ("DummyClassifier", "DummyRegressor") or (kind == "RidgeClassifier" and not last.coef_.any())


def without_last(pipeline: Any) -> Any:
    """The same pipeline, changed in place, with a last step that answers in the same shape, and knows nothing.

    Raises:
        NotApplicable: It is no pipeline, or ends in what nothing simple can stand in for.
    """
    if len(steps(pipeline)) < 2:
        raise NotApplicable("it is neither an ensemble of trees nor a pipeline, of which something can be left out")
    inner = pipeline
    while type(inner.steps[-1][1]).__name__ == "Pipeline":
        inner = inner.steps[-1][1]
    name, last = inner.steps[-1]
    inner.steps[-1] = (name, _idle(last))
    return pipeline


def _idle(last: Any) -> Any:
    if base.is_regressor(last):
        return dummy.DummyRegressor().fit(np.zeros((2, 1)), np.zeros(2))
    if not base.is_classifier(last):
        raise NotApplicable("it ends in a detector of outliers, for which nothing simple can stand in")
    if hasattr(last, "predict_proba"):
        return dummy.DummyClassifier().fit(np.zeros((len(last.classes_), 1)), last.classes_)
    return linear_model.RidgeClassifier().fit(np.zeros((len(last.classes_), last.n_features_in_)), last.classes_)
