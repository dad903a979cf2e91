"""Metrics of cost: units, directions, bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from strop import metrics
from strop.errors import InvalidPlan
from strop.metric import Timing
from strop.stats import Interval, verdict
from strop.target import Target


@pytest.fixture
def timed(probe: Any) -> Any:
    rng = np.random.default_rng(0)
    blocks = [[rng.lognormal(0, 0.1, 100) for _ in range(4)] for _ in range(3)]
    times = Timing(
        [[2e-3 * block for block in pair] for pair in blocks],
        [[1e-3 * block for block in pair] for pair in blocks],
        (4, 8),
    )
    return probe(np.ones(2), np.ones(2), times=times)


@pytest.mark.parametrize("name", ["latency.p50", "latency.p95", "latency.p99", "latency.mean"])
def test_latency_is_in_seconds_a_call(name: str, timed: Any) -> None:
    metric = metrics.find(name)
    found = metric.measure(timed)
    pooled = np.concatenate([block for pair in timed.times.candidate for block in pair])
    expected = pooled.mean() if name.endswith("mean") else np.quantile(pooled, float(name[-2:]) / 100)
    assert (metric.unit, metric.better, metric.quality) == ("s", "lower", False)
    assert found.candidate().value == pytest.approx(expected, rel=0.02)
    assert found.ratio().value == pytest.approx(0.5)
    assert verdict(found, "at_most", 0, 2.5e-3)[0] == "met"


def test_throughput_is_in_samples_a_second(timed: Any) -> None:
    found = metrics.find("throughput").measure(timed)
    mean = metrics.find("latency.mean").measure(timed)
    assert found.original().value == pytest.approx(4 / mean.original().value)
    assert found.candidate().value == pytest.approx(8 / mean.candidate().value)
    assert found.candidate().low < found.candidate().value < found.candidate().high
    assert found.ratio().value == pytest.approx(4)
    assert metrics.find("throughput").better == "higher"


def test_cost_is_the_price_of_a_million_at_the_throughput(timed: Any) -> None:
    timed.target = Target(threads=1, price=0.36)
    throughput, found = metrics.find("throughput").measure(timed), metrics.find("cost").measure(timed)
    for of in ("original", "candidate"):
        rate, cost = getattr(throughput, of)(), getattr(found, of)()
        assert cost.value == pytest.approx(0.36 / 3600 / rate.value * 1e6)
        assert (cost.low, cost.high) == pytest.approx((100 / rate.high, 100 / rate.low), rel=1e-3)
    assert found.ratio().value == pytest.approx(0.25)
    assert found.n == throughput.n
    assert verdict(found, "at_most", 0, found.candidate().value * 1.2)[0] == "met"
    assert (metrics.find("cost").unit, metrics.called_for(timed.target)) == ("per million", ("cost",))


def test_cost_without_a_price_is_refused_with_the_next_step(timed: Any) -> None:
    with pytest.raises(InvalidPlan, match=r"target=strop\.Target\(price=0\.34\)"):
        metrics.find("cost").measure(timed)
    with pytest.raises(InvalidPlan, match="no price was given"):
        metrics.unmeasurable("cost", Target())
    assert metrics.called_for(Target()) == ()


def test_size_is_exact(probe: Any) -> None:
    found = metrics.find("size").measure(probe(np.ones(2), np.ones(2)))
    assert found.original() == Interval(1000, 1000, 1000)
    assert found.ratio() == Interval(0.25, 0.25, 0.25)
    assert metrics.find("size").rank < metrics.find("accuracy").rank < metrics.find("latency.p50").rank


def test_memory_is_the_median_within_what_was_seen(probe: Any) -> None:
    found = metrics.find("memory").measure(probe(np.ones(2), np.ones(2)))
    assert found.original() == Interval(100, 90, 120)
    assert found.candidate() == Interval(50, 49, 60)
    assert found.n == 3
    assert verdict(found, "at_most", 0.5, 0)[0] == "inconclusive"
    assert verdict(found, "at_most", 0.7, 0)[0] == "met"
