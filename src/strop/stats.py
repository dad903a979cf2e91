"""Statistics: intervals and one-sided tests of paired measurements."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal, Protocol

import numpy as np

from ._numerics import (
    leaning,
    least_ratio,
    mean_bound,
    membership,
    skewness,
    stretch,
    timing_mean,
    timing_quantile,
    unseen,
)

Array = np.ndarray[Any, Any]
Verdict = Literal["met", "broken", "inconclusive"]
Side = Literal["at_least", "at_most"]

MOST_UNITS = 2000  # more are merged or drawn from, so that a bootstrap's cost does not grow with the data


@dataclass(frozen=True)
class Interval:
    """A value with its spread: two one-sided bounds, each at the stated confidence; infinite where nothing is known."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Unseen:
    """What a change that no sample shows may still do: it may befall 1 - (1 - confidence)^(1/support) of them.

    Attributes:
        least: The least value possible.
        most: The greatest.
        support: Independent samples; of a metric that hangs on a rare class, those of this class.
        fell: Whether some sample is seen to score less on the candidate.
        rose: The same for more.
    """

    least: float
    most: float
    support: int
    fell: bool
    rose: bool

    def alone(self, found: Interval, confidence: float) -> Interval:
        """The interval of one value, with room for the unseen where it is at the end of what is possible."""
        least, most = self.least, self.most
        rare = unseen(self.support, confidence)
        low = most - rare * (most - least) if found.value >= most else found.low
        high = least + rare * (most - least) if found.value <= least else found.high
        return Interval(found.value, max(min(low, found.low), least), min(max(high, found.high), most))

    def changed(
        self, found: Interval, of: Callable[[float, float], float], candidate: float, original: float, confidence: float
    ) -> Interval:
        """The interval of `of(candidate, original)`, widened on the side on which no sample shows a change."""
        rare = unseen(self.support, confidence)

        def with_rare(lost: float, had: float) -> float:
            return of((1 - rare) * candidate + rare * lost, (1 - rare) * original + rare * had)

        low, high = found.low, found.high
        if not self.fell:
            low = min(low, with_rare(self.least, self.most))
        if not self.rose:
            high = max(high, with_rare(self.most, self.least))
        return Interval(found.value, low, high)


class Comparison(Protocol):
    """What is known of one metric on original and candidate, measured on the same samples or in the same runs."""

    @property
    def n(self) -> int:
        """Samples or runs behind it."""
        ...

    def original(self, confidence: float = 0.95) -> Interval: ...
    def candidate(self, confidence: float = 0.95) -> Interval: ...
    def ratio(self, confidence: float = 0.95) -> Interval:
        """Candidate / original."""
        ...

    def margin(self, factor: float, constant: float, confidence: float = 0.95) -> Interval:
        """Of candidate - factor * original - constant, tested as such: the bound a limit needs."""
        ...


@dataclass(frozen=True)
class Exact:
    """Two numbers without spread, such as sizes."""

    original_value: float
    candidate_value: float

    @property
    def n(self) -> int:
        return 1

    def original(self, confidence: float = 0.95) -> Interval:
        return _point(self.original_value)

    def candidate(self, confidence: float = 0.95) -> Interval:
        return _point(self.candidate_value)

    def ratio(self, confidence: float = 0.95) -> Interval:
        return _point(quotient(self.candidate_value, self.original_value))

    def margin(self, factor: float, constant: float, confidence: float = 0.95) -> Interval:
        return _point(self.candidate_value - factor * self.original_value - constant)


class Binary:
    """Paired 0/1 scores of independent samples.

    All bounds are of one kind, `mean_bound` of a linear contrast of the four cells (original, candidate): exact
    (Clopper & Pearson 1934) for a single rate and for a difference without disagreement, where no flip in n samples
    still leaves about 3/n at 95 %; Gaffke 2005 for the rest. They cover at least the stated confidence at any rate.

    Args:
        original: [n], 0 or 1 (or bool).
        candidate: [n], the same samples.
    """

    def __init__(self, original: Array, candidate: Array):
        cells = np.bincount(2 * (np.asarray(original) != 0) + (np.asarray(candidate) != 0), minlength=4)
        self.cells: tuple[int, ...] = tuple(int(count) for count in cells)
        """Counts of (original, candidate) = (0, 0), (0, 1), (1, 0), (1, 1)."""

    @property
    def n(self) -> int:
        return sum(self.cells)

    def original(self, confidence: float = 0.95) -> Interval:
        return _contrast(self.cells, (0, 0, 1, 1), confidence)

    def candidate(self, confidence: float = 0.95) -> Interval:
        return _contrast(self.cells, (0, 1, 0, 1), confidence)

    def ratio(self, confidence: float = 0.95) -> Interval:
        """The factors for which `margin(factor, 0)` reaches 0. Infinite above where the original is never right."""
        both, gained, lost, neither = self.cells[3], self.cells[1], self.cells[2], self.cells[0]
        upside_down = least_ratio(np.array([neither, lost, gained, both]), confidence)
        return Interval(
            quotient(gained + both, lost + both),
            least_ratio(np.array(self.cells), confidence),
            1 / upside_down if upside_down > 0 else math.inf,
        )

    def margin(self, factor: float, constant: float, confidence: float = 0.95) -> Interval:
        return shifted(_contrast(self.cells, (0, 1, -factor, 1 - factor), confidence), constant)


@dataclass(frozen=True, eq=False)
class Replicates:
    """Two values with bootstrap replicates of each, drawn together; bounds are their percentiles.

    Attributes:
        original_value: As measured.
        candidate_value: As measured.
        original_reps: [r], NaN where a resample leaves the value undefined.
        candidate_reps: [r], from the same resamples.
        n: Samples or runs behind it.
        units: How many independent units were resampled. Percentiles are stretched by Student's t over the normal
            quantile and by sqrt(units / (units - 1)), as a t interval is (Hesterberg 2015, section 5.3), and taken
            further out where the replicates lean that way, as BCa has it (Efron 1987, for a mean); one unit tells
            nothing about spread. None: neither.
        unseen: For scores of few values, of which a change may not show; None: every change shows.
        positive: Whether both values are above zero by nature, as times are: their bounds, and those of their ratio,
            are then stretched on the logarithmic scale, and stay above zero too.
    """

    original_value: float
    candidate_value: float
    original_reps: Array
    candidate_reps: Array
    n: int
    units: int | None = None
    unseen: Unseen | None = None
    positive: bool = False

    def original(self, confidence: float = 0.95) -> Interval:
        return self._single(self.original_value, self.original_reps, confidence)

    def candidate(self, confidence: float = 0.95) -> Interval:
        return self._single(self.candidate_value, self.candidate_reps, confidence)

    def ratio(self, confidence: float = 0.95) -> Interval:
        """Unknown where the original is negative: a greater ratio would then be a lesser value."""
        if self.original_value < 0:
            return Interval(math.nan, -math.inf, math.inf)
        with np.errstate(divide="ignore", invalid="ignore"):
            reps = self.candidate_reps / self.original_reps
        value = quotient(self.candidate_value, self.original_value)
        found = _percentiles(value, reps, confidence, self.units, self.positive)
        return self._widened(found, quotient, confidence)

    def margin(self, factor: float, constant: float, confidence: float = 0.95) -> Interval:
        if factor == 0:
            return shifted(self.candidate(confidence), constant)

        def contrast(candidate: float, original: float) -> float:
            return candidate - factor * original

        value = contrast(self.candidate_value, self.original_value)
        found = _percentiles(value, self.candidate_reps - factor * self.original_reps, confidence, self.units)
        return shifted(self._widened(found, contrast, confidence), constant)

    def _single(self, value: float, reps: Array, confidence: float) -> Interval:
        found = _percentiles(value, reps, confidence, self.units, self.positive)
        return found if self.unseen is None else self.unseen.alone(found, confidence)

    def _widened(self, found: Interval, of: Callable[[float, float], float], confidence: float) -> Interval:
        if self.unseen is None:
            return found
        return self.unseen.changed(found, of, self.candidate_value, self.original_value, confidence)


class Statistic(Replicates):
    """A value that only a whole set has (F1, rank correlation, ...), recomputed on 500 paired bootstrap resamples.

    Of more than 2,000 groups, 2,000 are drawn each time and deviations scaled to the full number (m out of n
    bootstrap, Bickel, Goetze & van Zwet 1997).

    Args:
        function: Of outputs and labels, both cut to the same rows; NaN where it is undefined.
        original: Array, or arrays by name, axis 0 being samples.
        candidate: The same.
        labels: [n, ...], or None.
        groups: [n], what samples belong together.
        bounds: The least and greatest value possible, where an unseen change must be reckoned with (`Unseen`).
        support: See `Unseen`; None for the number of groups.
        seed: Of the resamples.
    """

    def __init__(
        self,
        function: Callable[[Any, Any], float],
        original: Array | Mapping[str, Array],
        candidate: Array | Mapping[str, Array],
        labels: Array | None,
        groups: Array | None = None,
        bounds: tuple[float, float] | None = None,
        support: int | None = None,
        seed: int = 0,
    ):
        n = len(next(iter(original.values()))) if isinstance(original, Mapping) else len(original)
        values = [float(function(outputs, labels)) for outputs in (original, candidate)]
        member, units = membership(groups, n)
        members = np.split(np.argsort(member, kind="stable"), np.cumsum(np.bincount(member))[:-1])
        drawn = min(units, MOST_UNITS)
        rng = np.random.default_rng(seed)
        reps = np.empty((2, 500))
        for at in range(reps.shape[1]):
            chosen = rng.integers(0, units, drawn)
            rows = chosen if groups is None else np.concatenate([members[unit] for unit in chosen])
            judged = None if labels is None else labels[rows]
            for which, outputs in enumerate((original, candidate)):
                deviation = function(taken(outputs, rows), judged) - values[which]
                reps[which, at] = values[which] + deviation * math.sqrt(drawn / units)
        changed = bool((reps[0] != reps[1]).any())
        rare = None if bounds is None else Unseen(*bounds, units if support is None else support, changed, changed)
        super().__init__(values[0], values[1], reps[0], reps[1], n, units, rare)


def taken(outputs: Any, rows: Array) -> Any:
    """Rows of an array, or of each array of a mapping."""
    if isinstance(outputs, Mapping):
        return {name: array[rows] for name, array in outputs.items()}
    return outputs[rows]


def bootstrap_timing(
    original: list[list[Array]], candidate: list[list[Array]], statistic: str, seed: int, resamples: int = 400
) -> Replicates:
    """Resample timings hierarchically: pairs of processes, then blocks within a pair; pool, take the statistic.

    Original and candidate take turns, so a drawn block index stands for both.

    Args:
        original: Seconds a call; one list a pair of processes, one array a block.
        candidate: The same, block beside block.
        statistic: `p50`, `p95`, `p99` (any `pNN`) or `mean`.
        seed: Of the resamples.
        resamples: How many.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.multinomial(len(original), np.full(len(original), 1 / len(original)), size=resamples)
    weights = np.concatenate(
        [
            rng.multinomial(chosen[:, pair] * len(blocks), np.full(len(blocks), 1 / len(blocks)))
            for pair, blocks in enumerate(original)
        ],
        axis=1,
    )
    summarize = timing_mean if statistic == "mean" else timing_quantile(float(statistic.removeprefix("p")) / 100)
    sides = []
    for pairs in (original, candidate):
        blocks = [np.asarray(block, np.float64) for pair in pairs for block in pair]
        sides.append((summarize(blocks, np.ones((1, len(blocks))))[0], summarize(blocks, weights.astype(np.float64))))
    runs = sum(len(block) for pair in candidate for block in pair)
    return Replicates(
        float(sides[0][0]), float(sides[1][0]), sides[0][1], sides[1][1], runs, units=len(original), positive=True
    )


def verdict(
    comparison: Comparison, side: Side, factor: float, constant: float, confidence: float = 0.95
) -> tuple[Verdict, Interval]:
    """Judge the limit candidate >= (<=) factor * original + constant, and return the interval of the margin.

    Met when the one-sided bound keeps it, broken when the other bound does not, else inconclusive.
    """
    margin = comparison.margin(factor, constant, confidence)
    low, high = (margin.low, margin.high) if side == "at_least" else (-margin.high, -margin.low)
    return "met" if low >= 0 else "broken" if high < 0 else "inconclusive", margin


def samples_needed(
    comparison: Comparison, side: Side, factor: float, constant: float, confidence: float = 0.95
) -> int | None:
    """How many samples would decide a limit, were the margin to stay as observed: more than there are, if it is open.

    Spread is taken to shrink with the root of n. None: the margin is 0 or its spread unknown; no number would do.
    """
    decided, margin = verdict(comparison, side, factor, constant, confidence)
    if decided != "inconclusive":
        return comparison.n
    spread = margin.value - margin.low if margin.value > 0 else margin.high - margin.value
    if not math.isfinite(spread) or abs(margin.value) < 1e-12:
        return None
    return max(comparison.n + 1, math.ceil(comparison.n * (spread / margin.value) ** 2))  # a bound may lie at 0


def detectable_drop(n: int, rate_of_disagreement: float, confidence: float = 0.95, power: float = 0.8) -> float:
    """The smallest permitted drop of a 0/1 score that n samples can prove for a candidate that loses nothing.

    Args:
        n: Independent samples.
        rate_of_disagreement: Share of samples, 0 to 1, on which original and candidate are expected to differ.
        confidence: Of the verdict.
        power: Chance that a candidate without any drop is proven.
    """
    z = NormalDist().inv_cdf(confidence) + NormalDist().inv_cdf(power)
    few = 1.5 / n  # the unseen sample that the bound reckons with, and the skewness of few events
    return max(z * math.sqrt(rate_of_disagreement / n) + few, unseen(n, confidence))


def _point(value: float) -> Interval:
    return Interval(value, value, value)


def shifted(interval: Interval, constant: float) -> Interval:
    return Interval(interval.value - constant, interval.low - constant, interval.high - constant)


def quotient(candidate: float, original: float) -> float:
    if original == 0:
        return 1.0 if candidate == 0 else math.copysign(math.inf, candidate)
    return candidate / original


def _contrast(cells: tuple[int, ...], values: tuple[float, ...], confidence: float) -> Interval:
    contrast = np.array([values, [-value for value in values]])
    low, high = mean_bound(np.array(cells), contrast, confidence)
    return Interval(float(contrast[0] @ cells) / sum(cells), float(low), -float(high))


def _percentiles(value: float, reps: Array, confidence: float, units: int | None, positive: bool = False) -> Interval:
    if positive:
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = _percentiles(float(np.log(value)), np.log(reps), confidence, units)
        with np.errstate(over="ignore"):
            low, high = np.exp([logs.low, logs.high])
        return Interval(value, min(value, float(low)), max(value, float(high)))  # beyond what rounding leaves
    known = reps[~np.isnan(reps)]
    if units == 1 or 2 * len(known) <= len(reps):
        return Interval(value, -math.inf, math.inf)
    lean = 0.0 if units is None else skewness(known) / 6
    low = float(np.quantile(known, 1 - leaning(confidence, -lean), method="lower"))
    high = float(np.quantile(known, leaning(confidence, lean), method="higher"))
    widening = 1.0 if units is None else stretch(units, confidence)
    # no difference of infinities: both ends may be infinite where a denominator is 0
    return Interval(
        value,
        value - widening * (value - low) if low < value else value,
        value + widening * (high - value) if high > value else value,
    )
