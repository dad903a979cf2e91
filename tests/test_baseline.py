"""Baseline: what a person is told while the original is measured, and what a short budget leaves out."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from strop import baseline, jobs
from strop.confirm import Finding
from strop.errors import InvalidGoal, RunFailed
from strop.events import Event, Said
from strop.goal import Goal
from strop.judge import Figure, Report
from strop.plan import Candidate
from strop.stats import Interval
from strop.target import Target
from strop.testing.fakes import FakeRuntime
from strop.timing import WAITING
from strop.trial import Setting

LIMITS = jobs.Limits(100.0, 1 << 40)


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setting:
    """One whose jobs wait for another strop, and then take too long."""

    def run(*args: object, limits: jobs.Limits, waits: Any) -> jobs.Ended[Any]:
        waits()
        return jobs.Ended("timeout", reason="took longer than 9 s")

    monkeypatch.setattr(jobs, "run", run)
    monkeypatch.setattr(baseline, "called", lambda format: FakeRuntime())
    workshop: Any = SimpleNamespace(original=SimpleNamespace(format="fake"), target=Target(threads=1))
    original: Any = SimpleNamespace(runtime=FakeRuntime())
    return Setting(tmp_path, workshop, original, tmp_path, tmp_path, Goal(()), ())


def test_waiting_is_told_before_the_search_and_a_timeout_names_the_next_step(setting: Setting) -> None:
    told: list[Event] = []
    with pytest.raises(RunFailed, match=r"could not be measured: took longer than 9 s\. Give a longer budget="):
        baseline.measure_original(setting.root, setting, LIMITS, told.append)  # type: ignore[arg-type]
    assert told == [Said(WAITING)]


@pytest.mark.parametrize(("look", "why"), [(14.0, "took longer than 9 s"), (15.0, "the budget is too short for it")])
def test_a_short_budget_is_not_spent_on_what_users_call(setting: Setting, look: float, why: str) -> None:
    told: list[Event] = []
    found = baseline.measure_called(setting.root, setting, LIMITS, look, told.append)  # type: ignore[arg-type]
    assert found is not None and found["why"] == why
    assert told[-1] == Said(f"as called ({FakeRuntime.label()}), the original could not be timed: {why}")
    assert (Said(WAITING) in told) is (look < 15)


@pytest.mark.parametrize(
    ("limit", "said"),
    [("accuracy >= 150% of original", "asks for 1.425: accuracy is 1 at the most, and the original's is 0.95"),
     ("accuracy >= 105% of original", ""), ("accuracy <= 150% of original", ""), ("mse >= 150% of original", "")],
)  # fmt: skip
def test_what_no_candidate_could_keep_is_refused_before_any_is_tried(limit: str, said: str) -> None:
    side = Interval(0.95, 0.94, 0.96)
    report = Report({name: Figure(side, side, Interval(1.0, 1.0, 1.0), "", 100) for name in ("accuracy", "mse")})
    original = Finding(Candidate((), FakeRuntime()), {}, report, 0.95, False)
    with pytest.raises(InvalidGoal, match=said) if said else contextlib.nullcontext():
        baseline.check_reachable(Goal.parse(limit), original)
