"""scikit-learn: ensembles fitted anew with the parameters of the estimator, on the columns that are kept."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .._lazy import lazy
from ..errors import NotApplicable
from ..forest import Array, Forest
from ..formats.sklearn import SklearnFormat, load
from ..model import Model
from .trees import Changes, Lesson, Library

if TYPE_CHECKING:
    import threadpoolctl
    from sklearn import base
else:
    base = lazy("sklearn.base", "sklearn")
    threadpoolctl = lazy("threadpoolctl")

STEPS = 20  # times that a forest is added to, and the clock looked at
_MOST = np.finfo(np.float32).max  # infinity, which most refuse, is on the same side of all thresholds as this


class Sklearn(Library):
    """Takes the parameters that an estimator was made with, all but its seed."""

    module: ClassVar[str] = "sklearn"

    def train(self, original: Model, forest: Forest, lesson: Lesson, changes: Changes) -> Forest:
        first = load(original.path)
        labels = lesson.numbers()
        if hasattr(first, "classes_"):
            labels = first.classes_[lesson.classes(len(first.classes_)).astype(np.int64)]
            if missing := sorted(set(first.classes_.tolist()) - set(labels.tolist())):
                raise NotApplicable(f"the train data have no sample of class {missing[0]!r}, which it knows")
        with refusing(), threadpoolctl.threadpool_limits(lesson.threads, "openmp"):
            made = base.clone(first).set_params(
                **_changed(first, forest, changes), **_of_columns(first, lesson.kept), **_fixed(first, lesson)
            )
            _fit(made, _matrix(first, lesson), labels, _rounds(first, changes), lesson)
        room = SklearnFormat()
        found = room.forest(room.open(made))
        feature = np.where(found.feature >= 0, lesson.kept[found.feature], -1)
        return replace(found, feature=feature, features=forest.features)

    def contributions(self, original: Model, x: Array) -> Array:
        raise NotApplicable("scikit-learn tells no SHAP values; use permutation or gain")


def _fit(made: Any, x: Array, labels: Array, rounds: int, lesson: Lesson) -> None:
    """With an eye on each round: boosting calls back, and a forest is grown a few trees at a time, to the same result.

    A single tree has one round.
    """
    if hasattr(made, "max_iter"):  # HistGradientBoosting, which calls what scores it
        made.set_params(
            max_iter=rounds, early_stopping=True, validation_fraction=None, n_iter_no_change=rounds + 1,
            scoring=_Score(lesson, rounds),
        )  # fmt: skip
        made.fit(x, labels)
    elif hasattr(made, "init"):  # GradientBoosting
        made.set_params(n_estimators=rounds, n_iter_no_change=None)
        made.fit(x, labels, monitor=lambda done, *_: lesson.tick(done + 1, rounds))
    elif hasattr(made, "n_estimators"):
        step = max(lesson.threads, -(-rounds // STEPS))
        for done in [*range(step, rounds, step), rounds]:
            made.set_params(warm_start=True, n_estimators=done).fit(x, labels)
            lesson.tick(done, rounds)
    else:
        made.fit(x, labels)
        lesson.tick(1, 1)


class _Score:
    """Says after each round that it is neither better nor worse."""

    def __init__(self, lesson: Lesson, rounds: int):
        self.lesson, self.rounds = lesson, rounds

    def __call__(self, made: Any, x: Array, labels: Array) -> float:
        if done := len(made._predictors):
            self.lesson.tick(done, self.rounds)
        return 0.0


def _rounds(first: Any, changes: Changes) -> int:
    """As many as it has: training may have ended before the number that was asked for."""
    had = getattr(first, "n_iter_", None) or len(getattr(first, "estimators_", [first]))
    return max(1, round(had * changes.rounds))


def _changed(first: Any, forest: Forest, changes: Changes) -> dict[str, Any]:
    given = first.get_params(deep=False)
    found: dict[str, Any] = {"min_samples_leaf": _least(given["min_samples_leaf"], changes.least)}
    if given["max_leaf_nodes"] is not None:
        found["max_leaf_nodes"] = max(2, round(given["max_leaf_nodes"] * changes.leaves))
    elif given["max_depth"] is not None:
        found["max_depth"] = max(1, round(given["max_depth"] + np.log2(changes.leaves)))
    elif changes.leaves < 1:  # unbounded: of what its trees have
        leaves = int(((forest.tree >= 0) & (forest.feature < 0)).sum()) / max(1, forest.trees)
        found["max_leaf_nodes"] = max(2, round(leaves * changes.leaves))
    if "learning_rate" in given:
        found["learning_rate"] = min(1.0, given["learning_rate"] * changes.rate)
    return found


def _least(given: float, ratio: float) -> float:
    """Samples of a leaf, or (a fraction) their share of all."""
    return max(1, round(given * ratio)) if isinstance(given, Integral) else min(given * ratio, 0.5)


def _fixed(first: Any, lesson: Lesson) -> dict[str, Any]:
    """What does not depend on the original."""
    given = first.get_params(deep=False)
    fixed = {"random_state": lesson.seed, "n_jobs": lesson.threads, "verbose": 0, "oob_score": False}
    return {name: fixed[name] for name in fixed.keys() & given.keys()}


def _of_columns(first: Any, kept: Array) -> dict[str, Any]:
    """The parameters that speak of columns, of those that are kept.

    Raises:
        NotApplicable: They name columns that the estimator does not know by name.
    """
    given, names = first.get_params(deep=False), list(map(str, getattr(first, "feature_names_in_", ())))
    found: dict[str, Any] = {}
    if isinstance(most := given.get("max_features"), Integral):
        found["max_features"] = min(most, len(kept))
    if (signs := given.get("monotonic_cst")) is not None:
        if isinstance(signs, Mapping):
            signs = [signs.get(name, 0) for name in names]
        found["monotonic_cst"] = np.asarray(signs)[kept]
    if "categorical_features" in given:
        flags = first.is_categorical_
        found["categorical_features"] = None if flags is None else np.asarray(flags, bool)[kept]
    if (sets := given.get("interaction_cst")) is not None and not isinstance(sets, str):
        new = {int(old): place for place, old in enumerate(kept)}
        together = [{new[column] for column in one if column in new} for one in sets]
        found["interaction_cst"] = [one for one in together if one]
    return found


def _matrix(first: Any, lesson: Lesson) -> Array:
    """The columns that are kept; a category that can be none counts as missing."""
    x = np.clip(lesson.x, -_MOST, _MOST)
    if (flags := getattr(first, "is_categorical_", None)) is not None:
        whole = np.floor(x[:, flags])
        x[:, flags] = np.where(whole >= 0, whole, np.nan)
    return x[:, lesson.kept]


@contextmanager
def refusing() -> Iterator[None]:
    """Turns what scikit-learn does not fit into a refusal; of its warnings, none is about what was given here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (TypeError, ValueError) as error:  # of values that a file may hold, too
            said = (str(error).strip().splitlines() or [""])[0][:300]
            raise NotApplicable(f"scikit-learn does not fit it anew: {said}") from error
