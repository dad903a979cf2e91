"""Asking: which point to try next. Optuna's samplers over a space, and no point twice."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from .._lazy import lazy
from ..errors import InvalidPlan
from .points import MOST, Points, key
from .space import Point, Space
from .surrogate import Surrogate

if TYPE_CHECKING:
    import optuna
else:
    optuna = lazy("optuna")

Sampler: TypeAlias = Literal["gp", "tpe", "random", "nsga2", "grid"]

Array = np.ndarray[Any, Any]

STARTS = 10  # random points before the first that is modelled
REPEATS = 20  # proposals that were tried before, until a larger space counts as exhausted


@dataclass(frozen=True)
class Asked:
    """A point to try.

    Attributes:
        params: What an estimator takes.
        trial: Optuna's.
    """

    point: Point
    params: Mapping[str, Any]
    trial: optuna.trial.Trial = field(compare=False)

    @property
    def key(self) -> str:
        return key(self.point)


def default(space: Space, trials: int, plain: bool) -> Sampler:
    """The sampler for a space where none is named.

    Args:
        plain: Whether one number is all that is told of a candidate: no limits, and nothing with less to train on.
    """
    if space.size <= trials:
        return "grid"
    return "gp" if plain and space.size <= MOST else "tpe"


class Asking:
    """Says what to try next, and is told what came of it; as `Searcher` of routes, for points of a space.

    Proposals of TPE and NSGA-II that were tried before are replaced by the nearest point that was not: that is what a
    sampler over a small grid wants to know next, and a fit is dearer than a look around.

    Args:
        direction: `maximize` or `minimize`, what is told.
        sampler: `gp` (`Surrogate`), `tpe` (Bergstra et al. 2011; multivariate), `random`, `nsga2` (Deb et al. 2002),
            or `grid`: all points in their order.
        seed: Of what is drawn.
        first: Points to begin with.
        pruner: Of the study.
        study: To go on with; its sampler and pruner are its own.

    Raises:
        InvalidPlan: There is no such sampler, or one that enumerates a space that can't be enumerated.
    """

    def __init__(
        self,
        space: Space,
        sampler: Sampler = "tpe",
        direction: Literal["minimize", "maximize"] = "maximize",
        seed: int = 0,
        first: Iterable[Point] = (),
        pruner: optuna.pruners.BasePruner | None = None,
        study: optuna.Study | None = None,
    ):
        if sampler not in get_args(Sampler):
            raise InvalidPlan(f"sampler must be one of {', '.join(get_args(Sampler))}, not {sampler!r}.")
        if sampler == "grid" and space.size == float("inf"):
            raise InvalidPlan(
                "A grid is searched where all parameters are lists or steps, and one is any number of a range. Name "
                "its values, or choose another sampler."
            )
        if sampler == "gp" and space.size > MOST:
            count = "without number" if space.size == float("inf") else f"{space.size:,.0f}"
            raise InvalidPlan(
                f"gp looks through all points of a space, at most {MOST:,}, and those of this one are {count}. Name "
                "fewer values, or choose tpe."
            )
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.sampler = space, sampler
        self.study = study or optuna.create_study(
            direction=direction, sampler=sampler_of(sampler, seed, len(space.grids) > 1), pruner=pruner
        )
        self._first = list(first)
        self._grid: Iterator[Point] = iter(space)
        self._tried = {key(trial.params) for trial in self.study.trials if trial.state.is_finished() and trial.values}
        self._rng = np.random.default_rng(seed)

    def begin_with(self, points: Iterable[Point]) -> None:
        """Try these before anything else, such as what an earlier process has tried."""
        self._first += points

    def ask(self) -> Asked | None:
        """The next point, or None where all were tried."""
        while self._first:
            if key(point := self._first.pop(0)) not in self._tried:
                return self._enqueued(point)
        if self.sampler == "grid":
            fresh = next((point for point in self._grid if key(point) not in self._tried), None)
            return None if fresh is None else self._enqueued(fresh)
        if len(self._tried) >= self.space.size:
            return None
        if self.sampler == "gp":
            return self._enqueued(self._promising())
        for _ in range(REPEATS):
            trial = self.study.ask()
            point = self.space.suggest(trial)
            if key(point) not in self._tried:
                return self._asked(point, trial)
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
            if self.space.size <= MOST:
                return self._enqueued(self._nearest(point))
        return None

    def tell(self, asked: Asked, value: float | None, violations: Mapping[str, float] | None = None) -> None:
        """What came of it.

        Args:
            value: None where it failed, or was dropped: it then ranks last, by what was reported of the trial.
            violations: By limit, above 0 where it is broken.
        """
        for limit, violation in (violations or {}).items():
            asked.trial.set_constraint(limit, violation)
        if value is None:  # a failed trial teaches Optuna nothing; one that was stopped early does
            self.study.tell(asked.trial, state=optuna.trial.TrialState.PRUNED)
        else:
            self.study.tell(asked.trial, value)

    def _enqueued(self, point: Point) -> Asked:
        self.study.enqueue_trial(point)
        trial = self.study.ask()
        return self._asked(self.space.suggest(trial), trial)

    def _asked(self, point: Point, trial: optuna.trial.Trial) -> Asked:
        self._tried.add(key(point))
        return Asked(point, self.space.params(point), trial)

    def _nearest(self, point: Point) -> Point:
        return self._points.points[self._points.nearest(point, self._untried(), self._rng)]

    def _promising(self) -> Point:
        """By what the study was told, whoever told it; what came to nothing or broke a limit is as the worst seen."""
        sign = -1.0 if self.study.direction == optuna.study.StudyDirection.MINIMIZE else 1.0
        told: dict[int, float | None] = {}
        trying = []
        for trial in self.study.get_trials(deepcopy=False):
            if (number := self._points.find(trial.params)) is None:
                continue
            if trial.state.is_finished():
                broken = any(by > 0 for by in trial.constraints.values())
                told[number] = None if trial.value is None or broken else sign * trial.value
            else:
                trying.append(number)
        worst = min((value for value in told.values() if value is not None), default=0.0)
        values = {number: worst if value is None else value for number, value in told.items()}
        return self._points.points[self._surrogate.next(values, trying, self._untried())]

    def _untried(self) -> Array:
        return np.array([number for tried, number in self._points.number.items() if tried not in self._tried])

    @functools.cached_property
    def _points(self) -> Points:
        return Points(self.space)

    @functools.cached_property
    def _surrogate(self) -> Surrogate:
        return Surrogate(self._points.places, self._rng)


def sampler_of(name: Sampler, seed: int, conditional: bool) -> optuna.samplers.BaseSampler:
    """Optuna's, for spaces in which parameters depend on each other or not."""
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=20)
    if name == "tpe":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of `group`
            return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTS, group=conditional)
    return optuna.samplers.RandomSampler(seed=seed)
