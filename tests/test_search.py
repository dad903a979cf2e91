"""Search: what is tried first, what is left out, when it ends, and that a journal recalls it all."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from engine import ACCURACY, SIZE, bounded, figure, judged, outcome, report
from strop import runtimes, techniques
from strop.forecast import Forecast, losing, rank
from strop.goal import Goal
from strop.judge import Report
from strop.plan import Candidate, Route, routes
from strop.rundir import JOURNAL
from strop.search import PATIENCE, Proposal, Replay, RouteSearch
from strop.settings import choice, span
from strop.target import Target
from strop.technique import Needs, Phase, Technique
from strop.testing import FakeCalibrate, FakeCompile, FakeRound, FakeRuntime, FakeStrip, fake_model
from strop.trial import Outcome

GOAL = Goal.parse(f"minimize latency.p50; {ACCURACY}; {SIZE}")
TARGET = Target(threads=1)
Answer = Callable[[Candidate], Outcome]


@dataclass(frozen=True)
class Plain(FakeRuntime):
    """A runtime without options."""

    slack: float = 1.0


@dataclass(frozen=True)
class FakeShave(FakeRound):
    """A technique with a setting that is never exhausted."""

    decimals: int = 2
    amount: float = span(0.5, 0.0, 1.0)


@dataclass(frozen=True)
class FakeMix(FakeCalibrate):
    """A technique whose strength is a share of what another one loses."""

    error: float = span(0.3, 3e-3, 1.0, log=True, strength=True)

    whole: ClassVar[type[Technique] | None] = FakeCalibrate


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = (FakeStrip, FakeRound, FakeShave, FakeCalibrate, FakeMix, FakeCompile)
    monkeypatch.setattr(techniques, "all_techniques", lambda: steps)
    monkeypatch.setattr(runtimes, "all_runtimes", lambda: (Plain, FakeRuntime))


def route(*steps: type) -> Route:
    return Route(steps, Plain)


def search(folder: Path, *given: Route, goal: Goal = GOAL) -> RouteSearch:
    return RouteSearch(given, goal, TARGET, 0, folder / JOURNAL)


def go_on(searcher: RouteSearch, answer: Answer, most: int = 100) -> list[Proposal]:
    """Ask and tell until the searcher has no more, or so often."""
    asked = []
    while len(asked) < most and (proposal := searcher.ask()):
        asked.append(proposal)
        searcher.tell(proposal, answer(proposal.candidate))
    return asked


def names(proposals: list[Proposal]) -> list[str]:
    return [str(proposal.candidate).removesuffix(" + plain") for proposal in proposals]


def test_every_route_is_tried_at_its_defaults_first_the_most_promising_before(tmp_path: Path) -> None:
    given = [route(), route(FakeCompile), route(FakeCalibrate), route(FakeRound, FakeCompile)]
    asked = go_on(search(tmp_path, *given), lambda candidate: outcome(0.5), most=4)
    assert names(asked) == ["fake-calibrate", "fake-compile", "fake-round + fake-compile", "plain"]
    assert {proposal.why for proposal in asked} == {"its defaults"}


def test_lossless_variants_of_what_seems_to_break_a_limit_come_after_news(tmp_path: Path) -> None:
    given = [route(FakeCalibrate), route(FakeStrip, FakeCalibrate), route(FakeCompile)]
    open_ = Outcome("done", report=replace(report(0.3), judged=(judged(ACCURACY, "inconclusive", violation=0.01),)))
    asked = go_on(search(tmp_path, *given), lambda c: open_ if "calibrate" in str(c) else outcome(0.9), most=2)
    assert "fake-compile" in names(asked)[1] and "calibrate" not in names(asked)[1]


def test_what_such_models_are_known_to_lose_much_by_is_tried_last(tmp_path: Path) -> None:
    doubted = replace(route(FakeCalibrate), doubts="they lose much by it")
    asked = go_on(search(tmp_path, doubted, route(FakeCompile), route()), lambda candidate: outcome(0.5), most=3)
    assert names(asked) == ["fake-compile", "plain", "fake-calibrate"]


def test_lossless_variants_of_what_took_too_long_or_breaks_a_limit_by_far_wait_for_other_routes(tmp_path: Path) -> None:
    given = [route(FakeCalibrate), route(FakeStrip, FakeCalibrate), route(FakeCompile)]
    large = Outcome("done", report=replace(report(0.3), judged=(judged(SIZE, "broken", violation=0.5),)))
    asked = names(go_on(search(tmp_path, *given), lambda c: large if "calibrate" in str(c) else outcome(0.9), most=2))
    assert asked == ["fake-calibrate", "fake-compile"]
    (tmp_path / "slow").mkdir()
    slow = Outcome("timeout", "took longer than 30 s", seconds=30.0)
    asked = names(go_on(search(tmp_path / "slow", *given), lambda c: slow, most=3))
    assert asked == ["fake-calibrate", "fake-compile", "fake-strip + fake-calibrate"]


def test_where_quality_was_lost_what_loses_nothing_comes_next_so_that_there_is_something_to_hand_over(
    tmp_path: Path,
) -> None:
    given = [route(FakeCalibrate), route(FakeRound), route(FakeShave), route(FakeCompile), route(FakeStrip)]
    lost = Outcome("done", report=replace(report(0.3), judged=(judged(ACCURACY, "broken", violation=0.05),)))

    def answer(c: Candidate) -> Outcome:
        return lost if losing(route(*map(type, c.steps))) else outcome(0.9)

    first = names(go_on(search(tmp_path, *given), answer, most=3))
    assert first[:2] == ["fake-calibrate", "fake-compile"] and first[2] != "fake-strip"
    (tmp_path / "kept").mkdir()
    kept = names(go_on(search(tmp_path / "kept", *given), lambda c: outcome(0.5), most=3))
    assert kept.index("fake-calibrate") == 0 and kept[1] != "fake-compile", "nothing was lost"


@dataclass(frozen=True)
class FakeNative(FakeCompile):
    """What loses nothing, and promises most of what there is."""

    def expects(self, target: Target) -> float:
        return 0.4


def test_what_loses_nothing_and_promises_most_comes_before_all_else(tmp_path: Path) -> None:
    given = [route(FakeCalibrate, FakeNative), route(FakeNative), route(FakeCalibrate)]
    assert names(go_on(search(tmp_path, *given), lambda c: outcome(0.5), most=2)) == [
        "fake-native", "fake-calibrate + fake-native",
    ]  # fmt: skip


def test_a_technique_that_failed_waits_behind_those_that_have_not(tmp_path: Path) -> None:
    given = [route(FakeCalibrate), route(FakeStrip, FakeCalibrate), route(FakeRound), route(FakeCompile)]
    broken = Outcome("crashed", "SIGSEGV", blamed="fake-calibrate")

    def answer(c: Candidate) -> Outcome:
        return broken if "fake-calibrate" in str(c) else outcome(0.5)

    asked = names(go_on(search(tmp_path, *given), answer, most=4))
    assert asked.index("fake-calibrate") == 0 and asked.index("fake-strip + fake-calibrate") == 3

    refused = Outcome("refused", "does not fit", blamed="fake-calibrate")
    (tmp_path / "other").mkdir()
    asked = names(go_on(search(tmp_path / "other", *given), lambda c: refused, most=2))
    assert asked[1] == "fake-strip + fake-calibrate"


def test_lossless_variants_are_skipped_where_their_core_is_hopeless(tmp_path: Path) -> None:
    given = [route(FakeRound), route(FakeCalibrate), route(FakeStrip, FakeCalibrate), route(FakeStrip, FakeRound)]
    speed = {FakeRound: 0.9, FakeCalibrate: 0.3}
    asked = go_on(search(tmp_path, *given), lambda c: outcome(speed[type(c.steps[-1])]), most=4)
    assert "fake-strip + fake-calibrate" in names(asked)
    assert "fake-strip + fake-round" not in names(asked)


def test_a_lossless_variant_of_a_core_that_failed_is_still_tried(tmp_path: Path) -> None:
    asked = go_on(search(tmp_path, route(FakeCalibrate), route(FakeStrip, FakeCalibrate)), lambda c: Outcome("crashed"))
    assert names(asked) == ["fake-calibrate", "fake-strip + fake-calibrate"]


def test_then_the_settings_of_the_leaders_are_searched_and_an_exhausted_space_ends(tmp_path: Path) -> None:
    by_decimals = {2: 0.5, 1: 0.4, 0: 0.3}
    searcher = search(tmp_path, route(FakeRound), route(FakeCalibrate))
    asked = go_on(searcher, lambda c: outcome(by_decimals.get(c.steps[0].settings().get("decimals", -1), 0.6)))
    assert sorted(names(asked[:2])) == ["fake-calibrate", "fake-round"]
    assert {proposal.why for proposal in asked[2:]} == {"settings of a route that leads"}
    assert len(set(names(asked))) == len(asked), "nothing is tried twice"
    assert set(names(asked)) <= {f"fake-round{x}" for x in ("", "(decimals=1)", "(decimals=0)")} | {"fake-calibrate"}
    assert len(asked) > 2
    assert searcher.ask() is None


def test_a_route_that_failed_is_not_varied(tmp_path: Path) -> None:
    asked = go_on(search(tmp_path, route(FakeRound)), lambda c: Outcome("failed", "no"))
    assert names(asked) == ["fake-round"]


def test_patience_ends_a_search_without_gain(tmp_path: Path) -> None:
    asked = go_on(search(tmp_path, route(FakeShave)), lambda c: outcome(0.5))
    assert len(asked) == 1 + PATIENCE


def test_a_gain_renews_patience(tmp_path: Path) -> None:
    count = iter(range(1000))
    asked = go_on(search(tmp_path, route(FakeShave)), lambda c: outcome(0.5 if next(count) < 9 else 0.4))
    assert len(asked) == 10 + PATIENCE


def test_the_search_learns(tmp_path: Path) -> None:
    """The optimum lies at amount 0.9, and amounts over 0.95 break a limit."""

    def answer(candidate: Candidate) -> Outcome:
        amount = float(candidate.steps[0].settings()["amount"])
        verdict = "met" if amount <= 0.95 else "broken"
        return outcome(1 - amount, {ACCURACY: verdict, SIZE: "met"})

    searcher = search(tmp_path, route(FakeShave))
    go_on(searcher, answer)
    best = min(searcher.tried, key=lambda entry: rank(entry[1], GOAL))
    assert 0.7 < best[0].steps[0].settings()["amount"] <= 0.95


def test_a_new_search_over_the_same_journal_recalls_everything(tmp_path: Path) -> None:
    given = [route(FakeRound), route(FakeCalibrate), route(FakeShave)]
    answers = iter([outcome(0.5), Outcome("refused", "does not fit"), outcome(0.4, {ACCURACY: "broken"})])
    first = search(tmp_path, *given)
    asked = go_on(first, lambda c: next(answers, outcome(0.6)), most=6)
    second = search(tmp_path, *given)
    assert second.tried == first.tried
    rest = go_on(second, lambda c: outcome(0.6))
    assert not set(names(rest)) & set(names(asked))
    assert len(second.tried) == len(asked) + len(rest)


def test_patience_is_recalled_too(tmp_path: Path) -> None:
    go_on(search(tmp_path, route(FakeShave)), lambda c: outcome(0.5))
    assert search(tmp_path, route(FakeShave)).ask() is None


def test_a_trial_that_a_kill_cut_short_is_open_again(tmp_path: Path) -> None:
    killed = search(tmp_path, route(FakeRound), route(FakeCalibrate)).ask()
    assert killed is not None
    asked = go_on(search(tmp_path, route(FakeRound), route(FakeCalibrate)), lambda c: outcome(0.5), most=2)
    assert names(asked) == ["fake-calibrate", "fake-round"]
    assert killed.candidate == asked[0].candidate


def test_a_kill_after_any_line_of_the_journal_loses_and_repeats_nothing(tmp_path: Path) -> None:
    given = [route(FakeRound), route(FakeCalibrate), route(FakeCompile)]
    go_on(search(tmp_path, *given), lambda c: outcome(0.5), most=2)
    lines = (tmp_path / JOURNAL).read_text().splitlines(keepends=True)
    finished = [at for at, line in enumerate(lines, 1) if '"outcome"' in line]
    assert len(finished) == 2
    for kept in range(len(lines) + 1):
        place = tmp_path / str(kept)
        place.mkdir()
        (place / JOURNAL).write_text("".join(lines[:kept]))
        searcher = search(place, *given)
        assert len(searcher.tried) == sum(at <= kept for at in finished)
        assert all(known == outcome(0.5) for _, known in searcher.tried)
        go_on(searcher, lambda c: outcome(0.5), most=3 - len(searcher.tried))
        tried = [str(candidate) for candidate, _ in searcher.tried]
        assert tried == [f"{step} + plain" for step in ("fake-calibrate", "fake-round", "fake-compile")]


def test_figures_without_a_bound_survive_the_journal(tmp_path: Path) -> None:
    endless = outcome(float("inf"))
    searcher = search(tmp_path, route(FakeCalibrate))
    go_on(searcher, lambda c: endless)
    assert search(tmp_path, route(FakeCalibrate)).tried[0][1] == endless


@pytest.mark.parametrize("direction", ["minimize latency.p50", "maximize accuracy"])
def test_rank_puts_what_keeps_the_limits_first_and_the_nearest_of_the_others_next(direction: str) -> None:
    goal = Goal.parse(f"{direction}; {ACCURACY}; {SIZE}")
    best, good = (Outcome("done", report=report(x, accuracy=1.5 - x)) for x in (0.3, 0.5))
    near = outcome(0.1, {ACCURACY: "broken", SIZE: "met"})
    unseen = outcome(0.1, {SIZE: "broken"})
    order = [best, good, near, unseen, Outcome("crashed")]
    assert sorted(order[::-1], key=lambda o: rank(o, goal)) == order


def test_a_recipe_is_one_candidate_and_no_more() -> None:
    candidate = Candidate((FakeRound(decimals=1),), FakeRuntime())
    searcher = Replay(candidate)
    proposal = searcher.ask()
    assert proposal is not None
    assert proposal.candidate == candidate
    searcher.tell(proposal, outcome())
    assert searcher.ask() is None
    assert searcher.tried == [(candidate, outcome())]


def test_planned_routes_can_be_searched(tmp_path: Path) -> None:
    found, _ = routes(fake_model(tmp_path, padding=9), TARGET, Needs.SAMPLES)
    asked = go_on(RouteSearch(found, GOAL, TARGET, 0, tmp_path / JOURNAL), lambda c: outcome(0.5), most=30)
    assert len({proposal.candidate.key for proposal in asked}) == len(asked)


@dataclass(frozen=True)
class FakePrune(FakeRound):
    """Trains, and takes out what it is told to."""

    decimals: int = 2
    amount: float = span(0.5, 0.1, 0.9, strength=True)

    phase = Phase.SHRINK
    quantizes = False
    needs = Needs.TRAINING

    def expects(self, target: Target) -> float:
        return 1 - self.amount


@dataclass(frozen=True)
class FakeThin(FakePrune):
    """Another that does."""


BROKEN = {ACCURACY: "broken", SIZE: "met"}


def amount(candidate: Candidate) -> float:
    return next((step.amount for step in candidate.steps if isinstance(step, FakePrune)), 0.0)


def speed(candidate: Candidate) -> float:
    return (1 - amount(candidate)) * (0.4 if "calibrate" in str(candidate) else 1.0)


def test_nothing_is_trained_before_two_routes_without_training_were_measured(tmp_path: Path) -> None:
    given = [
        route(FakePrune, FakeCalibrate),
        route(FakePrune),
        route(FakeCalibrate),
        route(FakeCompile),
        route(FakeStrip),
    ]
    asked = names(go_on(search(tmp_path, *given), lambda candidate: outcome(0.9), most=3))
    assert asked == ["fake-calibrate", "fake-compile", "fake-prune + fake-calibrate"]


def test_what_trains_twice_comes_after_what_trains_once(tmp_path: Path) -> None:
    given = [route(FakePrune, FakeThin, FakeCalibrate), route(FakePrune, FakeCalibrate), route(FakeCalibrate), route()]
    asked = names(go_on(search(tmp_path, *given), lambda candidate: outcome(speed(candidate)), most=4))
    assert asked[2:] == ["fake-prune + fake-calibrate", "fake-prune + fake-thin + fake-calibrate"]


def test_strength_is_bisected_to_what_the_limits_bear(tmp_path: Path) -> None:
    """Accuracy breaks beyond an amount of 0.3: the default, 0.5, does."""

    def answer(candidate: Candidate) -> Outcome:
        return outcome(speed(candidate), limits=BROKEN if amount(candidate) > 0.3 else None)

    asked = go_on(search(tmp_path, route(FakePrune), route(FakeCompile), route()), answer, most=8)
    tried = [amount(proposal.candidate) for proposal in asked if amount(proposal.candidate)]
    assert tried[:2] == [0.5, 0.3], "weaker at once, before anything else"
    assert all(0.3 < other < 0.5 for other in tried[2:4])


def test_a_size_that_is_too_large_asks_for_more_strength_not_for_less(tmp_path: Path) -> None:
    def answer(candidate: Candidate) -> Outcome:
        return outcome(speed(candidate), limits={ACCURACY: "met", SIZE: "broken" if amount(candidate) < 0.6 else "met"})

    asked = go_on(search(tmp_path, route(FakePrune), route(FakeCompile), route()), answer, most=5)
    tried = [amount(proposal.candidate) for proposal in asked if amount(proposal.candidate)]
    assert tried[:2] == [0.5, 0.7]


def test_a_mix_waits_for_what_keeps_the_limits_and_begins_with_what_they_bear(tmp_path: Path) -> None:
    """What is lost in full is ten times what is allowed, and shares of it are a little less than in proportion."""

    def answer(candidate: Candidate) -> Outcome:
        step = candidate.steps[-1]
        share = step.error if isinstance(step, FakeMix) else float(isinstance(step, FakeCalibrate))
        lost = 0.09 * share**0.8
        found = judged(ACCURACY, "broken" if lost > 0.009 else "met", 0.9 - lost, max(0.0, lost - 0.009))
        found = bounded(found, 0.9 - lost)
        return Outcome("done", report=replace(report(1 - 0.5 * share, accuracy=1 - lost / 0.9), judged=(found,)))

    goal = Goal.parse(f"minimize latency.p50; {ACCURACY}")
    searcher = search(tmp_path, route(FakeCalibrate), route(FakeMix), route(FakeCompile), goal=goal)
    asked = go_on(searcher, answer, most=5)
    assert names(asked)[:3] == ["fake-calibrate", "fake-compile", "fake-mix(error=0.08)"]
    tried = [step.error for proposal in asked for step in proposal.candidate.steps if isinstance(step, FakeMix)]
    assert tried[1] < 0.08 and 0.6 * 0.009 < 0.09 * tried[1] ** 0.8 <= 0.009
    assert {proposal.why for proposal in asked[2:4]} == {"as much as the limits bear"}


@pytest.mark.parametrize(("objective", "seen"), [("minimize latency.p50", 0.03), ("maximize throughput", 30.0)])
def test_of_a_mix_is_expected_what_came_of_what_it_is_a_share_of(
    objective: str, seen: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PP-OCRv4 rec at 0.99: int8 took 0.28x, and of a mix 0.45x was expected, so that three others came first."""

    def answer(candidate: Candidate) -> Outcome:
        made = report(seen, limits=BROKEN)
        return Outcome("done", report=replace(made, figures={**made.figures, "throughput": figure(seen, 100.0, "1/s")}))

    monkeypatch.setattr(FakeMix, "expects", lambda self, target: 0.95)
    mix, whole = route(FakeMix), route(FakeCalibrate)
    searcher = search(tmp_path, whole, mix, route(FakeCompile), route(), goal=Goal.parse(f"{objective}; {ACCURACY}"))
    go_on(searcher, answer, most=1)
    slower = mix.expects(TARGET) / whole.expects(TARGET)
    expected = seen * slower if "minimize" in objective else -seen / slower
    assert slower > 1
    assert searcher.forecast.estimate(mix.candidate(), mix) == pytest.approx(expected)


@dataclass(frozen=True)
class FakeHasty(FakeCalibrate):
    """A technique with a setting that is faster and worse, and one that is not known to be."""

    ranges: str = choice("widest", "average")
    preset: str = choice("exact", "mean", "fast", faster="fast")


@pytest.mark.parametrize(
    ("lost", "objective", "tried"),
    [(0.004, "latency.p50", True), (0.008, "latency.p50", False), (0.004, "size", False)],
)
def test_where_the_limits_leave_room_a_faster_setting_comes_before_what_promises_less(
    lost: float, objective: str, tried: bool, tmp_path: Path
) -> None:
    def answer(candidate: Candidate) -> Outcome:
        quick = sum(isinstance(step, FakeHasty) and step.preset == "fast" for step in candidate.steps)
        found = bounded(judged(ACCURACY, "met", 0.9 - lost), 0.9 - lost)
        ratio = 0.4 - 0.02 * quick if any(isinstance(step, FakeHasty) for step in candidate.steps) else 0.8
        return Outcome("done", report=replace(report(ratio, accuracy=1 - lost / 0.9), judged=(found,)))

    goal = Goal.parse(f"minimize {objective}; {ACCURACY}")
    asked = go_on(search(tmp_path, route(FakeHasty), route(FakeCompile), route(), goal=goal), answer, most=3)
    assert names(asked)[0] == "fake-hasty"
    assert (names(asked)[1] == "fake-hasty(preset=fast)") == tried
    assert ("faster, as the limits leave room" in {proposal.why for proposal in asked}) == tried


def test_a_mix_that_is_not_proven_is_weakened_before_its_lossless_variants_are_tried(tmp_path: Path) -> None:
    def answer(candidate: Candidate) -> Outcome:
        step = candidate.steps[-1]
        share = step.error if isinstance(step, FakeMix) else float(isinstance(step, FakeCalibrate))
        lost = 0.09 * share
        found = judged(ACCURACY, "broken" if lost > 0.02 else "inconclusive", 0.9 - lost, max(0.0, lost - 0.009))
        found = bounded(found, 0.9 - (1.8 if isinstance(step, FakeMix) else 1.0) * lost)
        return Outcome("done", report=replace(report(1 - 0.5 * share**0.5, accuracy=1 - lost / 0.9), judged=(found,)))

    goal = Goal.parse(f"minimize latency.p50; {ACCURACY}")
    given = [route(FakeCalibrate), route(FakeMix), route(FakeCompile, FakeMix), route(FakeCompile)]
    asked = names(go_on(search(tmp_path, *given, goal=goal), answer, most=6))
    mixes = [name for name in asked if "mix" in name]
    assert mixes[:2] == ["fake-mix(error=0.08)", "fake-mix(error=0.037)"]


@pytest.mark.parametrize("cause", ["done", "refused"])
def test_a_mix_is_not_made_anew_for_a_lossless_step(tmp_path: Path, cause: str) -> None:
    def answer(candidate: Candidate) -> Outcome:
        step = candidate.steps[-1] if candidate.steps else None
        if isinstance(step, FakeMix) and cause == "refused":
            return Outcome("refused", "the fastest mix is exact throughout", "fake-mix")
        lost = {FakeMix: 0.008, FakeCalibrate: 0.09, FakeRound: 0.0}.get(type(step), 0.0)
        found = judged(ACCURACY, "broken" if lost > 0.009 else "met", 0.9 - lost, max(0.0, lost - 0.009))
        found = bounded(found, 0.9 - lost)
        ratio = 0.95 if isinstance(step, FakeMix) else 0.9
        return Outcome("done", report=replace(report(ratio, accuracy=1 - lost / 0.9), judged=(found,)))

    goal = Goal.parse(f"minimize latency.p50; {ACCURACY}")
    given = [route(FakeCalibrate), route(FakeMix), route(FakeCompile, FakeMix), route(FakeRound), route(FakeCompile)]
    asked = names(go_on(search(tmp_path, *given, goal=goal), answer))
    mixes = [name for name in asked if "mix" in name]
    assert mixes and not any("compile" in name for name in mixes), asked
    assert {"fake-round", "fake-compile"} < {*asked}


@pytest.mark.parametrize("low", [0.885, 0.895])
def test_what_may_not_be_proven_has_a_safer_mix_beside_it(
    low: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Int8 throughout keeps the limit by its point estimate, and is faster than a mix can be expected to be."""
    monkeypatch.setattr(FakeMix, "expects", lambda self, target: 0.9, raising=False)

    def answer(candidate: Candidate) -> Outcome:
        step = candidate.steps[-1]
        share = step.error if isinstance(step, FakeMix) else float(isinstance(step, FakeCalibrate))
        found = bounded(judged(ACCURACY, "inconclusive", 0.9 - 0.007 * share), 0.9 - (0.9 - low) * share)
        return Outcome(
            "done", report=replace(report(1 - 0.8 * share**0.5, accuracy=1 - 0.008 * share), judged=(found,))
        )

    goal = Goal.parse(f"minimize latency.p50; {ACCURACY}")
    given = [route(FakeCalibrate), route(FakeMix), route(FakeStrip, FakeMix), route(FakeCompile)]
    asked = go_on(search(tmp_path, *given, goal=goal), answer, most=5)
    safer = [proposal for proposal in asked if proposal.why == "what is best so far may not be proven"]
    if low == 0.895:
        assert not safer, "its bound keeps the limit, too"
        return
    assert names(safer) == ["fake-mix(error=0.48)"], "whose bound keeps the limit, so that there is no need for more"


@pytest.mark.parametrize(("promised", "lost"), [(0.9, 0.007), (1.1, 0.007), (0.9, 0.0)])
def test_what_loses_nothing_is_tried_before_more_of_what_may_not_be_proven(
    promised: float, lost: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it promises anything, and nothing is there that is as good as proven."""
    monkeypatch.setattr(FakeCompile, "expects", lambda self, target: promised, raising=False)
    monkeypatch.setattr(FakeCalibrate, "expects", lambda self, target: 0.4, raising=False)

    def answer(candidate: Candidate) -> Outcome:
        step = candidate.steps[-1]
        share = step.error if isinstance(step, FakeMix) else float(isinstance(step, FakeCalibrate))
        found = bounded(judged(ACCURACY, "inconclusive", 0.9 - lost * share), 0.9 - 2 * lost * share)
        told = report(1 - 0.8 * share**0.5, accuracy=1 - lost * share)
        return Outcome("done", report=replace(told, judged=(found,)))

    goal = Goal.parse(f"minimize latency.p50; {ACCURACY}")
    given = [route(FakeCalibrate), route(FakeMix), route(FakeCompile)]
    asked = go_on(search(tmp_path, *given, goal=goal), answer, most=4)
    exact = [place for place, proposal in enumerate(asked) if proposal.why == "it loses nothing"]
    assert exact == ([1] if promised < 1 and lost else [])


def test_a_safer_mix_that_may_not_be_proven_either_is_made_safer_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is lost goes with the root of the share, and the mix is the faster one."""
    monkeypatch.setattr(FakeMix, "expects", lambda self, target: 0.9, raising=False)

    def answer(candidate: Candidate) -> Outcome:
        step = candidate.steps[-1]
        share = step.error if isinstance(step, FakeMix) else float(isinstance(step, FakeCalibrate))
        found = bounded(judged(ACCURACY, "inconclusive", 0.9 - 0.007 * share**0.5), 0.9 - 0.015 * share**0.5)
        told = report(0.2 if isinstance(step, FakeMix) else 1 - 0.7 * share, accuracy=1 - 0.008 * share)
        return Outcome("done", report=replace(told, judged=(found,)))

    goal = Goal.parse(f"minimize latency.p50; {ACCURACY}")
    asked = go_on(search(tmp_path, route(FakeCalibrate), route(FakeMix), goal=goal), answer, most=6)
    mixes = [proposal.candidate.steps[0].error for proposal in asked[1:]]  # type: ignore[attr-defined]
    assert mixes[0] == 0.48 and 0.015 * mixes[0] ** 0.5 > 0.009
    assert 0.015 * mixes[1] ** 0.5 < 0.009


def test_a_mix_is_no_news_where_int8_throughout_keeps_the_limits(tmp_path: Path) -> None:
    """What it could still gain is little: others come first."""

    def answer(candidate: Candidate) -> Outcome:
        found = bounded(judged(ACCURACY, "met", 0.899), 0.898)
        return Outcome("done", report=replace(report(0.5, accuracy=0.999), judged=(found,)))

    goal = Goal.parse(f"minimize latency.p50; {ACCURACY}")
    given = [route(FakeCalibrate), route(FakeMix), route(FakeRound, FakeCompile)]
    asked = names(go_on(search(tmp_path, *given, goal=goal), answer, most=3))
    assert asked == ["fake-calibrate", "fake-round + fake-compile", "fake-mix(error=1.0)"]


@pytest.mark.parametrize(("gentler", "third"), [(None, "fake-shave"), (FakeRound, "fake-calibrate")])
def test_where_a_gentler_one_broke_quality_what_loses_more_waits(
    gentler: type[Technique] | None, third: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeShave, "gentler", gentler)
    for kind, expected in ((FakeRound, 0.3), (FakeShave, 0.5), (FakeCalibrate, 0.6)):
        monkeypatch.setattr(kind, "expects", lambda self, target, expected=expected: expected)
    spoiled = outcome(0.3, {ACCURACY: "broken", SIZE: "met"})
    given = [route(kind) for kind in (FakeRound, FakeShave, FakeCalibrate, FakeStrip)]
    searcher = search(tmp_path, *given)
    asked = names(go_on(searcher, lambda c: spoiled if isinstance(c.steps[0], FakeRound) else outcome(0.9), most=3))
    assert asked == ["fake-round", "fake-strip", third]


def test_int8_throughout_comes_before_its_mixes_also_where_more_is_expected_of_these(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of matrix products on a CPU that has no fast int8: without it a mix could not be aimed."""
    monkeypatch.setattr(FakeCalibrate, "expects", lambda self, target: 1.2)
    monkeypatch.setattr(FakeMix, "expects", lambda self, target: 0.6, raising=False)

    def answer(candidate: Candidate) -> Outcome:
        share = sum(getattr(step, "error", 1.0) for step in candidate.steps if step.quantizes)
        found = judged(ACCURACY, "broken" if share > 0.1 else "met", 0.9 - 0.09 * share, max(0.0, 0.09 * share - 0.009))
        found = bounded(found, 0.9 - 0.09 * share)
        return Outcome("done", report=replace(report(0.9, accuracy=1 - 0.1 * share), judged=(found,)))

    given = [route(FakeMix), route(FakeCompile), route(FakeCalibrate)]
    asked = names(go_on(search(tmp_path, *given, goal=Goal.parse(f"minimize latency.p50; {ACCURACY}")), answer, most=3))
    assert asked == ["fake-compile", "fake-calibrate", "fake-mix(error=0.08)"]


def test_a_mix_is_aimed_by_what_its_whole_lost_through_another_runtime(tmp_path: Path) -> None:
    def answer(candidate: Candidate) -> Outcome:
        lost = 0.09 * (candidate.steps[0].error if isinstance(candidate.steps[0], FakeMix) else 1.0)
        lost = lost if candidate.steps[0].quantizes else 0.0
        found = judged(ACCURACY, "broken" if lost > 0.009 else "met", 0.9 - lost, max(0.0, lost - 0.009))
        found = bounded(found, 0.9 - lost)
        return Outcome("done", report=replace(report(0.9, accuracy=1 - lost / 0.9), judged=(found,)))

    given = [route(FakeCalibrate), route(FakeCompile), Route((FakeMix,), FakeRuntime)]
    asked = names(go_on(search(tmp_path, *given, goal=Goal.parse(f"minimize latency.p50; {ACCURACY}")), answer, most=3))
    assert asked[2].startswith("fake-mix(error=0.08)")


def test_what_was_trained_is_quantized_without_being_trained_again(tmp_path: Path) -> None:
    """A route that begins with the same steps takes the settings that did best, so that they are built already."""

    def answer(candidate: Candidate) -> Outcome:
        return outcome(
            speed(candidate) + ("calibrate" in str(candidate)), limits=BROKEN if amount(candidate) > 0.3 else None
        )

    given = [route(FakePrune), route(FakePrune, FakeCompile), route(FakeCompile), route()]
    asked = go_on(search(tmp_path, *given), answer, most=12)
    amounts = {str(p.route.label): amount(p.candidate) for p in asked if p.route.label.endswith("fake-compile + plain")}
    assert amounts["fake-prune + fake-compile + plain"] == 0.3
    assert "what was trained for another route" in {proposal.why for proposal in asked}


def test_nothing_is_trained_that_promises_less_than_what_is_there(tmp_path: Path) -> None:
    given = [route(FakePrune), route(FakeCalibrate), route(FakeCompile)]
    asked = names(go_on(search(tmp_path, *given), lambda c: outcome(0.2 if "calibrate" in str(c) else 0.9)))
    assert not [name for name in asked if "prune" in name], "half of 0.9 at best"


def test_a_step_that_promises_next_to_nothing_says_nothing_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice as fast for a promise of a three-thousandth would be a factor beyond all numbers for what promises much."""
    goal = Goal.parse(f"maximize throughput; {ACCURACY}")
    forecast = Forecast(goal, TARGET)
    monkeypatch.setattr(forecast, "_promised", lambda made, _: 0.9997 if amount(made) == 0.5 else 0.01)
    monkeypatch.setattr(forecast, "_whole", lambda _: -0.445)
    pruned = route(FakePrune)
    figures = {"throughput": figure(0.999)}
    done = Outcome("done", report=Report(figures, ()))
    forecast.note(pruned, pruned.candidate(), done)
    assert amount(pruned.candidate()) == 0.5
    assert math.isfinite(forecast.estimate(pruned.candidate({"fake-prune.amount": 0.9}), pruned))


def test_what_training_promises_is_held_to_what_it_kept_elsewhere(tmp_path: Path) -> None:
    """Pruning half took a tenth off, not a half: the next route with it is worth no training."""
    given = [route(FakePrune), route(FakeThin), route(FakeCalibrate), route(FakeStrip)]
    answers = {"fake-prune": 0.9, "fake-calibrate": 0.6, "fake-strip": 1.0, "plain": 1.0, "fake-thin": 0.9}
    asked = names(go_on(search(tmp_path, *given), lambda c: outcome(answers[c.steps[0].label()]), most=20))
    assert [name for name in asked if "thin" in name] == []


@dataclass(frozen=True)
class FakePrepare(FakePrune):
    """Prepares for int8."""

    amount: float = 0.0
    for_quantizing = True


def test_what_prepares_for_int8_is_tried_where_int8_broke_quality(tmp_path: Path) -> None:
    """However fast the others are that keep it: what int8 would come to was measured, or is expected."""

    def answer(candidate: Candidate) -> Outcome:
        lost = "calibrate" in str(candidate) and "prepare" not in str(candidate)
        return outcome(0.3 if "calibrate" in str(candidate) else 0.8, limits=BROKEN if lost else None)

    given = [route(FakeCalibrate), route(FakePrepare, FakeCalibrate), route(FakeCompile), route()]
    assert "fake-prepare + fake-calibrate" in names(go_on(search(tmp_path, *given), answer))


def test_what_is_maximized_is_worth_training_too(tmp_path: Path) -> None:
    def answer(candidate: Candidate) -> Outcome:
        made = outcome(1.0)
        faster = figure(1 / speed(candidate), 100.0, "1/s")
        return replace(made, report=replace(made.report, figures={**made.report.figures, "throughput": faster}))

    goal = Goal.parse(f"maximize throughput; {ACCURACY}; {SIZE}")
    given = [route(FakePrune, FakeCalibrate), route(FakeCalibrate), route(FakeCompile)]
    searcher = search(tmp_path, *given, goal=goal)
    assert "fake-prune + fake-calibrate" in names(go_on(searcher, answer, most=3))


@dataclass(frozen=True)
class FakeNarrow(FakeRound):
    """Has a setting of which the model at hand allows some values only."""

    decimals: int = 2
    way: str = choice("a", "b", "c")

    def expects(self, target: Target) -> float:
        return 1.01


def test_the_values_that_fit_are_recalled_also_of_a_route_that_began_with_what_was_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its study would be asked for values of a space that it does not have."""
    monkeypatch.setattr(techniques, "all_techniques", lambda: (FakePrune, FakeNarrow, FakeCompile))

    def answer(candidate: Candidate) -> Outcome:
        fits = {"fake-narrow.way": ["a", "b"]} if "narrow" in str(candidate) else {}
        return outcome(speed(candidate), limits=BROKEN if amount(candidate) > 0.3 else None, fits=fits)

    given = [route(FakePrune), route(FakePrune, FakeNarrow), route(FakeCompile), route()]
    asked = go_on(search(tmp_path, *given), answer, most=13)  # all strengths among them
    assert next(name for name in names(asked) if "narrow" in name) == "fake-prune(amount=0.3) + fake-narrow"
    again = search(tmp_path, *given)
    assert len(again.tried) == len(asked)
    go_on(again, answer, most=10)
