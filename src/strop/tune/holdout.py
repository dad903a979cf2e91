"""Hold-out: samples that no fold of the search sees, and what the chosen candidate is worth on them."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..samples import Samples
from ..stats import Binary, Comparison, Exact, Statistic, bootstrap_timing
from .folds import LATENCIES, LONGEST, Case, prepared, size, timed
from .measures import Measure

Array = np.ndarray[Any, Any]

LEAST = 100  # samples of a hold-out, under which it says too little for what it takes from the search
BLOCKS = 10  # in which two estimators take turns to be timed
RESPONSES = ("predict", "predict_proba", "decision_function")


def split(X: Any, y: Any, groups: Any, cv: Any, share: float, seed: int) -> tuple[Array, Array]:
    """Rows of the search, and rows held out: classes in proportion, groups whole, of a series the last.

    None are held out where they would be fewer than 100, or a class has too few; then all rows are the search's.

    Args:
        cv: As given: folds that are rows are of all rows, so that none can be held out.
        share: 0 to 1.
    """
    from sklearn.model_selection import GroupShuffleSplit, TimeSeriesSplit, train_test_split
    from sklearn.utils.validation import _num_samples

    n = _num_samples(X)
    rows, none = np.arange(n), np.array([], int)
    listed = cv is not None and not isinstance(cv, int) and not hasattr(cv, "split")
    if share * n < LEAST or listed:
        return rows, none
    if isinstance(cv, TimeSeriesSplit):
        cut = n - round(share * n)
        return rows[:cut], rows[cut:]
    if groups is not None:
        kept, held = next(GroupShuffleSplit(1, test_size=share, random_state=seed).split(rows, groups=groups))
        return np.sort(kept), np.sort(held)
    stratify = None if y is None or np.ndim(y) != 1 or not _classes(y) else np.asarray(y)
    try:
        kept, held = train_test_split(rows, test_size=share, random_state=seed, stratify=stratify)
    except ValueError:  # a class of one sample
        return rows, none
    return np.sort(kept), np.sort(held)


def _classes(y: Any) -> bool:
    from sklearn.utils.multiclass import type_of_target

    return type_of_target(y) in ("binary", "multiclass")


@dataclass
class Answers:
    """What an estimator answered to some rows, in its place: scorers then ask no more."""

    fitted: Any
    outputs: Mapping[str, Array]

    def __post_init__(self) -> None:
        self.classes_ = getattr(self.fitted, "classes_", None)

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import get_tags

        return get_tags(self.fitted)

    def __getattr__(self, name: str) -> Any:
        outputs = self.__dict__.get("outputs", {})
        if name not in outputs:
            raise AttributeError(name)

        def answer(rows: Any) -> Array:
            found: Array = outputs[name]
            return found

        answer.__name__ = name  # by which scikit-learn tells them apart
        return answer

    def score(self, rows: Any, y: Any) -> float:
        """As regressors have it that have none of their own."""
        from sklearn.metrics import r2_score

        return float(r2_score(y, self.outputs["predict"]))


def quality(
    measure: Measure, original: Any, candidate: Any, X: Any, y: Any, groups: Array | None, seed: int
) -> Comparison:
    """Original and candidate on the hold-out: shares of right answers as counts, else resampled together; two numbers
    without spread where a scorer of the user's own looks at more than answers."""
    from sklearn.metrics import accuracy_score

    scorer, labels = measure.scorer, np.asarray(y)
    function = getattr(scorer, "_score_func", None)
    own = {getattr(type(fitted), "score", None) for fitted in (original, candidate)}
    if "Passthrough" in type(scorer).__name__:
        function = _plain_score(own)
    if function is None or y is None:
        return Exact(*(measure.sign * float(scorer(fitted, X, y)) for fitted in (original, candidate)))
    if function is accuracy_score and labels.ndim == 1 and not getattr(scorer, "_kwargs", None):
        before, after = ((np.asarray(fitted.predict(X)) == labels).astype(float) for fitted in (original, candidate))
        return Binary(before, after) if groups is None else Samples(before, after, groups, bounds=(0, 1), seed=seed)
    sides = [
        {**_answers(fitted, X), "side": np.full(len(labels), at)} for at, fitted in enumerate((original, candidate))
    ]

    def statistic(outputs: Any, of: Array) -> float:
        fitted = (original, candidate)[int(outputs["side"][0])]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a resample that lacks a class
                return float(measure.sign * scorer(Answers(fitted, outputs), np.arange(len(of)), of))
        except ValueError:
            return float("nan")

    return Statistic(statistic, sides[0], sides[1], labels, groups, seed=seed)


def _plain_score(own: Collection[Any]) -> Any:
    """What `score` of scikit-learn's classifiers and regressors computes; None for one of an estimator's own."""
    from sklearn.base import ClassifierMixin, RegressorMixin
    from sklearn.metrics import accuracy_score, r2_score

    return {ClassifierMixin.score: accuracy_score, RegressorMixin.score: r2_score}.get(*own) if len(own) == 1 else None


def _answers(fitted: Any, X: Any) -> dict[str, Array]:
    found = {}
    for name in RESPONSES:
        if hasattr(fitted, name):
            found[name] = np.asarray(getattr(fitted, name)(X))
    return found


def cost(name: str, case: Case, original: Any, candidate: Any, X: Any, rows: Array, seed: int) -> Comparison | None:
    """A cost of the two that are fitted; None for what only fitting tells."""
    if name == "size":
        return Exact(size(original), size(candidate))
    if name not in LATENCIES:
        return None
    calls = [prepared(fitted, X, rows[: case.batch]) for fitted in (original, candidate)]
    taken: tuple[list[Array], list[Array]] = ([], [])
    for _ in range(BLOCKS):  # in turns, so that whatever else the machine does hits both
        for call, blocks in zip(calls, taken, strict=True):
            blocks.append(np.array(timed(call, 50, LONGEST)))
    statistic = name.partition(".")[2]
    pairs = [[[block] for block in blocks] for blocks in taken]
    return bootstrap_timing(pairs[0], pairs[1], statistic, seed)
