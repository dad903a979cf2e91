"""Clock: what a candidate may take, and what is kept for what comes after the search."""

from __future__ import annotations

from pathlib import Path

import pytest

from strop.clock import LEAST_SECONDS, LEAST_TO_TELL, TO_TELL, TO_TELL_AFTER, TO_WRITE, Clock
from strop.prepare import Budget

AFTER = 1 - TO_TELL - TO_WRITE


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    clock = Clock(Budget(400), tmp_path / "spent.json")
    clock.look, clock.confirming = 30.0, 40.0
    return clock


@pytest.mark.parametrize("looks", [1, 2])
def test_time_for_looks_is_kept(clock: Clock, looks: int) -> None:
    clock.looks = looks
    assert clock.left == pytest.approx(400 * AFTER - 40 * looks, abs=1)


def test_the_last_candidate_may_take_all_that_is_left_where_there_is_a_finalist(clock: Clock) -> None:
    assert clock.most == 100
    assert clock.limits().seconds == 100
    clock._start -= clock.left - (100 + LEAST_SECONDS - 1)
    assert clock.limits().seconds == 100
    clock.finalists, before = 1, clock.left
    clock._start += before - clock.left
    assert clock.limits().seconds == pytest.approx(100 + LEAST_SECONDS - 1, abs=1)
    clock._start -= clock.left - 20
    assert clock.limits().seconds == pytest.approx(20, abs=1)


def test_what_is_handed_over_is_looked_into_before_the_bundle_is_written(clock: Clock) -> None:
    assert clock.to_tell - clock.to_confirm == pytest.approx(400 * TO_TELL, abs=1)
    clock.budget = Budget(LEAST_TO_TELL / TO_TELL - 1)
    assert clock.to_tell == pytest.approx(clock.to_confirm, abs=0.01), "what is too short for it is not kept"
    clock._start -= clock.budget.seconds
    assert clock.to_confirm < 0 and clock.to_tell == TO_TELL_AFTER, "but a few seconds are had all the same"


def test_the_end_says_what_is_spent_what_is_kept_and_how_to_go_on(clock: Clock) -> None:
    assert clock.end(99) is None
    clock._start -= clock.left + 1
    assert str(clock.end(0)) == (
        "the 6 min 40 s that budget=strop.Budget(...) allows in all are spent, or kept to confirm; "
        "strop.resume(...) with more goes on"
    )
    clock._start -= clock.to_confirm + 1
    end = clock.end(0)
    assert end is not None and end.why.endswith("allows in all are spent") and end.bound == "budget"
    clock.budget = Budget(400, 2)
    end = clock.end(2)
    assert end is not None and end.why.startswith("2 candidates tried, as many as") and end.bound == "trials"
