"""Fairness: how often a binary classifier says yes, rightly and wrongly, between the values of a protected column."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import metrics
from ._numerics import counts, membership
from .metric import Probe
from .samples import Samples
from .slices import SMALLEST_SLICE
from .stats import MOST_UNITS, Binary, Comparison, Interval, Replicates, Unseen

Array = np.ndarray[Any, Any]

TAIL = 0.975  # of each bound at 95 %: a difference is far from 0 on two sides, and its size folds them into one


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
    """The largest difference of a rate between two values.

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
    values, told = {}, []
    for value, part in rows.items():
        if len(part) < SMALLEST_SLICE:
            values[value] = Rate(None, None, len(part))
            continue
        told.append(part)
        one = _rate(before[part], after[part], None if groups is None else groups[part], seed)
        values[value] = Rate(one.original(), one.candidate(), len(part))
    if len(told) < 2:
        return Rates(values, None)
    return Rates(values, _gap(before, after, told, groups, seed))


def _rate(before: Array, after: Array, groups: Array | None, seed: int) -> Comparison:
    return Binary(before, after) if groups is None else Samples(before, after, groups, bounds=(0, 1), seed=seed)


def _gap(before: Array, after: Array, parts: list[Array], groups: Array | None, seed: int) -> Gap:
    """The largest difference between means over some parts, with a paired bootstrap over samples or groups of them.

    The largest of noisy differences is too large; where all are equal, by m in the samples and by (sqrt(2) - 1) m more
    in their resamples. A bound that this bias brings nearer is moved back by both: by 2 + sqrt(2) times what the
    resamples show.
    """
    rng = np.random.default_rng(seed)
    member, units = membership(groups, len(before))
    if units > MOST_UNITS:
        member = (rng.permutation(units) % MOST_UNITS)[member]
    merged = min(units, MOST_UNITS)
    sums = np.stack([
        np.bincount(member[part], weights=weights, minlength=merged)
        for part in parts for weights in (np.ones(len(part)), before[part], after[part])
    ], axis=1)  # fmt: skip

    def means(totals: Array) -> Array:
        each = totals.reshape(len(totals), len(parts), 3)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.moveaxis(each[:, :, 1:] / each[:, :, :1], 2, 0)  # [side, resample, value]

    seen = means(sums.sum(axis=0, keepdims=True))[:, 0]
    drawn = means(np.concatenate([weights @ sums for weights in counts(rng, 2000, merged)]))
    values, reps = np.ptp(seen, axis=1), np.ptp(drawn, axis=2)
    biases = (2 + math.sqrt(2)) * (np.nanmean(reps, axis=1) - values)
    # a size is never below 0, not even in resamples: whether it may be 0 is told by the difference with its sign
    signed = [side[:, at.argmax()] - side[:, at.argmin()] for side, at in zip(drawn, seen, strict=True)]
    changed = any(bool((before[part] != after[part]).any()) for part in parts)

    def compared(original: Array, candidate: Array) -> Replicates:
        return Replicates(
            float(values[0]), float(values[1]), original, candidate, sum(map(len, parts)), units,
            Unseen(0, 1, min(map(len, parts)), fell=changed, rose=changed),
        )  # fmt: skip

    sizes, ends = compared(*reps), compared(*signed)
    original, candidate = _moved(sizes.original(TAIL), biases[0]), _moved(sizes.candidate(TAIL), biases[1])
    return Gap(
        Interval(original.value, max(0.0, min(original.low, ends.original(TAIL).low)), original.high),
        Interval(candidate.value, max(0.0, min(candidate.low, ends.candidate(TAIL).low)), candidate.high),
        _moved(sizes.margin(1.0, 0.0, TAIL), biases[1] - biases[0]),
    )


def _moved(interval: Interval, bias: float) -> Interval:
    return Interval(interval.value, interval.low - max(0.0, bias), interval.high - min(0.0, bias))
