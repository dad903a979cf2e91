"""scikit-learn itself, by the fastest call that it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .._lazy import lazy, require
from ..errors import RunFailed, UnsupportedModel, UntrustedModel
from ..formats.sklearn import load
from ..model import SKLEARN, Batch, Format, Model
from ..runtime import Runtime
from ..target import Target

if TYPE_CHECKING:
    import threadpoolctl
else:
    threadpoolctl = lazy("threadpoolctl")

_MANY = 1000  # rows below which trees take no longer than handing them to threads


@dataclass(frozen=True)
class Sklearn(Runtime):
    """scikit-learn: `predict_proba` of a classifier, `predict` of a regressor, on an array."""

    loads: ClassVar[frozenset[Format]] = frozenset({SKLEARN})
    apart: ClassVar[frozenset[Format]] = loads
    module: ClassVar[str] = "sklearn"

    def start(self) -> None:
        for name in ("sklearn.ensemble", "skops.io"):
            require(name)

    def load(self, model: Model, target: Target) -> _Runner:
        try:
            estimator = load(model.path)
        except (UnsupportedModel, UntrustedModel) as error:
            raise RunFailed(str(error)) from error
        return _Runner(estimator, model, target)


class _Runner:
    def __init__(self, estimator: Any, model: Model, target: Target):
        (rows,), (result,) = model.signature.inputs, model.signature.outputs
        self.rows, self.result = rows.name, result.name
        self.limits = threadpoolctl.threadpool_limits(target.threads, user_api="openmp")  # of HistGradientBoosting
        if "n_jobs" in estimator.get_params(deep=False):
            estimator.set_params(n_jobs=target.threads if target.batch >= _MANY else 1)
        estimator.verbose = 0
        _forget_names(estimator)
        self.predict = getattr(estimator, "predict_proba", estimator.predict)

    def __call__(self, batch: Batch) -> dict[str, np.ndarray[Any, Any]]:
        try:
            return {self.result: self.predict(batch[self.rows])}
        except ValueError as error:  # what its own checks of the input raise
            raise RunFailed(f"scikit-learn: {str(error).splitlines()[0]}") from error

    def bind(self, batch: Batch) -> Callable[[], object]:
        predict, x = self.predict, batch[self.rows]
        return lambda: predict(x)

    def close(self) -> None:
        self.limits.restore_original_limits()
        del self.predict


def _forget_names(estimator: Any) -> None:
    """Columns come in their order, in an array: their names would only make scikit-learn warn that it has none."""
    encoders = getattr(getattr(estimator, "_preprocessor", None), "named_transformers_", {})
    for part in (estimator, getattr(estimator, "_preprocessor", None), *dict(encoders).values()):
        if hasattr(part, "feature_names_in_"):
            del part.feature_names_in_
