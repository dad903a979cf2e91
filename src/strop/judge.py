"""Judge: measure a candidate by rank, and say of each limit whether it is met, broken or not decided."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import numpy as np

from . import metrics
from ._plain import restore
from .bench import Bench
from .errors import InvalidGoal, NotMeasurable
from .fairness import Rates, fairness
from .goal import Goal, Limit
from .metric import Metric
from .slices import (
    SMALLEST_SLICE,
    Drop,
    Share,
    Slice,
    SliceFigure,
    divide,
    measure_slices,
    slice_figures,
    slice_rows,
    supports,
    worst_drop,
)
from .spelling import option
from .stats import Comparison, Interval, Verdict, samples_needed, verdict
from .units import counted, named

Array = np.ndarray[Any, Any]
BySlice = tuple[Metric, dict[str, Comparison | str], dict[str, SliceFigure]]
"""A metric, what came of measuring it on each slice, and what is shown of that."""


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
        needed: Samples that would decide an inconclusive verdict on quality, where that can be told: of all slices
            together, in the shares that they have.
        slice: The slice that decides, for `worst_slice`.
        source: What the metric is had from, where that must be said.
        why: Why that slice can't be judged, where it can't.
        lost: Of what the limit allows, the share that was lost, by the point estimate: more than 1 breaks it. Where it
            asks for a gain, 1 is that gain, and more is less of it. None where it is not known.
        most: The same by the bound that has to keep it.
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
    why: str = ""
    lost: float | None = None
    most: float | None = None

    def __str__(self) -> str:
        return named(self.limit, self.source)

    def to_json(self) -> dict[str, Any]:
        """Plain data, as a manifest has it."""
        left_out = {"violation", "lost", "most"} | (set() if self.source else {"source"})
        return {key: value for key, value in asdict(self).items() if key not in left_out}


@dataclass(frozen=True)
class Report:
    """All that was measured of one candidate.

    Attributes:
        figures: By metric.
        judged: The limits that were looked at; those after the first broken one may be missing.
        slices: By `column=value`.
        worst_drops: The slice that loses most, metric by metric.
        churn: Shares of the predictions that changed, of a classifier.
        fairness: Protected column to rate to what was found of its values, of a binary classifier.
        notes: What a person should know of how it was measured.
        not_measurable: Metrics that can't be told here, and why.
    """

    figures: dict[str, Figure] = field(default_factory=dict)
    judged: tuple[Judged, ...] = ()
    slices: dict[str, Slice] = field(default_factory=dict)
    worst_drops: tuple[Drop, ...] = ()
    churn: dict[str, Share] = field(default_factory=dict)
    fairness: dict[str, dict[str, Rates]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    not_measurable: dict[str, str] = field(default_factory=dict)

    @property
    def broken(self) -> tuple[Judged, ...]:
        return tuple(j for j in self.judged if j.verdict == "broken")

    def details(self) -> dict[str, Any]:
        """What is told beyond the figures of the whole, as a manifest spells it."""
        plain = self.to_json()
        return {
            "slices": plain["slices"],
            "worst_drops": list(plain["worst_drops"]),
            "churn": plain["churn"] or None,
            "fairness": plain["fairness"],
        }

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
    sliced = whole or any(limit.scope == "worst_slice" for limit in goal.limits)
    rows = slice_rows(bench.data) if sliced else {}
    held = supports(bench.labels, rows)
    figures: dict[str, Figure] = {}
    judged: list[Judged] = []
    by_slice: list[BySlice] = []
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
        limits = [limit for limit in goal.limits if metrics.find(limit.metric).name == metric.name]
        parts: dict[str, Comparison | str] = {}
        if metric.quality and (whole or any(limit.scope == "worst_slice" for limit in limits)):
            parts = measure_slices(metric, bench, rows)
        for limit in limits:
            large = {name: part for name, part in parts.items() if held[name] >= limit.support}
            found = _judge(limit, metric, comparison, large, confidence, len(bench.data))
            judged.append(replace(found, source=source))
        if whole and metric.quality:
            by_slice.append((metric, parts, slice_figures(metric, comparison, parts)))
        if not whole and any(j.verdict == "broken" for j in judged):
            break
    report = Report(
        figures, tuple(judged), notes=(*bench.notes(), *_undecidable(goal, held)), not_measurable=not_measurable
    )
    if not by_slice:
        return report
    classifies = metrics.classifies(bench.original_outputs, bench.labels)
    return replace(
        report,
        slices={
            name: replace(_slice(name, part, by_slice, bench, classifies), support=held[name])
            for name, part in rows.items()
        },
        worst_drops=tuple(drop for metric, _, shown in by_slice if (drop := worst_drop(metric, shown))),
        churn=_churn(bench, None) if classifies else {},
        fairness={name: fairness(bench, divide(bench.data, name)) for name in bench.data.protected},
    )


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


def _undecidable(goal: Goal, held: Mapping[str, int]) -> list[str]:
    """What to know of the slices that a limit leaves out: they are not passed."""
    said = []
    for limit in goal.limits:
        small = [f"{name} ({count})" for name, count in held.items() if count < limit.support]
        if small:
            said.append(
                f"{limit} is undecidable on {counted(len(small), 'slice')} of fewer than {limit.support} samples of "
                f"the rarest class: {', '.join(small)}"
            )
    return said


def _slice(name: str, rows: Array, by_slice: Sequence[BySlice], bench: Bench, classifies: bool) -> Slice:
    if len(rows) < SMALLEST_SLICE:
        return Slice(len(rows))
    return Slice(
        len(rows),
        {metric.name: shown[name] for metric, _, shown in by_slice if name in shown},
        {metric.name: why for metric, parts, _ in by_slice if isinstance(why := parts[name], str)},
        _churn(bench, rows) if classifies else {},
    )


def _churn(bench: Bench, rows: Array | None) -> dict[str, Share]:
    return {
        name: Share(**asdict(found.candidate()), n=found.n) for name, found in metrics.churn(bench, rows).items()
    }  # fmt: skip


def _judge(
    limit: Limit,
    metric: Metric,
    comparison: Comparison,
    parts: Mapping[str, Comparison | str],
    confidence: float,
    samples: int,
) -> Judged:
    if limit.scope != "worst_slice":
        return _judge_one(limit, metric, comparison, confidence, samples, None)
    if not parts and not limit.support:
        raise InvalidGoal(f"`{limit}` needs slices, and none are named. Name a column: {option('slice', 'NAME')}.")
    if not parts:
        why = "no slice is large enough to be judged"
        return Judged(str(limit), "inconclusive", math.nan, -math.inf, math.inf, 0.0, why=why)
    each = [
        Judged(str(limit), "inconclusive", math.nan, -math.inf, math.inf, 0.0, slice=name, why=part)
        if isinstance(part, str)
        else _judge_one(limit, metric, part, confidence, samples, name)
        for name, part in parts.items()
    ]
    order = {"broken": 0, "inconclusive": 1, "met": 2}
    return min(each, key=lambda j: (order[j.verdict], -j.violation, j.value))


def _judge_one(
    limit: Limit, metric: Metric, comparison: Comparison, confidence: float, samples: int, slice: str | None
) -> Judged:
    side, factor, constant = limit.bound(metric.better)
    found, margin = verdict(comparison, side, factor, constant, confidence)
    open_ = found == "inconclusive" and metric.quality  # no number of samples makes a clock steadier
    needed = samples_needed(comparison, side, factor, constant, confidence) if open_ else None
    original = comparison.original(confidence).value
    if limit.relative and original < 0:  # a share of it would ask for more than the original has
        if slice is None:
            raise InvalidGoal(
                f"`{limit}` is a share of the original's, which must not be negative, and its {metric.name} is "
                f"{original:.4g}. Limit the change instead, as in `drop({metric.name}) <= 0.01`, or the number itself."
            )
        found, needed = "inconclusive", None
    if needed:  # of a slice, or of decisions of which a sample holds several
        needed = math.ceil(needed * samples / comparison.n)
    candidate = comparison.candidate(confidence)
    kept, least = (margin.value, margin.low) if side == "at_least" else (-margin.value, -margin.high)
    scale, allowed = abs(factor * original + constant) or 1.0, abs(original - factor * original - constant)
    return Judged(
        str(limit), found, candidate.value, candidate.low, candidate.high, max(0.0, -kept / scale), needed, slice,
        lost=_share(kept, allowed), most=_share(least, allowed),
    )  # fmt: skip


def _share(kept: float, allowed: float) -> float:
    """What was lost over what is allowed, told by what is left to the limit, and what the original has left to it."""
    if not allowed:
        return 0.0 if kept >= 0 else math.inf
    return 1 - kept / allowed
