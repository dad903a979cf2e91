"""Asking: which point to try next. Optuna's samplers over a space, and no point twice."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from .._lazy import lazy
from ..errors import InvalidPlan
from .space import Point, Space

if TYPE_CHECKING:
    import optuna
else:
    optuna = lazy("optuna")

Sampler: TypeAlias = Literal["tpe", "random", "nsga2", "grid"]

STARTS = 10  # random points before the first that is modelled
MOST = 20_000  # points of a space of which the nearest untried is looked for
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


class Asking:
    """Says what to try next, and is told what came of it; as `Searcher` of routes, for points of a space.

    Proposals of TPE and NSGA-II that were tried before are replaced by the nearest point that was not: that is what a
    sampler over a small grid wants to know next, and a fit is dearer than a look around.

    Args:
        direction: `maximize` or `minimize`, what is told.
        sampler: `tpe` (Bergstra et al. 2011; multivariate), `random`, `nsga2` (Deb et al. 2002), or `grid`: all points
            in their order.
        seed: Of what is drawn.
        first: Points to begin with.
        pruner: Of the study.
        study: To go on with; its sampler and pruner are its own.

    Raises:
        InvalidPlan: There is no such sampler, or a grid that can't be enumerated.
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
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.sampler = space, sampler
        self.study = study or optuna.create_study(
            direction=direction, sampler=sampler_of(sampler, seed, len(space.grids) > 1), pruner=pruner
        )
        self._first = list(first)
        self._grid: Iterator[Point] = iter(space)
        self._tried = {key(trial.params) for trial in self.study.trials if trial.state.is_finished() and trial.values}
        self._rng = np.random.default_rng(seed)
        self._map: _Map | None = None

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
        if self._map is None:
            self._map = _Map(self.space)
        return self._map.nearest(point, self._tried, self._rng)


class _Map:
    """All points of a space, and how far they lie apart: by place where there is an order, else by being another."""

    def __init__(self, space: Space):
        self.points = list(space)
        self.keys = [key(point) for point in self.points]
        self._names = sorted({name for point in self.points for name in point})
        values = {name: sorted({p[name] for p in self.points if name in p}, key=str) for name in self._names}
        self._numeric = np.array([all(not isinstance(v, str) for v in values[name]) for name in self._names])
        self._scale = {
            name: (min(values[name]), max(1e-300, max(values[name]) - min(values[name])))
            if numeric
            else {value: place for place, value in enumerate(values[name])}
            for name, numeric in zip(self._names, self._numeric, strict=True)
        }
        self._places = np.array([self._place(point) for point in self.points])

    def nearest(self, point: Point, without: set[str], rng: np.random.Generator) -> Point:
        apart = self._places - self._place(point)
        apart = np.where(np.isnan(apart), 1.0, np.where(self._numeric, np.abs(apart), apart != 0)).sum(axis=1)
        apart[[known in without for known in self.keys]] = np.inf
        return self.points[int(rng.choice(np.flatnonzero(apart == apart.min())))]

    def _place(self, point: Point) -> np.ndarray[Any, Any]:
        found = []
        for name, numeric in zip(self._names, self._numeric, strict=True):
            scale: Any = self._scale[name]
            if name not in point:
                found.append(np.nan)
            else:
                found.append((point[name] - scale[0]) / scale[1] if numeric else scale[point[name]])
        return np.array(found, float)


def key(point: Mapping[str, Any]) -> str:
    """One text for one point, which can be read back."""
    return json.dumps(point, sort_keys=True)


def sampler_of(name: Sampler, seed: int, conditional: bool) -> optuna.samplers.BaseSampler:
    """Optuna's, for spaces in which parameters depend on each other or not."""
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=20)
    if name == "tpe":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of `group`
            return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTS, group=conditional)
    return optuna.samplers.RandomSampler(seed=seed)
