"""Fairness: how often a binary classifier says yes, rightly and wrongly, between the values of a protected column."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import metrics
from .metric import Probe
from .samples import Samples
from .slices import SMALLEST_SLICE
from .stats import Binary, Comparison, Interval

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Rate:
    """How often one value of a protected column gets a yes.

    Attributes:
        original: None where the samples are too few to tell; likewise `candidate`.
        n: Samples behind it: all of the value, its positives, or its negatives.
    """

    original: Interval | None
    candidate: Interval | None
    n: int


@dataclass(frozen=True)
class Gap:
    """The largest difference of a rate between two values; each bound at 95 %.

    Attributes:
        change: The candidate's less the original's, paired.
    """

    original: Interval
    candidate: Interval
    change: Interval


@dataclass(frozen=True)
class Rates:
    """One rate over the values of a protected column.

    Attributes:
        values: By slice.
        gap: Over the values that can be told; None where these are fewer than two.
    """

    values: dict[str, Rate]
    gap: Gap | None


def fairness(probe: Probe, rows: Mapping[str, Array]) -> dict[str, Rates]:
    """Selection rate, true and false positive rate by value, and the gaps between values, before and after.

    Args:
        rows: The samples of each value of a protected column.

    Returns:
        By rate; empty where the task is not binary.
    """
    found = metrics.yes_or_no(probe)
    if found is None:
        return {}
    case, before, after = found
    positive = case.labels == 1
    told_of = {
        "selection_rate": np.ones_like(positive), "true_positive_rate": positive, "false_positive_rate": ~positive,
    }  # fmt: skip
    return {
        name: _rates(before, after, {value: part[of[part]] for value, part in rows.items()}, case.groups, case.seed)
        for name, of in told_of.items()
    }


def _rates(before: Array, after: Array, rows: Mapping[str, Array], groups: Array | None, seed: int) -> Rates:
    values: dict[str, Rate] = {}
    told: dict[str, Comparison] = {}
    for value, part in rows.items():
        if len(part) < SMALLEST_SLICE:
            values[value] = Rate(None, None, len(part))
            continue
        one = told[value] = _rate(before[part], after[part], None if groups is None else groups[part], seed)
        values[value] = Rate(one.original(), one.candidate(), len(part))
    if len(told) < 2:
        return Rates(values, None)
    together = groups is not None and _straddle([groups[rows[value]] for value in told])
    return Rates(values, gap(list(told.values()), together))


def _rate(before: Array, after: Array, groups: Array | None, seed: int) -> Comparison:
    return Binary(before, after) if groups is None else Samples(before, after, groups, bounds=(0, 1), seed=seed)


def _straddle(groups: list[Array]) -> bool:
    """Whether samples of two values belong together, so that their rates are not independent."""
    each = [np.unique(of_value) for of_value in groups]
    return len(np.unique(np.concatenate(each))) < sum(map(len, each))


@dataclass(frozen=True)
class _Spread:
    """One number a value of the column, and how far its bounds lie below and above it: [k] each."""

    number: Array
    below: Array
    above: Array

    @classmethod
    def of(cls, intervals: list[Interval]) -> _Spread:
        number, low, high = np.array([(one.value, one.low, one.high) for one in intervals]).T
        return cls(number, number - low, high - number)

    def __neg__(self) -> _Spread:
        return _Spread(-self.number, self.above, self.below)


def gap(rates: Sequence[Comparison], together: bool = False, confidence: float = 0.95) -> Gap:
    """The largest difference between some rates, before and after, and how it changed.

    Which two are truly the furthest apart is not known, and the largest of noisy differences is too large. A bound
    above is the greatest of all pairs: it is no less than the bound of the right pair, and so needs no correction. A
    bound below is the best of all pairs, among which its error is divided (Bonferroni). A change is that of one pair,
    whose difference is paired, or from the original's widest pair to another one: half of the error is for the first,
    the rest is divided among the others. Bounds of single rates make one of a contrast of several by MOVER (Zou &
    Donner 2008, section 2): the root of the sum of squares of how far they reach.

    Args:
        rates: One a value, two at the least.
        together: Whether samples of different values belong together. How far bounds reach is then added up, which
            holds however the rates hang together.
        confidence: Of each bound.
    """
    error, pairs = 1 - confidence, len(rates) * (len(rates) - 1)

    def told(side: Callable[[Comparison, float], Interval], error: float) -> _Spread:
        return _Spread.of([side(rate, 1 - error) for rate in rates])

    join = np.add if together else np.hypot
    original, candidate = (_size(told(side, error), told(side, error / pairs), join) for side in (_before, _after))
    same = told(_change, error / 2)
    before, after, change = (told(side, error / 2 / (pairs - 1)) for side in (_before, _after, _change))
    return Gap(
        original,
        candidate,
        Interval(
            candidate.value - original.value,
            max(-1.0, -_rise(-same, after, before, -change, join)),
            min(1.0, _rise(same, before, after, change, join)),
        ),
    )


def _before(rate: Comparison, confidence: float) -> Interval:
    return rate.original(confidence)


def _after(rate: Comparison, confidence: float) -> Interval:
    return rate.candidate(confidence)


def _change(rate: Comparison, confidence: float) -> Interval:
    return rate.margin(1.0, 0.0, confidence)


def _size(each: _Spread, divided: _Spread, join: np.ufunc) -> Interval:
    """The largest difference, from bounds each at the error in full, and with the error divided among all pairs."""
    apart = _differences(each)
    high, low = apart + _reach(each, join), apart - _reach(-divided, join)
    others = ~np.eye(len(apart), dtype=bool)
    return Interval(float(apart.max()), max(0.0, float(low[others].max())), min(1.0, float(high[others].max())))


def _rise(same: _Spread, original: _Spread, candidate: _Spread, change: _Spread, join: np.ufunc) -> float:
    """How far the candidate's gap may lie above the original's.

    For each pair of the candidate's, against the same pair of the original's and against the one seen to be its widest:
    either difference is at least the rise, so the lesser bound is taken.

    Args:
        same: The paired change of each value, at the error for the same pair.
        original: At the error for any other pair; likewise `candidate` and the paired `change`.
    """
    bottom, *_, top = np.argsort(original.number, kind="stable")  # two of them, also where all are equal
    above, below = candidate.above.copy(), candidate.below.copy()
    # where a value is in both pairs, its change is paired if it has the same place, and else both errors add up
    above[top], below[bottom] = change.above[top], change.below[bottom]
    above[bottom] += original.above[bottom]
    below[top] += original.below[top]
    place = np.arange(len(above))
    apart = [np.logical_and.outer(place != one, place != one) for one in (top, bottom)]  # in neither place of the pair
    rest = join(np.where(apart[0], original.below[top], 0.0), np.where(apart[1], original.above[bottom], 0.0))
    against_widest = _differences(candidate) - np.ptp(original.number) + join(join.outer(above, below), rest)
    against_same = _differences(same) + _reach(same, join)
    return float(np.minimum(against_widest, against_same)[~np.eye(len(place), dtype=bool)].max())


def _differences(spread: _Spread) -> Array:
    difference: Array = np.subtract.outer(spread.number, spread.number)
    return difference


def _reach(spread: _Spread, join: np.ufunc) -> Array:
    """How far the bound above lies from the difference of two values, [k, k]."""
    reach: Array = join.outer(spread.above, spread.below)
    return reach
