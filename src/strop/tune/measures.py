"""Measures: what a goal may speak of in a search over parameters, and how far a candidate keeps it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InvalidGoal, InvalidPlan
from ..goal import Better, Goal, Limit, Side
from .folds import COSTS

OWN = "score"
"""The metric of an estimator's own `score`, and of a function that returns one number."""


@dataclass(frozen=True)
class Measure:
    """A metric.

    Attributes:
        scorer: Of scikit-learn's kind; None for a cost, which is measured of what is fitted.
        sign: That makes of a score what the metric is.
        house: The metric of `strop.metrics` that is the same, or `score`; None where none is known to be.
    """

    name: str
    better: Better
    unit: str = ""
    scorer: Any = None
    sign: float = 1.0
    house: str | None = None


def read_goal(given: Goal | str | None) -> Goal:
    """A goal; where a text names no objective, the best `score` within its limits.

    Raises:
        InvalidGoal: It can't be read, or has a limit on a slice.
    """
    if given is None:
        goal = Goal((), OWN, "maximize")
    elif isinstance(given, str) and not any(word in given.split() for word in ("minimize", "maximize")):
        goal = Goal.parse(f"{given.rstrip().removesuffix(';')}; maximize {OWN}")
    else:
        goal = Goal.given(given)
    if sliced := [limit for limit in goal.limits if limit.scope == "worst_slice"]:
        raise InvalidGoal(f"`{sliced[0]}` can't be told here: folds have no slices. Limit {sliced[0].metric} itself.")
    return goal


def of_estimator(estimator: Any, y: Any, goal: Goal, scoring: Any) -> dict[str, Measure]:
    """The metrics that are measured of an estimator: those of the goal, and those of `scoring`.

    Raises:
        InvalidGoal: There is no such metric, or the goal does not fit it.
    """
    given = _of_scoring(estimator, scoring)
    named = {name: given.get(name) or _named(name, estimator, y) for name in goal.metrics}
    found = {**{name: measure for name, measure in named.items() if measure is not None}, **given}
    known = {**dict.fromkeys(_KNOWN, ""), **COSTS, **{name: measure.unit for name, measure in found.items()}}
    better: dict[str, Better] = {name: "higher" for name in known}
    better |= {name: "lower" for name in (*COSTS, "log_loss", "mse", "mae")}
    goal.check({**better, **{name: measure.better for name, measure in found.items()}}, known)
    if own := [name for name in goal.metrics if ":" in name and name not in found]:
        raise InvalidGoal(
            f"{own[0]} can't be judged by folds: give a scorer of your own as scoring={{'NAME': scorer}}."
        )
    return found


def of_function(goal: Goal) -> dict[str, Measure]:
    """The metrics that a user's own function is to return: those of the goal, by name."""
    better: Better = "lower" if goal.direction == "minimize" else "higher"
    found = {}
    for name in goal.metrics:
        side = next((limit.side for limit in goal.limits if limit.metric == name), None)
        way: Better = better if name == goal.objective or side is None else "lower" if side == "at_most" else "higher"
        found[name] = Measure(name, way, COSTS.get(name, ""))
    return found


@dataclass(frozen=True)
class Judge:
    """Says how far candidates keep the goal, by the means of what was measured on the same folds."""

    goal: Goal
    measures: Mapping[str, Measure]

    @property
    def sign(self) -> float:
        """Which turns the objective round so that more is better."""
        return 1.0 if self.goal.direction == "maximize" else -1.0

    def violations(self, values: Mapping[str, float], original: Mapping[str, float]) -> dict[str, float]:
        """By limit, how far it is broken, relative to its threshold; 0 where it is kept."""
        return {str(limit): self._violation(limit, values, original) for limit in self.goal.limits}

    def _violation(self, limit: Limit, values: Mapping[str, float], original: Mapping[str, float]) -> float:
        side, factor, constant = self.bound(limit)
        threshold = factor * original.get(limit.metric, np.nan) + constant if factor else constant
        gap = values.get(limit.metric, np.nan) - threshold
        gap = gap if side == "at_most" else -gap
        scale = abs(threshold) or 1.0
        return float(np.inf if np.isnan(gap) else max(0.0, gap / scale))

    def bound(self, limit: Limit) -> tuple[Side, float, float]:
        """Side, factor and constant of a limit, as `Limit.bound`."""
        return limit.bound(self.measures[limit.metric].better)


def _of_scoring(estimator: Any, scoring: Any) -> dict[str, Measure]:
    from sklearn.metrics import check_scoring, get_scorer

    if scoring is None:
        return {}
    try:
        if callable(scoring) or isinstance(scoring, str):
            return {OWN: Measure(OWN, "higher", scorer=check_scoring(estimator, scoring))}
        named = scoring if isinstance(scoring, Mapping) else {name: name for name in scoring}
        return {
            name: Measure(name, "higher", scorer=get_scorer(one) if isinstance(one, str) else one)
            for name, one in named.items()
        }
    except (ValueError, TypeError) as error:
        raise InvalidPlan(f"scoring must be what scikit-learn takes as such, and is not: {error}") from None


def _named(name: str, estimator: Any, y: Any) -> Measure | None:
    """The metric of a name; None where there is none."""
    from sklearn.metrics import check_scoring, get_scorer, get_scorer_names

    if name in COSTS:
        return Measure(name, "lower", COSTS[name])
    try:
        if name == OWN:
            return Measure(name, "higher", scorer=check_scoring(estimator), house=OWN)
    except TypeError as error:
        raise InvalidGoal(
            f"The estimator has no score of its own ({error}). Name a metric: `maximize accuracy`."
        ) from None
    if name in _KNOWN:
        lower = name in ("log_loss", "mse", "mae")
        sign: float = -1.0 if lower else 1.0
        return Measure(name, "lower" if lower else "higher", scorer=_KNOWN[name](y), sign=sign, house=name)
    return Measure(name, "higher", scorer=get_scorer(name)) if name in get_scorer_names() else None


def _classes(y: Any) -> Sequence[Any]:
    return np.unique(np.asarray(y))  # type: ignore[return-value]


def _positive(y: Any) -> dict[str, Any]:
    """Of two classes the second is the positive one, as everywhere in strop."""
    classes = _classes(y)
    return {"pos_label": classes[1]} if len(classes) == 2 else {}


def _f1(y: Any) -> Any:
    from sklearn.metrics import f1_score, make_scorer

    return make_scorer(f1_score, **(_positive(y) or {"average": "macro"}))


def _average_precision(y: Any) -> Any:
    from sklearn.metrics import average_precision_score, make_scorer

    how = ("decision_function", "predict_proba")
    return make_scorer(average_precision_score, response_method=how, **_positive(y))


def _auroc(y: Any) -> Any:
    from sklearn.metrics import get_scorer

    return get_scorer("roc_auc" if len(_classes(y)) == 2 else "roc_auc_ovr")


def _log_loss(y: Any) -> Any:
    """Over the classes that the estimator knows, whether or not the samples have them all."""

    def scorer(estimator: Any, X: Any, y: Any) -> float:
        from sklearn.metrics import log_loss

        return -float(log_loss(y, estimator.predict_proba(X), labels=estimator.classes_))

    return scorer


def _by_name(name: str) -> Callable[[Any], Any]:
    def scorer(y: Any) -> Any:
        from sklearn.metrics import get_scorer

        return get_scorer(name)

    return scorer


_KNOWN: Mapping[str, Callable[[Any], Any]] = {
    "accuracy": _by_name("accuracy"), "f1": _f1, "auroc": _auroc, "average_precision": _average_precision,
    "log_loss": _log_loss, "mse": _by_name("neg_mean_squared_error"),
    "mae": _by_name("neg_mean_absolute_error"), "r2": _by_name("r2"),
}  # fmt: skip
"""The quality metrics of `strop.metrics` that scikit-learn scores estimators by: same names, same numbers."""
