"""Judge: measure a candidate by rank, and say of each limit whether it is met, broken or not decided."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import numpy as np

from . import metrics
from ._plain import restore
from .bench import Bench
from .errors import InvalidGoal, NotMeasurable
from .goal import Goal, Limit
from .metric import Metric
from .stats import Comparison, Interval, Verdict, samples_needed, verdict
from .units import named

Array = np.ndarray[Any, Any]

SMALLEST_SLICE = 30  # samples; smaller slices are counted, not judged


@dataclass(frozen=True)
class Figure:
    """One metric of original and candidate, each with its spread.

    Attributes:
        source: What it is had from, where that must be said.
    """

    original: Interval
    candidate: Interval
    ratio: Interval
    unit: str
    n: int
    source: str = ""

    def side(self, name: str) -> dict[str, Any]:
        """Of `original` or `candidate`: plain data, as a manifest has them."""
        source = {"source": self.source} if self.source else {}
        return {**asdict(getattr(self, name)), "unit": self.unit, "n": self.n, **source}


@dataclass(frozen=True)
class Judged:
    """What was found of one limit.

    Attributes:
        limit: As text.
        verdict: At the confidence stated by who asked.
        value: The candidate's, in the metric's unit (for `worst_slice`: of the worst slice).
        violation: How far the point estimate is on the wrong side, relative to the threshold; 0 on the right side.
        needed: Samples that would decide an inconclusive verdict, where that can be told.
        slice: The slice that decides, for `worst_slice`.
        source: What the metric is had from, where that must be said.
    """

    limit: str
    verdict: Verdict
    value: float
    low: float
    high: float
    violation: float
    needed: int | None = None
    slice: str | None = None
    source: str = ""

    def __str__(self) -> str:
        return named(self.limit, self.source)

    def to_json(self) -> dict[str, Any]:
        """Plain data, as a manifest has it."""
        left_out = {"violation"} if self.source else {"violation", "source"}
        return {key: value for key, value in asdict(self).items() if key not in left_out}


@dataclass(frozen=True)
class Report:
    """All that was measured of one candidate.

    Attributes:
        figures: By metric.
        judged: The limits that were looked at; those after the first broken one may be missing.
        slices: Slice (`column=value`) to metric to figure.
        notes: What disturbed the measuring.
        not_measurable: Metrics that can't be told here, and why.
    """

    figures: dict[str, Figure] = field(default_factory=dict)
    judged: tuple[Judged, ...] = ()
    slices: dict[str, dict[str, Figure]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    not_measurable: dict[str, str] = field(default_factory=dict)

    @property
    def broken(self) -> tuple[Judged, ...]:
        return tuple(j for j in self.judged if j.verdict == "broken")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, json: dict[str, Any]) -> Self:
        return restore(cls, json)


def judge(
    bench: Bench,
    goal: Goal,
    also: Sequence[str] = (),
    *,
    confidence: float,
    whole: bool,
    progress: Callable[[str], None] = lambda words: None,
) -> Report:
    """Measure what the goal speaks of, cheap metrics first.

    Args:
        bench: Original and candidate.
        also: Further metrics to report.
        confidence: Of each one-sided bound.
        whole: Measure everything, slices included; else stop at the first limit proven broken.

    Raises:
        InvalidGoal: A limit on slices where there are none, or on a share of something negative.
        InvalidData: Outputs that a metric can't judge.
        NotMeasurable: What the goal speaks of can't be told here; of what is only reported, the report says so.
    """
    needed = {metrics.find(name).name for name in goal.metrics}
    wanted = [metrics.find(name) for name in dict.fromkeys([*goal.metrics, *also])]
    figures: dict[str, Figure] = {}
    judged: list[Judged] = []
    not_measurable: dict[str, str] = {}
    for metric in sorted(wanted, key=lambda metric: metric.rank):
        progress(metric.name)
        try:
            comparison, source = metric.measure(bench), metric.source(bench)
        except NotMeasurable as error:
            if metric.name in needed:
                raise
            not_measurable[metric.name] = str(error)
            continue
        figures[metric.name] = figure(metric, comparison, source)
        for limit in goal.limits:
            if metrics.find(limit.metric).name == metric.name:
                judged.append(replace(_judge(limit, metric, comparison, bench, confidence), source=source))
        if not whole and any(j.verdict == "broken" for j in judged):
            break
    slices = _by_slice(bench, [m for m in wanted if m.quality]) if whole else {}
    return Report(figures, tuple(judged), slices, bench.notes(), not_measurable)


def figure(metric: Metric, comparison: Comparison, source: str = "") -> Figure:
    """What a person is shown of a comparison."""
    return Figure(
        comparison.original(), comparison.candidate(), comparison.ratio(), metric.unit, comparison.n, source
    )  # fmt: skip


def score(report: Report, goal: Goal) -> float:
    """The objective as a number to minimize: the ratio to the original, which noise of the machine spares.

    Where the original has nothing above zero to be a share of, it is the candidate's own value.
    """
    found = report.figures.get(metrics.find(goal.objective).name)
    if found is None:
        return math.inf
    value = found.ratio.value if found.original.value > 0 else found.candidate.value
    return value if goal.direction == "minimize" else -value


def better_than_original(report: Report, goal: Goal, noise: float) -> bool:
    """Whether the objective is proven better than the original's, at 95 %, and by more than the noise floor.

    Args:
        noise: By how much the ratio of the original to itself is off 1.
    """
    found = report.figures[metrics.find(goal.objective).name]
    less = goal.direction == "minimize"
    if not found.original.value > 0:  # there is no ratio to speak of
        original, candidate = found.original, found.candidate
        return candidate.high < original.low if less else candidate.low > original.high
    ratio = found.ratio
    return (ratio.high < 1 if less else ratio.low > 1) and abs(ratio.value - 1) > noise


def slice_masks(bench: Bench) -> dict[str, Array]:
    """The samples of each slice, by `column=value`."""
    masks = {}
    for column, values in bench.data.slice_arrays().items():
        for value in np.unique(values):
            masks[f"{column}={value}"] = np.flatnonzero(values == value)
    return masks


def _judge(limit: Limit, metric: Metric, comparison: Comparison, bench: Bench, confidence: float) -> Judged:
    if limit.scope != "worst_slice":
        return _judge_one(limit, metric, comparison, confidence, None)
    each = []
    for name, rows in slice_masks(bench).items():
        one = _judge_one(limit, metric, metric.measure(bench, rows), confidence, name)
        small = len(rows) < SMALLEST_SLICE
        each.append(Judged(**{**asdict(one), "verdict": "inconclusive"}) if small else one)
    if not each:
        raise InvalidGoal(f"`{limit}` needs slices, and none are named. Name a column with --slice NAME.")
    order = {"broken": 0, "inconclusive": 1, "met": 2}
    return min(each, key=lambda j: (order[j.verdict], -j.violation, j.value))


def _judge_one(limit: Limit, metric: Metric, comparison: Comparison, confidence: float, slice: str | None) -> Judged:
    side, factor, constant = limit.bound(metric.better)
    found, margin = verdict(comparison, side, factor, constant, confidence)
    original = comparison.original(confidence).value
    if limit.relative and original < 0:  # a share of it would ask for more than the original has
        if slice is None:
            raise InvalidGoal(
                f"`{limit}` is a share of the original's, which must not be negative, and its {metric.name} is "
                f"{original:.4g}. Limit the change instead, as in `drop({metric.name}) <= 0.01`, or the number itself."
            )
        found = "inconclusive"
    candidate = comparison.candidate(confidence)
    wrong = -margin.value if side == "at_least" else margin.value
    scale = abs(factor * original + constant) or 1.0
    needed = samples_needed(comparison, side, factor, constant, confidence) if found == "inconclusive" else None
    return Judged(
        str(limit), found, candidate.value, candidate.low, candidate.high, max(0.0, wrong / scale), needed, slice
    )


def _by_slice(bench: Bench, quality: Sequence[Metric]) -> dict[str, dict[str, Figure]]:
    return {
        name: {metric.name: figure(metric, metric.measure(bench, rows)) for metric in quality}
        for name, rows in slice_masks(bench).items()
        if len(rows) >= SMALLEST_SLICE
    }
