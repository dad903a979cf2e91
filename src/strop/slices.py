"""Slices: each quality metric on parts of the samples, the worst drop, and which parts lose more than the whole."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from .data import Data
from .errors import InvalidData
from .metric import Metric, Probe
from .stats import Binary, Comparison, Interval, Replicates
from .units import counted

Array = np.ndarray[Any, Any]

SMALLEST_SLICE = 30  # samples; smaller slices are counted, not judged
ERROR_RATE = 0.05  # of any false flag among all slices of a metric
RESOLVED = 0.95  # confidence beyond which some hundreds of bootstrap replicates tell no quantile


@dataclass(frozen=True)
class Share:
    """A share of samples with its spread.

    Attributes:
        n: Samples (or decisions) behind it.
    """

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class SliceFigure:
    """One metric of original and candidate on one slice.

    Attributes:
        difference: Candidate - original, paired.
        flagged: Whether the slice is proven to lose more than the whole does.
    """

    original: Interval
    candidate: Interval
    ratio: Interval
    difference: Interval
    unit: str
    n: int
    flagged: bool


@dataclass(frozen=True)
class Slice:
    """What was found of one slice.

    Attributes:
        n: Its samples; below `SMALLEST_SLICE` nothing else is told.
        metrics: What each has found, where it has a value.
        undefined: Metric to why it has no value here.
        churn: Shares of predictions that changed, of a classifier.
        support: Its samples of the rarest class; of labels that are no classes, its samples.
    """

    n: int
    metrics: dict[str, SliceFigure] = field(default_factory=dict)
    undefined: dict[str, str] = field(default_factory=dict)
    churn: dict[str, Share] = field(default_factory=dict)
    support: int = 0


@dataclass(frozen=True)
class Drop:
    """The slice on which the candidate loses most by a metric.

    Attributes:
        value: How much worse it is than the original there, in the metric's unit; negative where it is better.
    """

    metric: str
    slice: str
    value: float
    low: float
    high: float
    unit: str
    n: int
    flagged: bool


def slice_rows(data: Data) -> dict[str, Array]:
    """The samples of each slice, by `column=value`; of a crossing, by `column=value*column=value`."""
    return {name: rows for names in (*data.slices, *data.crossings) for name, rows in divide(data, names).items()}


def divide(data: Data, name: str) -> dict[str, Array]:
    """The samples of each value of a slice column, or of each combination of values of a crossing."""
    arrays = data.slice_arrays()
    columns = [name] if name in arrays else name.split("*")
    values, codes = zip(*(np.unique(arrays[column], return_inverse=True) for column in columns), strict=True)
    found, member = np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)
    rows = np.split(np.argsort(member, kind="stable"), np.cumsum(np.bincount(member))[:-1])

    def spelled(combination: Array) -> str:
        pairs = zip(columns, values, combination, strict=True)
        return "*".join(f"{column}={known[code]}" for column, known, code in pairs)

    return {spelled(combination): part for combination, part in zip(found, rows, strict=True)}


def supports(labels: Array | None, rows: Mapping[str, Array]) -> dict[str, int]:
    """Of each slice, its samples of the rarest class that there is; where labels are no classes, its samples."""
    if labels is None or labels.ndim != 1 or labels.dtype.kind not in "biu":
        return {name: len(part) for name, part in rows.items()}
    classes, codes = np.unique(labels, return_inverse=True)
    return {name: int(np.bincount(codes[part], minlength=len(classes)).min()) for name, part in rows.items()}


def measure_slices(metric: Metric, probe: Probe, rows: Mapping[str, Array]) -> dict[str, Comparison | str]:
    """Measure a metric on every slice; a text says why it has no value there, or that the slice is too small."""
    return {name: _measure(metric, probe, part) for name, part in rows.items()}


def _measure(metric: Metric, probe: Probe, rows: Array) -> Comparison | str:
    if len(rows) < SMALLEST_SLICE:
        return f"{counted(len(rows), 'sample')}, and a slice needs {SMALLEST_SLICE}"
    outputs = {name: array[rows] for name, array in probe.original_outputs.items()}
    try:
        metric.check(outputs, None if probe.labels is None else probe.labels[rows])
        comparison = metric.measure(probe, rows)
    except InvalidData as error:
        return str(error)
    if math.isnan(comparison.margin(1.0, 0.0).value):
        return f"{metric.name} has no value on these samples"
    return comparison


def flagged(whole: Comparison, parts: Mapping[str, Comparison], better: Literal["lower", "higher"]) -> Collection[str]:
    """The slices that are proven to lose more than the whole does, all of them right with `1 - ERROR_RATE`.

    Holm's step-down (Holm 1979), read from bounds in place of p-values: a slice of m is flagged where its bound at
    1 - rate / m shows it, and every flag makes m one less for the others.
    """
    sign = 1.0 if better == "higher" else -1.0
    left = {name: part for name, part in parts.items() if part.n != whole.n}
    found: set[str] = set()
    while left:
        confidence = 1 - ERROR_RATE / (len(parts) - len(found))
        all_of_it = _towards(whole, -sign, confidence)
        now = {name for name, part in left.items() if _loses_more(part, all_of_it, part.n / whole.n, sign, confidence)}
        if not now:
            break
        found |= now
        left = {name: part for name, part in left.items() if name not in now}
    return found


def _loses_more(part: Comparison, whole: tuple[float, float], share: float, sign: float, confidence: float) -> bool:
    """Whether the slice's paired difference is bounded on the bad side of the whole's.

    The bound on a difference of two correlated estimates is made of theirs (MOVER: Zou 2007, Psychological Methods 12,
    section on dependent correlations). With the share f of the slice in the whole, their covariance is f times the
    slice's variance. To take the whole as fixed would be too bold where the rest varies more than the slice.

    Args:
        whole: Its difference, and how far the bound away from the bad side lies from it.
        share: Of the whole that is in the slice.
    """
    ours, reach = _towards(part, sign, confidence)
    all_of_it, reach_of_whole = whole
    rest = max(0.0, reach_of_whole**2 - (share * reach) ** 2)
    return sign * (ours - all_of_it) + math.sqrt(((1 - share) * reach) ** 2 + rest) < 0


def _towards(comparison: Comparison, sign: float, confidence: float) -> tuple[float, float]:
    """A paired difference, and how far its bound lies above it (sign 1) or below (sign -1).

    Many slices ask for bounds far out. Replicates are too few for such quantiles, so from `RESOLVED` on their bound
    grows as Student's t (or the normal) does. Score bounds of counts get the continuity correction (Yates 1934):
    without it 20 slices of 500 raise a false flag in 6 % of simulated comparisons, with it in 4 %.
    """
    resolved = min(confidence, RESOLVED) if isinstance(comparison, Replicates) else confidence
    found = comparison.margin(1.0, 0.0, resolved)
    reach = found.high - found.value if sign > 0 else found.value - found.low
    if isinstance(comparison, Binary):
        reach += 0.5 / comparison.n
    if isinstance(comparison, Replicates) and resolved < confidence:
        from scipy.special import stdtrit

        freedom = math.inf if comparison.units is None else comparison.units - 1
        reach *= float(stdtrit(freedom, confidence) / stdtrit(freedom, resolved))
    return found.value, reach


def slice_figures(
    metric: Metric, whole: Comparison, measured: Mapping[str, Comparison | str]
) -> dict[str, SliceFigure]:
    """What a person is shown of a metric on those slices that it could be measured on."""
    parts = {name: found for name, found in measured.items() if not isinstance(found, str)}
    marked = flagged(whole, parts, metric.better)
    return {
        name: SliceFigure(
            part.original(), part.candidate(), part.ratio(), part.margin(1.0, 0.0), metric.unit, part.n, name in marked
        )
        for name, part in parts.items()
    }  # fmt: skip


def worst_drop(metric: Metric, figures: Mapping[str, SliceFigure]) -> Drop | None:
    """The slice on which a metric drops most; None without slices."""
    drops = [
        Drop(metric.name, name, *_loss(figure.difference, metric.better), figure.unit, figure.n, figure.flagged)
        for name, figure in figures.items()
    ]
    return max(drops, key=lambda drop: drop.value, default=None)


def _loss(difference: Interval, better: Literal["lower", "higher"]) -> tuple[float, float, float]:
    if better == "lower":
        return difference.value, difference.low, difference.high
    return -difference.value, -difference.high, -difference.low
