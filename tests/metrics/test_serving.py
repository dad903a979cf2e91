"""A server's metrics against what queueing theory knows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from strop import metrics
from strop.errors import StropError
from strop.metric import Timing
from strop.metrics.serving import highest_rate, responses
from strop.target import Target


def test_responses_are_those_of_a_queue_worked_out_by_hand() -> None:
    taken = np.array([[3.0, 1.0, 1.0, 2.0]])
    gaps = np.array([[0.0, 1.0, 1.0, 9.0]])  # arrivals at 0, 1, 2, 11; answers at 3, 4, 5, 13
    np.testing.assert_allclose(responses(taken, gaps), [[3.0, 3.0, 3.0, 2.0]])


def test_responses_of_a_queue_with_exponential_times_are_exponential() -> None:
    """M/M/1: the response is exponential with the rate at which calls are answered less that at which they arrive."""
    rng = np.random.default_rng(0)
    taken, gaps = rng.exponential(1 / 10, (40, 20000)), rng.exponential(1 / 6, (40, 20000))
    found = responses(taken, gaps)[:, 1000:]
    assert found.mean() == pytest.approx(1 / 4, rel=0.03)
    assert np.quantile(found, 0.99) == pytest.approx(math.log(100) / 4, rel=0.05)


def test_the_highest_rate_is_that_of_theory() -> None:
    """M/M/1 again: p99 = ln(100) / (answered - arriving)."""
    rng = np.random.default_rng(1)
    taken, gaps = rng.exponential(1 / 100, (30, 20000)), rng.exponential(1, (30, 20000))
    within = math.log(100) / (100 - 70)
    found = highest_rate(taken, gaps, within)
    assert np.median(found) == pytest.approx(70, rel=0.04)


def test_a_call_that_is_late_without_waiting_serves_no_rate() -> None:
    assert highest_rate(np.full((2, 500), 0.02), np.ones((2, 500)), 0.01).tolist() == [0.0, 0.0]


@pytest.fixture
def served(probe: Any) -> Any:
    rng = np.random.default_rng(0)
    blocks = [[rng.lognormal(0, 0.05, 60) for _ in range(6)] for _ in range(3)]
    sides = [[[scale * block for block in pair] for pair in blocks] for scale in (10e-3, 5e-3)]
    target = Target(threads=1, rate=50.0, p99=0.03)
    return probe(np.ones(2), np.ones(2), times=Timing(*sides), target=target)


def test_twice_as_fast_serves_more_than_twice_as_many(served: Any) -> None:
    found = metrics.find("server.rate").measure(served)
    assert 30 < found.original().value < 80, "calls of 10 ms: 100 a second at the most, fewer where none waits long"
    assert found.ratio().low > 2
    assert found.candidate().low < found.candidate().value < found.candidate().high
    assert found.ratio().high < 5


def test_p99_is_that_of_the_responses(served: Any) -> None:
    found = metrics.find("server.p99").measure(served)
    pooled = np.concatenate([block for pair in served.times.candidate for block in pair])
    assert found.candidate().value == pytest.approx(np.quantile(pooled, 0.99), rel=0.02)


@pytest.mark.parametrize(("name", "option"), [("server.p99", "rate=50"), ("server.rate", "p99=TIME")])
def test_what_is_missing_is_named(probe: Any, name: str, option: str) -> None:
    with pytest.raises(StropError, match=rf"target=strop\.Target\({option}\)"):
        metrics.find(name).measure(probe(np.ones(2), np.ones(2)))


def test_a_target_calls_for_what_it_tells() -> None:
    assert metrics.called_for(Target(threads=1)) == ()
    assert metrics.called_for(Target(threads=1, rate=5.0)) == ("server.p99",)
    assert metrics.called_for(Target(threads=1, p99=0.1)) == ("server.rate",)
