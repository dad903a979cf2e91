"""Frontier: what another one beats in both goes, and what is best in either stays."""

from __future__ import annotations

import pytest

from engine import outcome
from strop.frontier import SHOWN, Frontier
from strop.trial import Outcome


def frontier(objective: str, *given: tuple[str, float, float]) -> Frontier:
    """Of candidates with a ratio of latency and one of accuracy, to 0.9."""
    made = Frontier()
    made.objective = objective
    for name, latency, accuracy in given:
        made.add(name, outcome(latency, accuracy=accuracy))
    return made


def test_what_is_beaten_in_both_goes_and_what_is_best_in_either_stays() -> None:
    found = frontier(
        "latency.p50", ("a", 0.5, 0.99), ("b", 0.8, 1.0), ("c", 0.9, 0.98), ("d", 0.4, 0.99), ("e", 0.3, 0.9)
    )
    assert [point.candidate for point in found.points] == ["e", "d", "b"]
    assert found.lines(leave="d") == ["0.3x latency.p50, accuracy 0.81: e", "0.8x latency.p50, accuracy 0.9: b"]


@pytest.mark.parametrize("given", [Outcome("crashed", "signal 11"), outcome(0.5, limits={}, accuracy=1.0)])
def test_what_was_not_measured_has_no_place(given: Outcome) -> None:
    made = Frontier()
    made.objective = "throughput"
    made.add("a", given)
    assert not made.points


def test_a_few_are_shown() -> None:
    given = [(str(n), 0.1 * n, 0.9 + 0.01 * n) for n in range(1, 8)]
    assert len(frontier("latency.p50", *given).points) == 7
    assert len(frontier("latency.p50", *given).lines()) == SHOWN
