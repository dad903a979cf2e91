"""Clock: what a candidate may take, and what is kept for what comes after the search."""

from __future__ import annotations

from pathlib import Path

import pytest

from strop.clock import LEAST_SECONDS, TO_TELL, TO_WRITE, Clock
from strop.prepare import Budget

AFTER = 1 - TO_TELL - TO_WRITE


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    clock = Clock(Budget(400), tmp_path / "spent.json")
    clock.confirming = 40.0
    return clock


@pytest.mark.parametrize(("finalists", "looks"), [(0, 1), (1, 1), (2, 2), (5, 2)])
def test_looks_at_two_finalists_are_kept_where_there_are_two(clock: Clock, finalists: int, looks: int) -> None:
    clock.finalists = finalists
    assert clock.left == pytest.approx(400 * AFTER - 40 * looks, abs=1)


def test_the_last_candidate_may_take_all_that_is_left(clock: Clock) -> None:
    assert clock.most == 100
    assert clock.limits().seconds == 100
    clock._start -= clock.left - (100 + LEAST_SECONDS - 1)
    assert clock.limits().seconds == pytest.approx(100 + LEAST_SECONDS - 1, abs=1)
    clock._start -= clock.left - 20
    assert clock.limits().seconds == pytest.approx(20, abs=1)


def test_the_first_finalist_leaves_time_for_the_second(clock: Clock) -> None:
    assert clock.to_look(1) == pytest.approx(400 * AFTER - 40, abs=1)
    assert clock.to_look(0) == pytest.approx(400 * AFTER, abs=1)
    clock._start -= clock.to_confirm - 60
    assert clock.to_look(1) == pytest.approx(30, abs=1), "half, where that is more"


def test_what_is_handed_over_is_looked_into_before_the_bundle_is_written(clock: Clock) -> None:
    assert clock.to_tell - clock.to_confirm == pytest.approx(400 * TO_TELL, abs=1)
