"""A run directory that was altered: named errors wherever it is read, and never a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import ROUNDED, FakeRun, finding, mutations, outcome, report
from strop import jobs
from strop.baseline import BASELINE, lay_out, measure_original
from strop.clock import Clock
from strop.confirm import CONFIRMED, confirm
from strop.data import Data
from strop.errors import RunFailed, StropError
from strop.goal import Goal
from strop.prepare import Budget, resumed
from strop.rundir import JOURNAL, PLAN, SPENT, as_written, write_json
from strop.search import Proposal, RouteSearch
from strop.target import Target
from strop.testing import FakeRound, FakeRuntime


def spoiled_everywhere(file: Path, read: Callable[[], Any]) -> int:
    """Spoil a file in every place, read it each time, and count how often that was refused.

    Raises:
        AssertionError: Something else than a named error was raised.
    """
    whole = json.loads(file.read_text())
    refused = 0
    for what, spoiled in [*mutations(whole), ("is no JSON", ...)]:
        file.write_text("{" if spoiled is ... else json.dumps(spoiled))
        try:
            read()
        except StropError:
            refused += 1
        except Exception as error:
            raise AssertionError(f"{what}: {error!r}") from error
    file.write_text(json.dumps(whole))
    read()
    return refused


def test_the_request(fake_run: FakeRun) -> None:
    def read() -> None:
        request = resumed(fake_run.run)
        lay_out(fake_run.run, request, jobs.Limits(60, 1 << 62))
        Clock(request.budget, fake_run.run / SPENT).end(0)

    assert spoiled_everywhere(fake_run.run / PLAN, read) > 50


def test_the_data(fake_run: FakeRun) -> None:
    folder = fake_run.setting.search

    def read() -> None:
        data = Data.load(folder)
        data.batch(0, 2)
        data.label_array()

    assert spoiled_everywhere(folder / "data.json", read) > 10


def test_the_baseline(fake_run: FakeRun) -> None:
    write_json(fake_run.run / BASELINE, {"report": report(1.0).to_json(), "seconds": 1.5})

    def read() -> None:
        found, seconds = measure_original(fake_run.run, fake_run.setting, jobs.Limits(60, 1 << 62), lambda event: None)
        assert isinstance(found.report.figures["latency.p50"].ratio.high, float)
        assert isinstance(seconds, float)

    assert spoiled_everywhere(fake_run.run / BASELINE, read) > 50


def test_what_was_confirmed(fake_run: FakeRun) -> None:
    tried = [(ROUNDED, outcome(0.5, model=fake_run.request.original))]
    proven = finding(ROUNDED, fake_run.request.original, report(0.5), better=True)
    write_json(fake_run.run / CONFIRMED, [proven.to_json()])

    def read() -> None:
        clock = Clock(Budget(1e-9), fake_run.run / SPENT)
        found = confirm(fake_run.run, fake_run.setting, tried[:0], "digest", clock, 0.0, lambda event: None)
        assert all(one.why_not is not None and one.verdict for one in found)

    assert spoiled_everywhere(fake_run.run / CONFIRMED, read) > 50


def test_the_time_spent(fake_run: FakeRun) -> None:
    write_json(fake_run.run / SPENT, 2.5)
    assert 2.5 <= Clock(Budget(60), fake_run.run / SPENT).elapsed < 10
    assert spoiled_everywhere(fake_run.run / SPENT, lambda: Clock(Budget(60), fake_run.run / SPENT)) > 3


def test_the_journal(fake_run: FakeRun) -> None:
    from strop.plan import Route

    route, journal = Route((FakeRound,), FakeRuntime), fake_run.run / JOURNAL
    goal = Goal.parse("minimize latency.p50; accuracy >= 99% of original")

    def read() -> None:
        with as_written(journal):
            RouteSearch([route], goal, Target(threads=1), 0, journal).ask()

    searcher = RouteSearch([route], goal, Target(threads=1), 0, journal)
    searcher.tell(Proposal(route.candidate(), route, ""), outcome(0.5))
    lines = journal.read_text().splitlines()
    refused = 0
    for place, line in enumerate(lines):
        for what, spoiled in [*mutations(json.loads(line)), ("is no JSON", ...)]:
            instead = "{" if spoiled is ... else json.dumps(spoiled)
            journal.write_text("\n".join([*lines[:place], instead, *lines[place + 1 :]]) + "\n")
            try:
                read()
            except StropError:
                refused += 1
            except Exception as error:
                raise AssertionError(f"line {place}, {what}: {error!r}") from error
    assert refused > 20


@pytest.mark.parametrize("name", ["outcome", "candidate"])
def test_an_outcome_in_the_journal(fake_run: FakeRun, name: str) -> None:
    from strop.plan import Route

    route, journal = Route((FakeRound,), FakeRuntime), fake_run.run / JOURNAL
    goal = Goal.parse("minimize latency.p50; accuracy >= 99% of original")
    searcher = RouteSearch([route], goal, Target(threads=1), 0, journal)
    searcher.tell(Proposal(route.candidate(), route, ""), outcome(0.5))
    lines = journal.read_text().splitlines()
    place = next(n for n, line in enumerate(lines) if name in json.loads(line).get("user_attr", {}))
    entry = json.loads(lines[place])
    for what, spoiled in mutations(json.loads(entry["user_attr"][name])):
        instead = json.dumps({**entry, "user_attr": {name: json.dumps(spoiled)}})
        journal.write_text("\n".join([*lines[:place], instead, *lines[place + 1 :]]) + "\n")
        try:
            with as_written(journal):
                RouteSearch([route], goal, Target(threads=1), 0, journal)
        except StropError:
            continue
        except Exception as error:
            raise AssertionError(f"{what}: {error!r}") from error


def test_the_files_of_the_original_stay_in_its_folder(fake_run: FakeRun) -> None:
    plan = json.loads((fake_run.run / PLAN).read_text())
    plan["original"]["files"].append("../../secret")
    write_json(fake_run.run / PLAN, plan)
    with pytest.raises(RunFailed, match=r"must lie in its folder .*secret does not"):
        resumed(fake_run.run)


def test_what_a_run_made_lies_in_it(fake_run: FakeRun) -> None:
    original = fake_run.request.original
    assert fake_run.setting.model(original).path == fake_run.setting.workshop.original.path
    outside = {**original, "path": "../elsewhere/m", "files": ["../elsewhere/m"]}
    for spoiled, said in ((outside, "must lie in"), ({}, "KeyError"), (None, "no model")):
        with pytest.raises(RunFailed, match=said):
            fake_run.setting.model(spoiled)
    home = fake_run.setting.workshop.folder / fake_run.setting.workshop.key(ROUNDED.steps)
    fake_run.setting.workshop.build(ROUNDED.steps)
    write_json(home / "model.json", {**json.loads((home / "model.json").read_text()), **outside})
    with pytest.raises(RunFailed, match="must lie in"):
        fake_run.setting.workshop.build(ROUNDED.steps)


def test_of_all_that_is_wrong_the_first_is_said(fake_run: FakeRun) -> None:
    plan = json.loads((fake_run.run / PLAN).read_text())
    write_json(fake_run.run / PLAN, {**plan, "seed": "x", "notes": 3})
    with pytest.raises(RunFailed) as said:
        resumed(fake_run.run)
    assert "(ValueError: seed: Input should be a valid integer" in str(said.value)
    assert "\n" not in str(said.value) and "http" not in str(said.value) and "notes" not in str(said.value)
    write_json(fake_run.run / PLAN, {**plan, "seed": 1 << 32})
    with pytest.raises(RunFailed, match="seed must be"):
        resumed(fake_run.run)
