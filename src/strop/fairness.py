"""Fairness: how often a binary classifier says yes, rightly and wrongly, between the values of a protected column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import metrics
from ._numerics import counts, membership
from .metric import Probe
from .slices import SMALLEST_SLICE
from .stats import MOST_UNITS, Binary, Comparison, Interval, Replicates, Samples

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

    The largest of noisy differences is too large, in the samples as in their resamples: replicates are moved back by
    twice the bias that they show, so that their percentiles lie around the estimate less its bias (Efron & Tibshirani
    1993, section 10.2). Resamples of what is noisy already show about half of it, so bounds are given the other half.
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

    def gaps(totals: Array) -> list[Array]:
        each = totals.reshape(len(totals), len(parts), 3)
        with np.errstate(divide="ignore", invalid="ignore"):
            return [np.ptp(each[:, :, side] / each[:, :, 0], axis=1) for side in (1, 2)]

    values = [float(gap[0]) for gap in gaps(sums.sum(axis=0, keepdims=True))]
    reps = gaps(np.concatenate([weights @ sums for weights in counts(rng, 2000, merged)]))
    biases = [max(0.0, float(np.nanmean(side)) - value) for side, value in zip(reps, values, strict=True)]
    reps = [side - 2 * bias for side, bias in zip(reps, biases, strict=True)]
    changed = any(bool((before[part] != after[part]).any()) for part in parts)
    found = Replicates(
        values[0], values[1], reps[0], reps[1], sum(map(len, parts)), units, (0, 1), min(map(len, parts)),
        fell=changed, rose=changed,
    )  # fmt: skip
    original, candidate = (
        Interval(side.value, max(0.0, side.low - bias), side.high)
        for side, bias in zip((found.original(TAIL), found.candidate(TAIL)), biases, strict=True)
    )
    change = found.margin(1.0, 0.0, TAIL)
    return Gap(original, candidate, Interval(change.value, change.low - biases[1], change.high + biases[0]))
