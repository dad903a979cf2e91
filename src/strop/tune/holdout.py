"""Hold-out: samples that no fold of the search sees, and what the chosen candidate is worth on them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import metrics
from ..stats import Comparison, Exact, bootstrap_timing
from .folds import LATENCIES, LONGEST, Case, prepared, size, timed
from .measures import OWN, Measure

Array = np.ndarray[Any, Any]

LEAST = 100  # samples of a hold-out, under which it says too little for what it takes from the search
BLOCKS = 10  # in which two estimators take turns to be timed
_CODED = ("accuracy", "f1", "auroc", "average_precision", "log_loss")  # of classes, by their number


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


@dataclass(frozen=True)
class Seen:
    """What a metric of strop's sees of two estimators: the part of `Probe` that metrics of quality use."""

    original_outputs: dict[str, Array]
    candidate_outputs: dict[str, Array]
    labels: Array
    groups: Array | None
    seed: int


def quality(
    measure: Measure, original: Any, candidate: Any, X: Any, y: Any, groups: Array | None, seed: int
) -> Comparison | None:
    """Original and candidate on the hold-out, by strop's own metric; None where there is none for a scorer."""
    name = measure.house
    if name == OWN:
        name = _plain_score({getattr(type(_last(fitted)), "score", None) for fitted in (original, candidate)})
    labels = np.asarray(y)
    if name is None or labels.ndim != 1:
        return None
    if name in _CODED:
        labels = np.searchsorted(original.classes_, labels)
    before, after = ({"answers": _answers(fitted, X, name)} for fitted in (original, candidate))
    seen: Any = Seen(before, after, labels, groups, seed)
    return metrics.find(name).measure(seen)


def _last(fitted: Any) -> Any:
    """Of a pipeline the last step, whose score is its own."""
    from sklearn.pipeline import Pipeline

    while type(fitted) is Pipeline:
        fitted = fitted.steps[-1][1]
    return fitted


def _plain_score(own: Collection[Any]) -> str | None:
    """What `score` of scikit-learn's classifiers and regressors is; None for one of an estimator's own."""
    from sklearn.base import ClassifierMixin, RegressorMixin

    return {ClassifierMixin.score: "accuracy", RegressorMixin.score: "r2"}.get(*own) if len(own) == 1 else None


def _answers(fitted: Any, X: Any, name: str) -> Array:
    """Classes by number, scores of classes, or numbers, as the metric wants them."""
    if name in ("accuracy", "f1"):
        return np.asarray(np.searchsorted(fitted.classes_, fitted.predict(X)))
    if name in _CODED:
        scored = fitted.predict_proba if hasattr(fitted, "predict_proba") else fitted.decision_function
        return np.asarray(scored(X), np.float64)
    return np.asarray(fitted.predict(X), np.float64)


def cost(name: str, case: Case, original: Any, candidate: Any, X: Any, rows: Array, seed: int) -> Comparison | None:
    """A cost of the two that are fitted; None for what only fitting tells."""
    import threadpoolctl

    if name == "size":
        return Exact(size(original), size(candidate))
    if name not in LATENCIES:
        return None
    calls = [prepared(fitted, X, rows[: case.batch]) for fitted in (original, candidate)]
    taken: tuple[list[Array], list[Array]] = ([], [])
    with threadpoolctl.threadpool_limits(1):  # as in the folds
        for _ in range(BLOCKS):  # in turns, so that whatever else the machine does hits both
            for call, blocks in zip(calls, taken, strict=True):
                blocks.append(np.array(timed(call, 50, LONGEST)))
    statistic = name.partition(".")[2]
    pairs = [[[block] for block in blocks] for blocks in taken]
    return bootstrap_timing(pairs[0], pairs[1], statistic, seed)
