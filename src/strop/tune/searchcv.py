"""SearchCV: scikit-learn's own search, by Optuna where the grid is larger than the trials allowed.

It is a `BaseSearchCV` with another `_run_search`: folds, scorers, routing, refit and `cv_results_` are scikit-learn's,
and so are its promises. That base is not in scikit-learn's public index. It is what its own four searches and those of
other packages (scikit-optimize, dask-ml) derive from; `_run_search` and what it may call are documented and tested
there, and have changed once in eight years. Anything else would be a second implementation of all of it.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from joblib import effective_n_jobs
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import check_cv
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from .asking import STARTS, Asking, Sampler, default
from .space import Space


class SearchCV(BaseSearchCV):  # type: ignore[misc]  # scikit-learn ships no types
    """Search over parameters with cross-validation, in the place of GridSearchCV and RandomizedSearchCV.

    A grid that has at most `trials` points is searched exhaustively, in its own order, as GridSearchCV does, and of
    ties the first wins. A larger one, or a distribution, is searched by `sampler`; no point is tried twice. An
    interrupt then ends the search, and the best so far is refitted; a point at which every fold fails is warned of, and
    is not in `cv_results_`. It is searched by the score that `refit` names, else by the first.

    Args:
        estimator: Of scikit-learn's kind, or a pipeline.
        param_grid: A dict of lists, of frozen distributions of scipy's, of distributions of Optuna's or of ranges as
            `{"low": 1e-4, "high": 1, "log": True}`; or a list of such dicts, each of which is a space of its own.
        trials: Points to try at the most.
        sampler: `gp` (a Gaussian process over all points of a space that can be enumerated), `tpe` (tree-structured
            Parzen estimator), `random` or `nsga2`; by default `gp` where there are at most 20,000 points, else `tpe`.
        random_state: Of what is drawn.
        scoring, n_jobs, refit, cv, verbose, pre_dispatch, error_score, return_train_score: As of GridSearchCV.

    Attributes:
        best_params_, best_score_, best_estimator_, best_index_, cv_results_, scorer_, n_splits_, refit_time_,
            multimetric_, classes_, n_features_in_, feature_names_in_: As of GridSearchCV.

    Raises:
        InvalidPlan: By `fit`: the space is empty or can't be read.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseSearchCV._parameter_constraints,
        "param_grid": [dict, list, tuple],
        "trials": [Interval(Integral, 1, None, closed="left")],
        "sampler": [StrOptions({"gp", "tpe", "random", "nsga2"}), None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator: Any,
        param_grid: Any,
        *,
        trials: int = 100,
        sampler: Sampler | None = None,
        random_state: Any = None,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: bool | str | Callable[..., int] = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: int | str = "2*n_jobs",
        error_score: Any = np.nan,
        return_train_score: bool = False,
    ):
        super().__init__(
            estimator=estimator, scoring=scoring, n_jobs=n_jobs, refit=refit, cv=cv, verbose=verbose,
            pre_dispatch=pre_dispatch, error_score=error_score, return_train_score=return_train_score,
        )  # fmt: skip
        self.param_grid = param_grid
        self.trials = trials
        self.sampler = sampler
        self.random_state = random_state

    @property
    def _space(self) -> Space:
        return Space.of(self.param_grid)

    def _check_input_parameters(self, X: Any, y: Any, split_params: dict[str, Any]) -> None:
        """Draw the folds once: a shuffled splitter would draw others for each batch of candidates."""
        if self._space.size > self.trials:
            given: Any = self._checked_cv_orig
            self._checked_cv_orig: Any = check_cv(list(given.split(X, y, **split_params)))

    def _run_search(self, evaluate_candidates: Callable[..., dict[str, Any]], *, callback_ctx: Any) -> None:
        space = self._space

        def evaluate(candidates: list[dict[str, Any]], context: Any) -> dict[str, Any]:
            fits = len(candidates) * self.n_splits_
            within = context.subcontext(task_name="search", max_subtasks=fits, sequential_subtasks=False)
            within.call_on_fit_task_begin(estimator=self)
            results = evaluate_candidates(candidates, callback_ctx=within)
            within.call_on_fit_task_end(estimator=self)
            return results

        if space.size <= self.trials:
            evaluate([space.params(point) for point in space], callback_ctx)
            return
        batches = callback_ctx.subcontext(task_name="batches", max_subtasks=None)
        batches.call_on_fit_task_begin(estimator=self)
        self._model(space, lambda candidates: evaluate(candidates, batches))
        batches.call_on_fit_task_end(estimator=self)

    def _model(self, space: Space, evaluate: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> None:
        """Random points first, then in batches that keep all processes busy."""
        seed = int(check_random_state(self.random_state).randint(2**31))
        asking = Asking(space, self.sampler or default(space, self.trials, plain=True), seed=seed)
        asked_for, done, warned = 0, 0, False
        batch = math.ceil(effective_n_jobs(self.n_jobs) / self.n_splits_)
        while asked_for < self.trials:
            size = min(STARTS if done == 0 else batch, self.trials - asked_for)
            asked = [found for found in (asking.ask() for _ in range(size)) if found is not None]
            asked_for += len(asked)
            if not asked:
                return
            scores = np.full(len(asked), np.nan)
            try:
                with warnings.catch_warnings():
                    if warned:  # scikit-learn says it of all points so far, with every batch
                        warnings.filterwarnings("ignore", "One or more of the .* scores are non-finite")
                    results = evaluate([dict(each.params) for each in asked])
                scores, done = results[self._judged(results)][done:], len(results["params"])
                warned = any(np.isnan(results[name]).any() for name in results if name.startswith("mean_test_"))
            except KeyboardInterrupt:
                if done == 0:
                    raise
                warnings.warn(f"interrupted: the best of {done} points is taken.", stacklevel=2)
                return
            except ValueError as error:
                # scikit-learn takes it for a mistake where a whole batch fails; after one that did not, it is none
                if done == 0 or not re.search(r"All the \d+ fits failed", str(error)):
                    raise
                warnings.warn(str(error), FitFailedWarning, stacklevel=2)
            for each, score in zip(asked, scores, strict=True):
                asking.tell(each, float(score) if math.isfinite(score) else None)

    def _judged(self, results: dict[str, Any]) -> str:
        """The score to search by: that of `refit`; the first where that names none."""
        named = f"mean_test_{self.refit}"
        return named if named in results else next(name for name in results if name.startswith("mean_test_"))
