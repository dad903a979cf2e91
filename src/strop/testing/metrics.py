"""What every metric owes, as a pytest class for authors of metrics, and a probe that holds arrays."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from ..errors import InvalidData, InvalidPlan, NotMeasurable
from ..goal import Limit
from ..metric import Draw, Metering, Metric, Outputs, Scenario, Scores, Timing
from ..stats import Comparison, Interval, verdict
from ..target import Target

Array = np.ndarray[Any, Any]

PAIRED = 0.9
"""Of what a difference would be known to from samples of each model's own: more, and the samples are not paired."""


@dataclass
class FakeProbe:
    """What a metric sees, of arrays at hand in the place of models that run.

    Attributes:
        original_outputs: By name; of one output the array itself, then called `y`. Likewise `candidate_outputs`.
        labels: One (or one row) a sample.
        groups: What samples belong together.
        sizes: Bytes on disk of original and candidate, and `compressed_sizes`.
        times: Of calls, whatever the scenario.
        peaks: Resident bytes, one number a process, of original and candidate.
        draws: Of the processor.
    """

    original_outputs: Any
    candidate_outputs: Any
    labels: Any = None
    groups: Any = None
    sizes: tuple[int, int] = (1000, 250)
    compressed_sizes: tuple[int, int] = (800, 200)
    times: Timing = field(default_factory=lambda: Timing([[np.ones(4)]], [[np.full(4, 0.5)]], (8, 8)))
    peaks: tuple[list[int], list[int]] = ([100, 90, 120], [50, 49, 60])
    draws: Metering = field(
        default_factory=lambda: Metering([[Draw(10.0, 0.5, 100)]], [[Draw(10.0, 0.5, 200)]], "RAPL")
    )
    target: Target = field(default_factory=lambda: Target(threads=1))
    seed: int = 0

    def __post_init__(self) -> None:
        self.original_outputs, self.candidate_outputs = map(_named, (self.original_outputs, self.candidate_outputs))
        self.labels, self.groups = (None if part is None else np.asarray(part) for part in (self.labels, self.groups))

    def timing(self, scenario: Scenario) -> Timing:
        return self.times

    def memory(self) -> tuple[list[int], list[int]]:
        return self.peaks

    def metering(self) -> Metering:
        return self.draws

    def itself(self) -> FakeProbe:
        """The original in the place of the candidate too."""
        times, draws = self.times, self.draws
        return replace(
            self, candidate_outputs=self.original_outputs, sizes=(self.sizes[0],) * 2,
            compressed_sizes=(self.compressed_sizes[0],) * 2, peaks=(self.peaks[0],) * 2,
            times=replace(times, candidate=times.original, batches=(times.batches[0],) * 2),
            draws=replace(draws, candidate=draws.original),
        )  # fmt: skip

    def take(self, rows: Array) -> FakeProbe:
        """Some samples only."""
        before, after = (
            {name: array[rows] for name, array in side.items()}
            for side in (self.original_outputs, self.candidate_outputs)
        )
        labels, groups = (None if part is None else part[rows] for part in (self.labels, self.groups))
        return replace(self, original_outputs=before, candidate_outputs=after, labels=labels, groups=groups)


class MetricCase:
    """What a metric owes.

    Attributes:
        metric: The instance under test.
    """

    metric: ClassVar[Metric]

    def example(self) -> FakeProbe:
        """What it can judge, 100 samples or more: a candidate that answers much as its original, and somewhat worse."""
        raise NotImplementedError

    def misfit(self) -> FakeProbe | None:
        """Outputs or labels that it refuses; None where it takes any."""
        return None

    def unmeasurable(self) -> Target | None:
        """A target without what it needs; None where it needs nothing."""
        return None

    def test_says_what_it_is(self) -> None:
        metric = self.metric
        assert (type(metric).__doc__ or "").strip()
        assert Limit.parse(f"{metric.name} >= 99% of original").metric == metric.name, "no goal can speak of it"
        assert metric.better in ("lower", "higher")
        assert metric.rank >= 0
        assert metric.quality or not (metric.share or metric.needs_labels or metric.of_classes)

    def test_bounds_hold(self) -> None:
        """A value lies within its bounds, further ones at more confidence; ratio and margin are of the same values."""
        found = self._measured(self.example())
        assert found.n >= 1
        before, after = found.original().value, found.candidate().value
        expected: dict[Callable[[float], Interval], float] = {
            found.original: before,
            found.candidate: after,
            found.ratio: after / before,
            partial(found.margin, 1, 0): after - before,
            partial(found.margin, 0.9, 0.01): after - 0.9 * before - 0.01,
        }
        for of, value in expected.items():
            near, sure = of(0.9), of(0.99)
            assert sure.low <= near.low <= near.value <= near.high <= sure.high
            assert math.isclose(near.value, value, rel_tol=1e-6, abs_tol=1e-9 * abs(before))
            assert near.value == sure.value

    def test_an_original_against_itself_is_no_difference(self) -> None:
        found = self._measured(self.example().itself())
        assert found.ratio().value == 1
        difference = found.margin(1, 0)
        assert difference.low <= difference.value == 0 <= difference.high
        assert verdict(found, "at_least" if self.metric.better == "higher" else "at_most", 1, 0)[0] != "broken"

    def test_a_worse_candidate_is_worse(self) -> None:
        found = self._measured(self.example())
        lost = found.original().value - found.candidate().value
        assert (lost if self.metric.better == "higher" else -lost) > 0, "is `better` the other way round?"

    def test_differences_are_paired(self) -> None:
        """What is hard for both models cancels out: the difference is known better than from samples of their own."""
        if not self.metric.quality:
            return
        probe = self.example()
        scores = self.metric.by_sample(probe)
        if scores is not None and len(np.unique(scores.original)) == 1:
            return  # it judges by the original, which scores the same everywhere
        found = self._measured(probe)
        apart = math.hypot(*(side.high - side.low for side in (found.original(), found.candidate())))
        difference = found.margin(1, 0)
        assert difference.high - difference.low < PAIRED * apart

    def test_a_slice_is_judged_by_its_samples(self) -> None:
        if not self.metric.quality:
            return
        probe = self.example()
        rows = np.flatnonzero(np.arange(_samples(probe)) % 3)
        part, alone = self.metric.measure(probe, rows), self._measured(probe.take(rows))
        for of in ("original", "candidate", "ratio"):
            assert getattr(part, of)() == getattr(alone, of)()

    def test_scores_of_samples_are_the_metric(self) -> None:
        """Where there are fewer scores than samples, as of pairs of them, they estimate it."""
        probe = self.example()
        scores = self.metric.by_sample(probe)
        if scores is None:
            return
        found = self._measured(probe)
        assert scores.groups is None or len(scores.groups) == len(scores.original)
        for values, weights, side in (
            (scores.original, scores.weights, found.original(0.99)),
            (scores.candidate, _weights_of_candidate(scores), found.candidate(0.99)),
        ):
            assert (scores.least <= values).all() and (values <= scores.most).all()
            mean = float(np.sum(values) / (len(values) if weights is None else np.sum(weights)))
            value = math.exp(mean) if scores.exponential else mean
            if len(values) < _samples(probe):
                assert side.low <= value <= side.high
            else:
                assert math.isclose(value, side.value, rel_tol=1e-6)

    def test_what_it_cannot_judge_is_refused_with_a_reason(self) -> None:
        probe = self.example()
        self.metric.check(probe.original_outputs, probe.labels)
        if (misfit := self.misfit()) is not None:
            _refused(InvalidData, partial(self.metric.check, misfit.original_outputs, misfit.labels))
        if self.metric.needs_labels:
            _refused(InvalidData, partial(self.metric.check, probe.original_outputs, None))

    def test_what_cannot_be_measured_is_refused_beforehand(self) -> None:
        probe = self.example()
        self.metric.requires(probe.target)
        if (target := self.unmeasurable()) is not None:
            _refused((NotMeasurable, InvalidPlan), partial(self.metric.requires, target))

    def _measured(self, probe: FakeProbe) -> Comparison:
        return self.metric.measure(probe)


def _named(outputs: Any) -> Outputs:
    return outputs if isinstance(outputs, dict) else {"y": np.asarray(outputs)}


def _samples(probe: FakeProbe) -> int:
    return len(next(iter(probe.original_outputs.values())))


def _weights_of_candidate(scores: Scores) -> Array | None:
    return scores.weights if scores.weights_candidate is None else scores.weights_candidate


def _refused(kind: type[Exception] | tuple[type[Exception], ...], call: Callable[[], object]) -> None:
    try:
        call()
    except kind as error:
        assert len(str(error).split()) >= 8, "a refusal says what is wrong, and the next step"
        assert "\n" not in str(error)
    else:
        raise AssertionError("it took what it should refuse")
