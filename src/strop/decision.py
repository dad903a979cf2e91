"""Decision: what a measurement is for, and so when it is enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import metrics
from .anytime import asymptotic_bounds, bounds
from .goal import Goal
from .metric import Metric, Probe, Scenario, Scores
from .stats import Interval, verdict

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
        race: Whether a candidate is dropped while its samples are still being run, by bounds that hold at every look.
    """

    goal: Goal
    confidence: float = 0.95
    width: float = 0.03
    race: bool = False

    def timed_enough(self, probe: Probe, scenario: Scenario) -> bool:
        """Whether further pairs of processes would change nothing."""
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

    def lost(self, probe: Probe) -> bool:
        """Whether a limit on quality is proven broken by the samples that were run so far, of all that will be."""
        for limit in self.goal.limits:
            metric = metrics.find(limit.metric)
            if not metric.quality or limit.scope == "worst_slice":
                continue
            side, factor, constant = limit.bound(metric.better)
            if (scores := metric.by_sample(probe)) is None:
                continue
            margin = _margin(scores, factor, constant, self.confidence)
            lost = margin.high < 0 if side == "at_least" else margin.low > 0
            # the verdict is what is reported: it must say the same of the samples at hand
            if lost and verdict(metric.measure(probe), side, factor, constant, self.confidence)[0] == "broken":
                return True
        return False

    def _open(self, metric: Metric, probe: Probe) -> bool:
        comparison = metric.measure(probe)
        bounds = [x.bound(metric.better) for x in self.goal.limits if metrics.find(x.metric).name == metric.name]
        return any(verdict(comparison, *bound, self.confidence)[0] == "inconclusive" for bound in bounds)


def _margin(scores: Scores, factor: float, constant: float, confidence: float) -> Interval:
    """Of what has the sign of candidate - factor * original - constant: its mean over independent samples or groups."""
    weights = np.ones(len(scores.original)) if scores.weights is None else scores.weights
    values: Array = scores.candidate - factor * scores.original - constant * weights
    largest = 1
    if scores.groups is not None:
        _, first, inverse = np.unique(scores.groups, return_index=True, return_inverse=True)
        place = np.argsort(np.argsort(first))[inverse]  # groups as they come
        values, largest = np.bincount(place, weights=values), int(np.bincount(place).max())
    if not (np.isfinite(scores.least) and np.isfinite(scores.most)):
        return asymptotic_bounds(values, confidence)
    ends = [scores.least - factor * scores.most - constant, scores.most - factor * scores.least - constant]
    return bounds(values, min(0.0, largest * ends[0]), max(0.0, largest * ends[1]), confidence)
