"""Decision: what a measurement is for, and so when it is enough."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import metrics
from .anytime import asymptotic_bounds, bounds
from .goal import Goal
from .metric import Metric, Probe, Scenario, Scores
from .stats import Interval, verdict
from .timing import LEAST_PAIRS

Array = np.ndarray[Any, Any]

LOOSER = 3.0  # times as wide may an interval be that is only reported
DIGITS = 5  # a difference to the original is known closely at a fifth of itself ...
CLEAR = 0.05  # ... and at 5 % at the latest
HOPELESS = 1.25  # a ratio to the original proven above this needs no closer look
FOLLOWED: Mapping[Scenario, str] = {
    "single_stream": "latency.p50", "offline": "throughput", "server": "server.p99",
}  # fmt: skip
"""What is measured closely where the objective is had from elsewhere."""


@dataclass(frozen=True)
class Decision:
    """A goal to decide: far limits need few measurements, close ones more.

    Attributes:
        goal: Its limits are to be found met or broken, its objective to be known closely.
        confidence: Of each one-sided bound.
        width: Half-width of the objective's ratio to the original, relative, that is close enough.
        finalist: Whether it is measured to prove all limits, so that one which is open decides.
        race: Whether a candidate is dropped while its samples are still being run, by bounds that hold at every look.
    """

    goal: Goal
    confidence: float = 0.95
    width: float = 0.03
    race: bool = False
    finalist: bool = False

    def timed_enough(self, probe: Probe, scenario: Scenario) -> bool:
        """Whether further pairs of processes would change nothing: of a finalist, also where its quality is not
        proven."""
        if self.finalist and len(probe.timing(scenario).original) >= LEAST_PAIRS and self._unproven(probe):
            return True
        objective = metrics.find(self.goal.objective)
        decides = objective.scenario == scenario
        followed = objective if decides else metrics.find(FOLLOWED[scenario])
        ratio = followed.measure(probe).ratio(self.confidence)
        worse = ratio.low > HOPELESS if followed.better == "lower" else ratio.high < 1 / HOPELESS
        if worse:
            return True
        close = max(self.width, min(CLEAR, abs(ratio.value - 1) / DIGITS)) if decides else self.width * LOOSER
        if not (ratio.high - ratio.low) / 2 <= close * ratio.value:
            return False
        limited = {metric.name: metric for metric in (metrics.find(limit.metric) for limit in self.goal.limits)}
        return not any(self._open(metric, probe) for metric in limited.values() if metric.scenario == scenario)

    def lost(self, probe: Probe, whole: Probe) -> bool:
        """Whether a limit on quality is proven broken by the samples that were run so far, of all that will be.

        Args:
            probe: Those that were run.
            whole: All, the original standing for the candidate too.
        """
        for limit in self.goal.limits:
            metric = metrics.find(limit.metric)
            if not metric.quality or limit.scope == "worst_slice":
                continue
            side, factor, constant = limit.bound(metric.better)
            if (scores := metric.by_sample(probe)) is None:
                continue
            known = (metric.by_sample(whole) if _hangs_on_all(scores) else None) or scores
            margin = _margin(scores, known, factor, constant, self.confidence)
            lost = margin.high < 0 if side == "at_least" else margin.low > 0
            # the verdict is what is reported: it must say the same of the samples at hand
            if lost and verdict(metric.measure(probe), side, factor, constant, self.confidence)[0] == "broken":
                return True
        return False

    def _unproven(self, probe: Probe) -> bool:
        """Whether a limit on the quality of the whole is not met."""
        limits = [(limit, metrics.find(limit.metric)) for limit in self.goal.limits if limit.scope != "worst_slice"]
        return any(
            verdict(metric.measure(probe), *limit.bound(metric.better), self.confidence)[0] != "met"
            for limit, metric in limits if metric.quality
        )  # fmt: skip

    def _open(self, metric: Metric, probe: Probe) -> bool:
        comparison = metric.measure(probe)
        bounds = [x.bound(metric.better) for x in self.goal.limits if metrics.find(x.metric).name == metric.name]
        return any(verdict(comparison, *bound, self.confidence)[0] == "inconclusive" for bound in bounds)


def _hangs_on_all(scores: Scores) -> bool:
    """Whether a bound needs what the original does on all samples."""
    return scores.weights_candidate is not None or bool(np.isfinite(scores.least) and not np.isfinite(scores.most))


def _margin(scores: Scores, whole: Scores, factor: float, constant: float, confidence: float) -> Interval:
    """Of what has the sign of candidate - factor * original - constant: its mean over independent samples or groups.

    Args:
        scores: Of the samples so far.
        whole: Of all samples, the original standing for the candidate too; where the bound hangs on it, it speaks of
            these samples alone.
    """
    total = len(_contrast(whole, factor, constant)) if _hangs_on_all(scores) else None
    if scores.exponential:  # what the original reaches is known, and so is the logarithm that the limit allows
        reached = float(whole.original.mean())
        factor, constant = 1.0, math.log(max(factor * math.exp(reached) + constant, 1e-9)) - reached
    if scores.weights_candidate is not None:
        scores, constant = _linear(scores, whole, factor, constant)
        factor = 1.0
    values = _contrast(scores, factor, constant)
    low = scores.least - factor * scores.most - constant
    high = scores.most - factor * scores.least - constant
    largest = 1 if scores.groups is None else int(np.unique(scores.groups, return_counts=True)[1].max())
    if not np.isfinite(scores.least):
        return asymptotic_bounds(values, confidence)
    if not np.isfinite(scores.most):  # errors: the worst of the original's tells how much better a candidate can be
        best = replace(whole, candidate=np.full(len(whole.original), scores.least))
        low, largest = float(_contrast(best, factor, constant).min()), 1
    return bounds(values, min(0.0, largest * low), max(0.0, largest * high), confidence, total)


def _linear(scores: Scores, whole: Scores, factor: float, constant: float) -> tuple[Scores, float]:
    """Ratios with denominators of their own as means, and the constant of a limit on their difference.

    What the original reaches on all samples is known, and so is the threshold: the candidate keeps to it where its sum
    of numerator - threshold * denominator is not negative. From each sample the original's is taken away, and given
    back on the whole, where it is known: samples on which both agree then add no spread.
    """
    weights = np.ones(len(whole.original)) if whole.weights is None else whole.weights
    reached = float(whole.original.sum() / (weights.sum() or 1.0))
    threshold = factor * reached + constant
    original, candidate = (
        numerators - threshold * (1.0 if denominators is None else denominators)
        for numerators, denominators in (
            (scores.original, scores.weights), (scores.candidate, scores.weights_candidate),
        )
    )  # fmt: skip
    linear = Scores(original, candidate, scores.groups, -threshold, 1 - threshold)
    return linear, (threshold - reached) * float(weights.mean())


def _contrast(scores: Scores, factor: float, constant: float) -> Array:
    """Of each sample, or the sum of each group, in the order in which they come."""
    weights = np.ones(len(scores.original)) if scores.weights is None else scores.weights
    values: Array = scores.candidate - factor * scores.original - constant * weights
    if scores.groups is None:
        return values
    _, first, inverse = np.unique(scores.groups, return_index=True, return_inverse=True)
    return np.bincount(np.argsort(np.argsort(first))[inverse], weights=values)
