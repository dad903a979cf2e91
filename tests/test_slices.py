"""Slices: how samples are divided, and a flag that finds what is there and is seldom wrong, by simulated sampling.

Rates of a simulation carry a Monte Carlo error, stated as one standard error; a rate may exceed its nominal value by
twice that.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from strop.data import Data
from strop.errors import InvalidData
from strop.metric import Metric
from strop.samples import Samples
from strop.slices import ERROR_RATE, SliceFigure, divide, flagged, measure_slices, slice_rows, worst_drop
from strop.stats import Binary, Comparison, Interval, Replicates

Array = np.ndarray[Any, Any]
NORMAL = NormalDist()


def data(**columns: Any) -> Data:
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    n = len(next(iter(arrays.values())))
    return Data({"x": np.zeros((n, 1), np.float32)}, np.zeros(n, np.int64), arrays)


def test_a_slice_is_a_value_of_a_column() -> None:
    found = slice_rows(data(sex=["F", "M", "F"], age=[30.0, np.nan, np.nan], vip=[True, False, True]))
    assert {name: rows.tolist() for name, rows in found.items()} == {
        "sex=F": [0, 2], "sex=M": [1], "age=30.0": [0], "age=nan": [1, 2], "vip=False": [1], "vip=True": [0, 2],
    }  # fmt: skip


def test_a_crossing_is_every_combination_that_occurs() -> None:
    whole = data(sex=["F", "M", "F", "F"], race=["A", "A", "B", "A"], day=[1, 1, 1, 2])
    assert {name: rows.tolist() for name, rows in divide(whole, "sex*race").items()} == {
        "sex=F*race=A": [0, 3], "sex=F*race=B": [2], "sex=M*race=A": [1],
    }  # fmt: skip
    assert list(divide(whole, "day*race*sex")) == [
        "day=1*race=A*sex=F", "day=1*race=A*sex=M", "day=1*race=B*sex=F", "day=2*race=A*sex=F",
    ]  # fmt: skip


def test_slices_follow_the_rows_of_a_view() -> None:
    assert slice_rows(data(sex=["F", "M", "F"]).take([2, 1]))["sex=F"].tolist() == [0]


class Scores(Metric):
    """The mean of the outputs; refuses where all labels are one."""

    name = "scores"
    rank = 10

    def __init__(self, better: Any = "higher"):
        self.better = better

    def check(self, outputs: Any, labels: Any) -> None:
        if (labels == labels[0]).all():
            raise InvalidData("one label only")

    def measure(self, probe: Any, rows: Array | None = None) -> Comparison:
        return Samples(probe.original_outputs["y"][rows], probe.candidate_outputs["y"][rows])


class Probe:
    labels = np.arange(200) % 2
    groups = None
    seed = 0
    original_outputs: Mapping[str, Array] = {"y": np.linspace(0, 1, 200)}

    def __init__(self, candidate: Array):
        self.candidate_outputs = {"y": candidate}


def test_a_metric_has_a_value_or_a_reason_on_every_slice() -> None:
    broken = np.array(Probe.original_outputs["y"])
    broken[:50] = np.nan
    rows = {"all": np.arange(200), "ones": np.arange(1, 200, 2), "few": np.arange(29), "one": np.arange(1)}
    found = measure_slices(Scores(), Probe(broken), {**rows, "good": np.arange(100, 200)})  # type: ignore[arg-type]
    reasons = {name: reason for name, reason in found.items() if isinstance(reason, str)}
    assert reasons == {
        "all": "scores has no value on these samples",
        "ones": "one label only",
        "few": "29 samples, and a slice needs 30",
        "one": "1 sample, and a slice needs 30",
    }
    assert set(found) - set(reasons) == {"good"}


@pytest.mark.parametrize(
    ("better", "worst", "loss"), [("higher", "a", (0.2, 0.1, 0.3)), ("lower", "b", (0.1, -0.1, 0.2))]
)
def test_the_worst_drop_is_by_the_metric_s_own_direction(better: Any, worst: str, loss: tuple[float, ...]) -> None:
    same = Interval(1, 1, 1)
    differences = {"a": Interval(-0.2, -0.3, -0.1), "b": Interval(0.1, -0.1, 0.2)}
    figures = {name: SliceFigure(same, same, same, d, "", 50, False) for name, d in differences.items()}
    drop = worst_drop(Scores(better), figures)
    assert drop is not None
    assert (drop.slice, (drop.value, drop.low, drop.high)) == (worst, loss)
    assert worst_drop(Scores(), {}) is None


@dataclass(frozen=True)
class Normal:
    """A difference with a normal error."""

    value: float
    error: float
    n: int = 100

    def margin(self, factor: float, constant: float, confidence: float = 0.95) -> Interval:
        reach = self.error * NORMAL.inv_cdf(confidence)
        return Interval(self.value, self.value - reach, self.value + reach)


def holm(p_values: Mapping[str, float]) -> set[str]:
    """As in the textbook: reject in order of the p-values, until one is over its share."""
    found: set[str] = set()
    for name, p in sorted(p_values.items(), key=lambda entry: entry[1]):
        if p >= ERROR_RATE / (len(p_values) - len(found)):
            break
        found.add(name)
    return found


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_flags_are_those_of_holm_s_procedure(better: Any) -> None:
    random, sign = np.random.default_rng(0), 1 if better == "higher" else -1
    whole: Any = Normal(sign * 0.5, 0.0, 10**9)
    counts = []
    for _ in range(200):
        losses = random.normal(random.choice([0, 2.0, 3.0], 12), 1.0)
        parts: dict[str, Any] = {str(place): Normal(sign * (0.5 - loss), 1.0) for place, loss in enumerate(losses)}
        wanted = holm({str(place): 1 - NORMAL.cdf(loss) for place, loss in enumerate(losses)})
        assert flagged(whole, parts, better) == wanted
        counts.append(len(wanted))
    assert min(counts) == 0 and max(counts) > 4


def test_a_slice_that_is_the_whole_is_never_flagged() -> None:
    right = np.ones(200, bool)
    lost = Binary(right, np.arange(200) > 100)
    assert flagged(lost, {"all=1": lost}, "higher") == set()
    assert flagged(lost, {}, "higher") == set()


def test_bounds_reach_beyond_what_replicates_resolve() -> None:
    """With 400 slices the bound is the 8,000th part of a distribution that 500 replicates show."""
    random = np.random.default_rng(0)
    whole: Any = Normal(0.0, 0.0, 10**9)

    def replicates(loss: float, units: int) -> Replicates:
        return Replicates(0.0, -loss, np.zeros(500), random.normal(-loss, 1.0, 500), 100, units)

    def found(loss: float, units: int) -> bool:
        parts: dict[str, Comparison] = {f"other={number}": replicates(0.0, units) for number in range(399)}
        return "bad=1" in flagged(whole, {"bad=1": replicates(loss, units), **parts}, "higher")

    edge = NORMAL.inv_cdf(1 - ERROR_RATE / 400)
    assert found(edge * 1.25, 10_000)
    assert not found(edge * 0.8, 10_000)
    assert not found(edge * 1.25, 12), "the tails of a dozen groups are Student's"


SIZES = [500] * 20
MIXED = [30] * 5 + [60] * 5 + [200] * 5 + [1000] * 3

Draw = Callable[[np.random.Generator, list[int]], tuple[Array, Array]]


def right_or_wrong(random: np.random.Generator, sizes: list[int], lost: Any = 0.02, gained: Any = 0.01) -> Any:
    """Whether original and candidate are right: 90 % are, and so many flip."""
    n, change = sum(sizes), random.random(sum(sizes))
    original = random.random(n) < 0.9
    lost, gained = (np.repeat(np.broadcast_to(share, len(sizes)), sizes) for share in (lost, gained))
    return original, np.where(original, change >= lost / 0.9, change < gained / 0.1)


def graded(random: np.random.Generator, sizes: list[int], scale: Any = 0.3) -> Any:
    """Scores that change by a little everywhere."""
    original = random.random(sum(sizes))
    scales = np.repeat(np.broadcast_to(scale, len(sizes)), sizes)
    return original, original - 0.01 + random.normal(0.0, 1.0, len(original)) * scales


def simulated(draw: Draw, of: Callable[..., Comparison], sizes: list[int], times: int, drop: float = 0.0) -> Any:
    """How often any slice is flagged, and how often the first is, of which so many more are lost."""
    random, ends = np.random.default_rng(1), np.cumsum(sizes)[:-1]
    results = []
    for _ in range(times):
        original, candidate = draw(random, sizes)
        if original.dtype == bool:
            candidate[: sizes[0]] &= random.random(sizes[0]) >= drop / 0.9
        else:
            candidate[: sizes[0]] -= drop
        pairs = zip(np.split(original, ends), np.split(candidate, ends), strict=True)
        parts = {str(place): of(*pair) for place, pair in enumerate(pairs)}
        found = flagged(of(original, candidate), parts, "higher")
        results.append((bool(found), "0" in found))
    return np.mean(results, axis=0)


@pytest.mark.parametrize(("draw", "of"), [(right_or_wrong, Binary), (graded, Samples)])
def test_a_drop_planted_in_a_slice_is_found(draw: Draw, of: Any) -> None:
    """10 points in a slice of 5 % of 10,000 samples, among 20: found in 60 of 60 (so at 95 %: in over 95 %)."""
    assert simulated(draw, of, SIZES, 60, drop=0.1)[1] == 1


@pytest.mark.parametrize(
    ("draw", "of", "sizes", "times"),
    [
        (right_or_wrong, Binary, SIZES, 200),
        (right_or_wrong, Binary, MIXED, 200),
        (graded, Samples, [100] * 20, 150),
        (graded, Samples, MIXED, 100),
        # to take the whole's loss as fixed would flag the quiet half in one of five, and of three
        (functools.partial(right_or_wrong, lost=[0.002, 0.05], gained=[0.002, 0.05]), Binary, [5000, 5000], 200),
        (functools.partial(graded, scale=[0.03, 0.3]), Samples, [5000, 5000], 100),
    ],
)
def test_slices_that_lose_the_same_are_seldom_flagged(draw: Draw, of: Any, sizes: list[int], times: int) -> None:
    """Of all comparisons at most 5 % hold any flag; one standard error is 1.5 % of 200 times, 2.2 % of 100."""
    error = math.sqrt(ERROR_RATE * (1 - ERROR_RATE) / times)
    assert simulated(draw, of, sizes, times)[0] <= ERROR_RATE + 2 * error
