"""Space: what may be tried. scikit-learn's grids and distributions, Optuna's, and plain ranges, read into one form.

A point of a space is plain data, what an Optuna trial holds as its parameters; `params` makes of it what an estimator
takes. A list of numbers is a point's place in their order, so that a sampler knows which are near each other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .._lazy import lazy
from .._plain import told
from ..errors import InvalidPlan

if TYPE_CHECKING:
    import optuna
else:
    optuna = lazy("optuna")

Point: TypeAlias = dict[str, Any]
"""Of a space, as plain data: what an Optuna trial's parameters are."""

ORDERED = 3  # numbers from which on their order tells something
LONGEST = 60  # characters of a label
_RANGE = {"low": None, "high": None, "log": False, "step": None}
WHICH = "grid"  # the choice between several grids


@dataclass(frozen=True)
class Listed:
    """One of several values.

    Attributes:
        values: In the order in which they are enumerated.
        marks: What stands for each in a point: its place in the order of numbers, else a label.
    """

    values: tuple[Any, ...]
    marks: tuple[Any, ...]

    @classmethod
    def of(cls, values: Sequence[Any]) -> Listed:
        kept = tuple(values)
        if len(kept) >= ORDERED and all(map(is_number, kept)) and len(set(kept)) == len(kept):
            order = sorted(kept)
            return cls(kept, tuple(order.index(value) for value in kept))
        labels = [label(value) for value in kept]
        if len(set(labels)) < len(labels):
            labels = [f"{place}: {label}" for place, label in enumerate(labels)]
        return cls(kept, tuple(labels))

    @property
    def distribution(self) -> optuna.distributions.BaseDistribution:
        if isinstance(self.marks[0], int):
            return optuna.distributions.IntDistribution(0, len(self.marks) - 1)
        return optuna.distributions.CategoricalDistribution(self.marks)

    def value(self, mark: Any) -> Any:
        return self.values[self.marks.index(mark)]

    @property
    def examples(self) -> Sequence[Any]:
        """Values by which to see whether it fits a parameter."""
        return self.values

    def spelled(self) -> str:
        return "[" + ", ".join(map(label, self.values)) + "]"

    def find(self, value: object) -> Any:
        """What stands for a value; None where it is not among them."""
        same = (
            m
            for m, v in zip(self.marks, self.values, strict=True)
            if type(v) is type(value) and told(v == value) == "True"
        )
        return next(same, None)


@dataclass(frozen=True)
class Ranged:
    """A number from a distribution.

    Attributes:
        distribution: Optuna's.
        quantile: Makes the number out of what is drawn, where that is a share, 0 to 1, of a distribution of scipy's
            that Optuna has none for.
    """

    distribution: optuna.distributions.BaseDistribution
    quantile: Callable[[float], Any] | None = None

    @property
    def marks(self) -> Sequence[Any] | None:
        """All that can be drawn; None where that is without number."""
        found = self.distribution
        if isinstance(found, optuna.distributions.FloatDistribution):
            if found.step is None:
                return None
            count = round((found.high - found.low) / found.step) + 1
            return [found.low + place * found.step for place in range(count)]
        assert isinstance(found, optuna.distributions.IntDistribution)
        return range(found.low, found.high + 1, found.step)

    def value(self, mark: Any) -> Any:
        return mark if self.quantile is None else self.quantile(mark)

    @property
    def examples(self) -> Sequence[Any]:
        """The ends of the range, or what is near them."""
        found: Any = self.distribution
        return [self.value(found.low), self.value(found.high)]

    def spelled(self) -> str:
        kind: Any = self.distribution
        words = [f"{kind.low} to {kind.high}", *(["logarithmic"] if kind.log else [])]
        words += ["whole"] if isinstance(kind, optuna.distributions.IntDistribution) else []
        words += [f"in steps of {kind.step}"] if kind.step not in (None, 1) else []
        words += [f"shares {[self.quantile(share) for share in (0.1, 0.5, 0.9)]}"] if self.quantile else []
        return " ".join(words)

    def find(self, value: Any) -> Any:
        """The number itself where it can be drawn; None where it can't, or that is not known."""
        whole = isinstance(self.distribution, optuna.distributions.IntDistribution)
        fits = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        return value if fits and self.quantile is None and self.distribution._contains(value) else None


Domain: TypeAlias = Listed | Ranged


@dataclass(frozen=True)
class Space:
    """One grid or several; with several, a point lies in one of them, which is how parameters depend on each other.

    Attributes:
        grids: By name of the parameter, what it may be.
    """

    grids: tuple[Mapping[str, Domain], ...]

    @classmethod
    def of(cls, given: object) -> Space:
        """Read a `param_grid` or `param_distributions` of scikit-learn's, a dict or a list of dicts.

        A parameter is a list, a frozen distribution of scipy's, a distribution of Optuna's, or a range as plain data:
        `{"low": 1e-4, "high": 1, "log": True}`, both ends included. Where all its numbers are whole, so is what is
        drawn; `step` goes from `low` in steps, `log` draws on a logarithmic scale.

        Raises:
            InvalidPlan: It is something else, or there is nothing to choose from.
        """
        if isinstance(given, Space):
            return given
        grids = [given] if isinstance(given, Mapping) else given
        if not isinstance(grids, (list, tuple)) or not all(isinstance(grid, Mapping) for grid in grids):
            raise InvalidPlan(
                f"A space must be a dict of parameters, or a list of such dicts, not {told(given, repr)}. Write it as "
                "in {'C': [0.1, 1, 10]}."
            )
        if not grids:
            raise InvalidPlan("A space must hold something to try, and this list is empty. Name parameters and values.")
        read = []
        for grid in grids:
            if wrong := [name for name in grid if not isinstance(name, str)]:
                raise InvalidPlan(f"Parameters are named by text, not by {told(wrong[0], repr)}.")
            read.append({name: _domain(name, grid[name]) for name in sorted(grid)})
        return cls(tuple(read))

    @property
    def size(self) -> float:
        """Points; infinite where a number may be any."""
        sizes = [
            math.prod(math.inf if domain.marks is None else len(domain.marks) for domain in grid.values())
            for grid in self.grids
        ]
        return sum(sizes)

    def __iter__(self) -> Iterator[Point]:
        """All points, in the order of scikit-learn's ParameterGrid: the last parameter by name changes fastest."""
        for place, grid in enumerate(self.grids):
            names = [self._name(name, place) for name in grid]
            for marks in itertools.product(*(domain.marks or () for domain in grid.values())):
                yield {**self._which(place), **dict(zip(names, marks, strict=True))}

    def suggest(self, trial: optuna.trial.BaseTrial) -> Point:
        """Let an Optuna trial choose a point."""
        place = 0
        if len(self.grids) > 1:
            place = trial.suggest_categorical(self._key, range(len(self.grids)))
        point = self._which(place)
        for name, domain in self.grids[place].items():
            point[self._name(name, place)] = _suggest(trial, self._name(name, place), domain.distribution)
        return point

    def params(self, point: Point) -> dict[str, Any]:
        """What an estimator takes."""
        place = point.get(self._key, 0) if len(self.grids) > 1 else 0
        return {name: domain.value(point[self._name(name, place)]) for name, domain in self.grids[place].items()}

    def locate(self, params: Mapping[str, Any]) -> Point | None:
        """The point at which an estimator with these parameters lies; None where there is none."""
        for place, grid in enumerate(self.grids):
            found = {name: domain.find(params[name]) for name, domain in grid.items() if name in params}
            if grid.keys() == found.keys() and all(mark is not None for mark in found.values()):
                return {**self._which(place), **{self._name(name, place): mark for name, mark in found.items()}}
        return None

    def spelled(self) -> str:
        """What tells it from other spaces, as text."""
        return "; ".join(
            ", ".join(f"{name}: {domain.spelled()}" for name, domain in grid.items()) for grid in self.grids
        )

    @property
    def _key(self) -> str:
        key = WHICH
        while any(key in grid for grid in self.grids):
            key += "_"
        return key

    def _which(self, place: int) -> Point:
        return {self._key: place} if len(self.grids) > 1 else {}

    def _name(self, name: str, place: int) -> str:
        """In a point: a parameter that is drawn from something else in another grid has a name of its own there."""
        known = [grid[name].distribution for grid in self.grids if name in grid]
        return name if all(found == known[0] for found in known) else f"{name}[{place}]"


def _domain(name: str, given: object) -> Domain:
    if isinstance(given, optuna.distributions.CategoricalDistribution):
        given = given.choices
    if isinstance(given, optuna.distributions.BaseDistribution):
        return Ranged(given)
    if isinstance(given, Mapping):
        return _of_range(name, given)
    if hasattr(given, "rvs"):
        return _of_scipy(name, given)
    if isinstance(given, np.ndarray) and given.ndim != 1:
        raise InvalidPlan(f"The values of {name} must have one dimension, and this array has {given.ndim}.")
    if isinstance(given, str) or not isinstance(given, (Sequence, np.ndarray)):
        raise InvalidPlan(
            f"{name} must be a list of values, a range as {{low, high}}, or a distribution of scipy's or Optuna's, not "
            f"{told(given, repr)}. One value goes into a list too: [{told(given, repr)}]."
        )
    if len(given) == 0:
        raise InvalidPlan(f"{name} must have a value to try, and its list is empty. Name some, or leave {name} out.")
    return Listed.of(list(given))


def _of_range(name: str, given: Mapping[Any, Any]) -> Ranged:
    """Of plain data, as a file has it."""
    low, high, log, step = (given.get(key, default) for key, default in _RANGE.items())
    numbers = [low, high] if step is None else [low, high, step]
    if unknown := [key for key in given if key not in _RANGE]:
        raise InvalidPlan(
            f"The range of {name} has {', '.join(_RANGE)}, and not {told(unknown[0], repr)}. Leave it out."
        )
    if not all(map(is_number, numbers)) or not isinstance(log, bool):
        raise InvalidPlan(
            f"The range of {name} must be as {{low = 1e-4, high = 1, log = true}}, with numbers for low, high and "
            f"step, not {told(dict(given), repr)}."
        )
    if not low < high or (step is not None and not 0 < step <= high - low):
        raise InvalidPlan(
            f"The range of {name} must go from a low to a high above it, in steps between them, and this is "
            f"{told(dict(given), repr)}. Give one value as a list: [{low}]."
        )
    if log and (low <= 0 or step is not None):
        raise InvalidPlan(
            f"A logarithmic range begins above 0 and has no step, and that of {name} is {told(dict(given), repr)}. "
            "Leave out log, or mend the others."
        )
    if all(isinstance(number, int) for number in numbers):
        whole = low + (high - low) // (step or 1) * (step or 1)
        return Ranged(optuna.distributions.IntDistribution(low, whole, log=log, step=step or 1))
    if step is not None:  # in decimals, as Optuna counts its steps
        start, by = Decimal(str(low)), Decimal(str(step))
        high = float(start + (Decimal(str(high)) - start) // by * by)
    return Ranged(optuna.distributions.FloatDistribution(float(low), float(high), log=log, step=step))


def _of_scipy(name: str, given: Any) -> Ranged:
    """The distribution of Optuna's that is the same, else shares that are turned into quantiles."""
    kind = getattr(getattr(given, "dist", None), "name", "")
    try:
        low, high = map(float, given.support())
        if not low <= high:
            raise ValueError
        if kind == "randint":
            return Ranged(optuna.distributions.IntDistribution(int(low), int(high)))
        if kind in ("loguniform", "reciprocal", "uniform"):
            return Ranged(optuna.distributions.FloatDistribution(low, high, log=kind != "uniform"))
        given.ppf(0.5)
    except (AttributeError, TypeError, ValueError):
        raise InvalidPlan(
            f"{name} must be a distribution with a range and quantiles (`support`, `ppf`), as the frozen ones of "
            f"scipy.stats, and {told(given, repr)} has none. Check its parameters, or give a list."
        ) from None
    ends = (0.0, 1.0) if math.isfinite(low) and math.isfinite(high) else (1e-6, 1 - 1e-6)
    discrete = hasattr(given, "pmf")

    def quantile(share: float) -> Any:
        found = given.ppf(share)
        return int(found) if discrete else float(found)

    return Ranged(optuna.distributions.FloatDistribution(*ends), quantile)


def _suggest(trial: optuna.trial.BaseTrial, name: str, found: optuna.distributions.BaseDistribution) -> Any:
    if isinstance(found, optuna.distributions.CategoricalDistribution):
        return trial.suggest_categorical(name, found.choices)
    if isinstance(found, optuna.distributions.IntDistribution):
        return trial.suggest_int(name, found.low, found.high, step=found.step, log=found.log)
    assert isinstance(found, optuna.distributions.FloatDistribution)
    return trial.suggest_float(name, found.low, found.high, step=found.step, log=found.log)


def is_number(value: object) -> bool:
    """Whether it has a place in an order."""
    return isinstance(value, Real) and not isinstance(value, (bool, np.bool_)) and math.isfinite(value)


def label(value: object) -> str:
    """A value as text."""
    text = " ".join(told(value).split())
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
