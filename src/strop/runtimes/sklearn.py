"""scikit-learn itself, by the fastest call that it has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .._lazy import lazy, require
from .._quiet import without
from ..errors import NotApplicable, RunFailed, UnsupportedModel, UntrustedModel
from ..formats.sklearn import Called, load
from ..model import SKLEARN, Batch, Format, Model
from ..runtime import SECONDS, Profiled, Runtime
from ..target import Target
from ._step_times import Watch, profiled

if TYPE_CHECKING:
    import threadpoolctl
else:
    threadpoolctl = lazy("threadpoolctl")

_MANY = 1000  # rows below which trees take no longer than handing them to threads


@dataclass(frozen=True)
class Sklearn(Runtime):
    """scikit-learn: `predict_proba`, `decision_function` or `predict`, on an array, a frame, or a list of texts."""

    loads: ClassVar[frozenset[Format]] = frozenset({SKLEARN})
    apart: ClassVar[frozenset[Format]] = loads
    module: ClassVar[str] = "sklearn"

    def start(self) -> None:
        with without("pandas", "pytest"):  # frames bring it where they are made
            for name in ("sklearn.ensemble", "skops.io"):
                require(name)

    def load(self, model: Model, target: Target) -> _Runner:
        try:
            estimator = load(model.path)
        except (UnsupportedModel, UntrustedModel) as error:
            raise RunFailed(str(error)) from error
        return _Runner(estimator, model, target)

    def profiled(self, model: Model, target: Target, batches: Sequence[Batch], seconds: float = SECONDS) -> Profiled:
        if "trees" in model.counts:
            raise NotApplicable("the trees of an ensemble are run by one loop, in which none is timed")
        plain, watched = self.load(model, target), self.load(model, target)
        watch = watched.watch()
        try:
            bound = ([runner.bind(batch) for batch in batches] for runner in (plain, watched))
            return profiled(next(bound), watch, next(bound), target.threads, seconds)
        finally:
            watched.close()
            plain.close()


class _Runner:
    def __init__(self, estimator: Any, model: Model, target: Target):
        self.limits = threadpoolctl.threadpool_limits(target.threads)
        jobs = [name for name in estimator.get_params(deep=True) if name.split("__")[-1] == "n_jobs"]
        estimator.set_params(**dict.fromkeys(jobs, target.threads if target.batch >= _MANY else 1))
        self.estimator, self.signature = estimator, model.signature
        self.called = Called(estimator, model.signature)

    def __call__(self, batch: Batch) -> dict[str, np.ndarray[Any, Any]]:
        return {self.called.result.name: self.called(batch)}

    def bind(self, batch: Batch) -> Callable[[], object]:
        method, x = self.called.method, self.called.input(batch)
        return lambda: method(x)

    def watch(self) -> Watch:
        """Have its steps timed from now on."""
        watch = Watch(self.estimator, self.called.method.__name__)
        self.called = Called(self.estimator, self.signature)
        return watch

    def close(self) -> None:
        self.limits.restore_original_limits()
        del self.called, self.estimator
