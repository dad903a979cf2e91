"""Result: every end that a search can come to, why, and what would help; the manifest by its schema."""

from __future__ import annotations

import dataclasses
import json
import math
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from engine import (
    ACCURACY,
    COMPILED,
    ORIGINAL,
    ROUNDED,
    SIZE,
    STRIPPED,
    FakeRun,
    check_manifest,
    concluded,
    figure,
    finding,
    judged,
    outcome,
    report,
    sliced,
)  # fmt: skip
from strop import details
from strop.advice import what_would_help
from strop.clock import End
from strop.errors import Infeasible
from strop.fairness import Gap, Rate, Rates
from strop.goal import Goal, Limit
from strop.judge import Figure, Report
from strop.model import LIGHTGBM
from strop.report.again import again
from strop.slices import Drop, Share, Slice
from strop.stats import Interval
from strop.trial import Outcome

MET, OPEN, BROKEN = ({ACCURACY: verdict, SIZE: "met"} for verdict in ("met", "inconclusive", "broken"))


@pytest.fixture
def model(fake_run: FakeRun) -> dict[str, Any]:
    return fake_run.setting.original.model.to_json(fake_run.run.root)


def with_goal(fake: FakeRun, goal: str) -> FakeRun:
    return dataclasses.replace(fake, setting=dataclasses.replace(fake.setting, goal=Goal.parse(goal)))


def test_the_proven_one_wins(fake_run: FakeRun, model: Any) -> None:
    undecided = finding(ROUNDED, model, report(0.2, OPEN))
    proven = finding(COMPILED, model, report(0.25, accuracy=0.999))
    result = concluded(fake_run, [undecided, proven], original=report(1.0, OPEN))
    assert (result.verdict, result.winner, result.closest) == ("met", proven, None)
    assert result.reason == (
        f"{COMPILED} keeps every limit: latency.p50 is 2.5 ms, 0.25x (0.247 to 0.253) of the original's. "
        f"Others that seemed faster were not proven: {ROUNDED} (accuracy >= 99% of original is inconclusive)"
    )
    assert result.advice == ()
    result.raise_for_verdict()
    manifest = result.manifest
    check_manifest(manifest)
    assert [step["technique"] for step in manifest["winner"]["route"]] == ["fake-strip", "fake-compile"]
    assert manifest["winner"]["ratios"]["latency.p50"]["value"] == 0.25
    assert manifest["not_tried"] == {"fake-fault": "has no fault to show"}
    assert manifest["candidates"] == 2


def test_what_each_step_gave_is_what_was_tried_without_it(fake_run: FakeRun, model: Any) -> None:
    """The winner strips and compiles; what only strips kept the limits too, and what rounds broke one."""
    tried = [
        (COMPILED, outcome(0.25)), (STRIPPED, outcome(0.6)),
        (ROUNDED, Outcome("done", report=report(0.1, BROKEN))),
    ]  # fmt: skip
    manifest = concluded(fake_run, [finding(COMPILED, model, report(0.25))], tried=tried).manifest
    check_manifest(manifest)
    strip, compile_ = manifest["without"]
    assert strip == {"technique": "fake-strip", "candidate": None, "ratio": None}
    assert (compile_["technique"], compile_["candidate"]) == ("fake-compile", str(STRIPPED))
    assert compile_["ratio"]["value"] == 0.6
    said = details.without(manifest["without"], "latency.p50")
    assert said[0] == "without fake-strip: nothing that was tried kept the limits"
    assert said[1].startswith("without fake-compile: latency.p50 0.6x") and str(STRIPPED) in said[1]


def test_of_a_step_that_all_had_nothing_is_told(fake_run: FakeRun, model: Any) -> None:
    tried = [(COMPILED, outcome(0.25)), (STRIPPED, Outcome("crashed", "SIGSEGV"))]
    manifest = concluded(fake_run, [finding(COMPILED, model, report(0.25))], tried=tried).manifest
    assert manifest["without"] == []


def test_what_was_asked_can_be_asked_again(fake_run: FakeRun, model: Any) -> None:
    asked = dataclasses.replace(
        fake_run.request, label="churned", group="person", beside=["confirm"],
        budget=dataclasses.replace(fake_run.request.budget, seconds=90.0, trials=7),
    )  # fmt: skip
    run = dataclasses.replace(fake_run, request=asked)
    manifest = concluded(run, [finding(COMPILED, model, report(0.25))]).manifest
    check_manifest(manifest)
    told = again(manifest)
    for flag in ("--label churned", "--group person", "--confirm CONFIRM", "--budget 90s", "--trials 7"):
        assert flag in told
    assert "label = &quot;churned&quot;" in told


def test_a_run_that_goes_on_writes_beside_what_it_wrote(fake_run: FakeRun, model: Any, tmp_path: Path) -> None:
    result = dataclasses.replace(concluded(fake_run, [finding(ROUNDED, model, report(0.25))]), out=str(tmp_path / "b"))
    (tmp_path / "b").mkdir()
    assert result.save().folder == tmp_path / "b-2"


def test_every_ratio_in_a_manifest_is_that_of_the_figures_beside_it(fake_run: FakeRun, model: Any) -> None:
    elsewhere = dataclasses.replace(report(1.0), figures={"latency.p50": figure(1.0, 99.0, "s")})
    manifest = concluded(fake_run, [finding(ROUNDED, model, report(0.25))], original=elsewhere).manifest
    for name, ratio in manifest["winner"]["ratios"].items():
        before, after = (manifest[side]["metrics"][name]["value"] for side in ("original", "winner"))
        assert after / before == pytest.approx(ratio["value"])


@pytest.mark.parametrize(
    ("limits", "better", "why"),
    [
        (MET, False, "the best, {name}, is not: latency.p50 is 5 ms"),
        (BROKEN, True, f"{{name}} breaks {ACCURACY} (latency.p50 is 5 ms"),
        (OPEN, True, f"{{name}} could not be proven to keep {ACCURACY} (latency.p50 is 5 ms"),
    ],
)
def test_the_original_wins_where_nothing_is_proven_better(
    fake_run: FakeRun, model: Any, limits: Any, better: bool, why: str
) -> None:
    result = concluded(fake_run, [finding(ROUNDED, model, report(0.5, limits), better)])
    assert result.verdict == "met"
    assert result.winner is not None
    assert result.winner.candidate == ORIGINAL
    assert result.closest is not None
    assert result.closest.candidate == ROUNDED
    start = "the original keeps every limit, and no candidate is proven better: "
    assert result.reason.startswith(start + why.format(name=ROUNDED))
    check_manifest(result.manifest)
    assert result.manifest["winner"]["route"] == []
    assert result.handed_over == result.winner
    result.raise_for_verdict()


def test_the_original_wins_where_nothing_could_be_measured(fake_run: FakeRun) -> None:
    result = concluded(fake_run, [], tried=[(ROUNDED, Outcome("crashed", "SIGSEGV"))])
    assert result.verdict == "met"
    assert "no candidate was measured (crashed, SIGSEGV)" in result.reason
    nothing = concluded(fake_run, [], tried=[])
    assert nothing.reason.endswith("no candidate was measured (nothing is left that promises more)")
    assert nothing.advice == ()
    cut = concluded(fake_run, [], tried=[(ROUNDED, Outcome("crashed", "SIGSEGV"))], end=SPENT)
    assert "no candidate was measured (crashed, SIGSEGV; the time is spent)" in cut.reason
    assert cut.advice == ("more time (budget=strop.Budget(...)): 2 of 3 routes were not tried",)
    check_manifest(result.manifest)


def test_the_original_wins_where_no_finalist_could_be_run(fake_run: FakeRun, model: Any) -> None:
    broken = finding(ROUNDED, model, Report(), False, "its process was killed by SIGSEGV")
    result = concluded(fake_run, [broken], tried=[])
    assert result.reason.endswith(f"{ROUNDED} could not be run: its process was killed by SIGSEGV")
    assert result.closest is None
    check_manifest(result.manifest)


def test_what_keeps_limits_that_the_original_breaks_wins_at_its_price(fake_run: FakeRun, model: Any) -> None:
    costly = finding(ROUNDED, model, report(1.3), better=False)
    result = concluded(fake_run, [costly], original=report(1.0, {ACCURACY: "met", SIZE: "broken"}))
    assert (result.verdict, result.winner, result.closest) == ("met", costly, None)
    assert "which the original does not, at a price: latency.p50 is 13 ms, 1.3x" in result.reason
    check_manifest(result.manifest)


def test_inconclusive_says_what_is_open_and_what_would_decide(fake_run: FakeRun, model: Any) -> None:
    open_limit = judged(ACCURACY, "inconclusive", 0.895, needed=4321)
    found = dataclasses.replace(report(0.5), judged=(open_limit, judged(SIZE)))
    result = concluded(fake_run, [finding(ROUNDED, model, found)], original=report(1.0, OPEN))
    assert (result.verdict, result.winner) == ("inconclusive", None)
    assert result.reason == f"these data can't decide whether {ACCURACY} is kept"
    assert result.advice[0] == f"about 4,321 samples in the confirm split would decide {ACCURACY}"
    check_manifest(result.manifest)
    assert result.manifest["limits"][0]["needed"] == 4321
    with pytest.raises(Infeasible, match="can't decide"):
        result.raise_for_verdict()


def test_what_only_the_search_split_left_open_asks_for_the_confirm_split_that_is_there(fake_run: FakeRun) -> None:
    searched = dataclasses.replace(report(1.0), judged=(judged(ACCURACY, "inconclusive", 0.895, needed=120),))
    (advice,) = what_would_help(fake_run.setting.goal, None, searched, trainable=[], confirm=143)
    assert advice.startswith(f"a longer budget=strop.Budget(...): {ACCURACY} was judged on the search split only")
    assert "143 samples" in advice and "120" not in advice
    (advice,) = what_would_help(fake_run.setting.goal, None, searched, trainable=[], confirm=119)
    assert advice == f"about 120 samples in the confirm split would decide {ACCURACY}"


def test_infeasible_names_the_limit_that_binds_and_hands_over_the_closest(fake_run: FakeRun, model: Any) -> None:
    far = dataclasses.replace(report(0.3), judged=(judged(ACCURACY, "broken", violation=0.5), judged(SIZE)))
    near = report(0.5, BROKEN, accuracy=0.96)
    findings = [finding(ROUNDED, model, far), finding(COMPILED, model, near)]
    tried = [(c, outcome(0.4, OPEN)) for c in (ROUNDED, COMPILED)] + [(STRIPPED, outcome(0.9, {SIZE: "broken"}))]
    result = concluded(fake_run, findings, report(1.0, {ACCURACY: "met", SIZE: "broken"}), tried)
    assert (result.verdict, result.winner) == ("infeasible", None)
    assert result.closest == findings[1]
    assert (
        result.reason == f"no candidate keeps the limits: {ACCURACY} stopped 2 of 3 candidates; {SIZE} stopped 1 of 3"
    )
    assert result.advice[0].startswith("a looser limit: the closest candidate is proven to keep accuracy >= 95.0")
    assert not any(said.startswith("train data") for said in result.advice)  # nothing trains such a model
    broken = report(1.0, BROKEN)
    helpful = what_would_help(fake_run.setting.goal, near, broken, trainable=["prune", "distill"], confirm=100)
    assert helpful[-1].startswith("train data (train): prune, distill can then be tried")
    check_manifest(result.manifest)
    with pytest.raises(Infeasible) as caught:
        result.raise_for_verdict()
    assert caught.value.binding == (ACCURACY,)
    assert caught.value.closest == findings[1]


def test_train_data_help_what_the_original_is_turned_into(fake_run: FakeRun, model: Any) -> None:
    workshop = fake_run.setting.workshop
    trees = dataclasses.replace(workshop, original=dataclasses.replace(workshop.original, format=LIGHTGBM))
    run = dataclasses.replace(fake_run, setting=dataclasses.replace(fake_run.setting, workshop=trees))
    near = finding(COMPILED, model, report(0.5, BROKEN, accuracy=0.96))
    result = concluded(run, [near], report(1.0, {ACCURACY: "met", SIZE: "broken"}))
    (helpful,) = [said for said in result.advice if said.startswith("train data (train): ")]
    for step in ("drop-features", "retune", "distill-forest", "refit-leaves"):  # of a forest, as the trees are read
        assert step in helpful


def test_infeasible_with_nothing_measured_has_nothing_to_save(fake_run: FakeRun, tmp_path: Any) -> None:
    result = concluded(fake_run, [], report(1.0, BROKEN), tried=[])
    assert (result.verdict, result.winner, result.closest) == ("infeasible", None, None)
    assert "no candidate was measured" in result.reason
    assert result.reason.endswith("of the original, accuracy >= 99% of original is broken")
    assert not any("looser" in line for line in result.advice), "what the original keeps helps nobody"
    check_manifest(result.manifest)
    with pytest.raises(Infeasible, match="nothing to save"):
        result.save(tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_what_was_only_searched_is_the_closest_where_confirming_it_failed(fake_run: FakeRun, model: Any) -> None:
    late = finding(ROUNDED, model, Report(), False, "took longer than 30 s")
    result = concluded(fake_run, [late], report(1.0, BROKEN))
    assert (result.verdict, result.winner) == ("infeasible", None)
    assert result.closest is not None and result.closest.candidate == ROUNDED
    assert f"not confirmed: {ROUNDED}: took longer than 30 s" in result.reason
    assert f"{ROUNDED} was measured on the search split only: took longer than 30 s" in result.manifest["notes"]
    verdict, *notes = str(result).splitlines()
    assert verdict == f"infeasible: {result.reason}", "what a script prints says how far it can be trusted, too"
    assert notes == [f"note: {note}" for note in result.manifest["notes"]]
    assert not any("looser" in line for line in result.advice), "nothing of it is proven"
    check_manifest(result.manifest)


def test_more_of_what_ended_the_search_is_the_first_advice(fake_run: FakeRun, model: Any) -> None:
    found = [finding(ROUNDED, model, report(0.5, BROKEN))]
    result = concluded(fake_run, found, report(1.0, BROKEN), end=SPENT)
    assert result.advice[0] == "more time (budget=strop.Budget(...)): 2 of 3 routes were not tried"
    assert result.manifest["search"] == {
        "ended": "the time is spent", "bound": "budget", "routes": 3, "tried": 1, "refused": 0, "untried": 2,
    }  # fmt: skip
    check_manifest(result.manifest)
    few = concluded(fake_run, found, report(1.0, BROKEN), end=End("1 candidate tried", "trials"))
    assert few.advice[0] == "more candidates (budget=strop.Budget(trials=...)): 2 of 3 routes were not tried"
    assert not any("budget" in line for line in concluded(fake_run, found, report(1.0, BROKEN)).advice)


def test_samples_are_never_what_an_open_latency_lacks(fake_run: FakeRun, model: Any) -> None:
    limit = "latency.p50 < 50% of original"
    found = dataclasses.replace(report(0.5), judged=(judged(limit, "inconclusive", 0.005),))
    fake = with_goal(fake_run, f"minimize latency.p50; {limit}")
    said = concluded(fake, [finding(ROUNDED, model, found)], report(1.0, {limit: "broken"})).advice[0]
    assert said == f"longer timing (a longer budget=strop.Budget(...)) on a quiet machine would decide {limit}"


def test_the_noise_is_that_of_the_objective_and_looks_are_noted(fake_run: FakeRun, model: Any) -> None:
    original = report(1.0)
    original.figures["latency.p95"] = figure(1.02, 0.010, "s")
    found = report(0.5)
    found.figures["latency.p95"] = figure(0.5, 0.010, "s")
    fake = with_goal(fake_run, f"minimize latency.p95; {ACCURACY}; {SIZE}")
    looked = dataclasses.replace(finding(ROUNDED, model, found), looks=2)
    manifest = concluded(fake, [looked], original).manifest
    assert (manifest["noise"]["metric"], manifest["noise"]["value"]) == ("latency.p95", 1.02)
    assert any("used 2 times before" in note for note in manifest["notes"])
    check_manifest(manifest)


SPENT = End("the time is spent", "budget")

ADVISED = [
    ("accuracy >= 99% of original", "accuracy >= 94.05% of original"),
    ("accuracy >= 0.9", "accuracy >= 0.8464"),
    ("drop(accuracy) <= 0.001", "drop(accuracy) <= 0.0536"),
    ("drop(accuracy) <= 1% of original", "drop(accuracy) <= 5.95% of original"),
    ("latency.p50 < 3 ms", "latency.p50 <= 5.051 ms"),
    ("latency.p50 <= 20% of original", "latency.p50 <= 50.5% of original"),
    ("size < 1 kB", "size <= 3.031 kB"),
    ("worst_slice(accuracy) >= 99% of original", "worst_slice(accuracy) >= 79.2% of original"),
    ("worst_slice(accuracy, 50) >= 99% of original", "worst_slice(accuracy, 50) >= 98.01% of original"),
]


@pytest.mark.parametrize(("limit", "looser"), ADVISED)
def test_a_looser_limit_is_one_that_the_figures_prove(fake_run: FakeRun, model: Any, limit: str, looser: str) -> None:
    found = report(0.5, accuracy=0.95)
    metric = Limit.parse(limit).metric
    value = found.figures[metric].candidate.value
    slices = {
        name: dataclasses.replace(sliced(ratio), support=support)
        for name, ratio, support in (("part=a", 0.8, 40), ("part=b", 0.99, 60))
    }
    binding = dataclasses.replace(judged(limit, "broken", value), low=value * 0.99, high=value * 1.01)
    found = dataclasses.replace(found, judged=(binding,), slices=slices)
    fake = with_goal(fake_run, f"minimize latency.p50; {limit}")
    said = concluded(fake, [finding(ROUNDED, model, found)], report(1.0, {limit: "broken"})).advice[0]
    text = said.removeprefix("a looser limit: the closest candidate is proven to keep ")
    got, expected = Limit.parse(text), Limit.parse(looser)
    assert (got.metric, got.op, got.scope, got.relative, got.unit) == (
        expected.metric, expected.op, expected.scope, expected.relative, expected.unit,
    )  # fmt: skip
    assert got.value == pytest.approx(expected.value, rel=2e-3)


def test_a_looser_drop_is_told_by_what_differs_and_not_by_the_spread_of_either(fake_run: FakeRun, model: Any) -> None:
    limit = "drop(accuracy) <= 0"
    same = dataclasses.replace(figure(1.0, 0.9, half=0.05), ratio=Interval(1.0, 0.999, 1.001))
    binding = dataclasses.replace(judged(limit, "inconclusive", 0.9), low=0.855, high=0.945)
    found = dataclasses.replace(report(0.5), judged=(binding,))
    found.figures["accuracy"] = same
    fake = with_goal(fake_run, f"minimize latency.p50; {limit}")
    (said,) = concluded(fake, [finding(ROUNDED, model, found)], report(1.0, {limit: "broken"})).advice
    looser = Limit.parse(said.removeprefix("a looser limit: the closest candidate is proven to keep "))
    assert (looser.scope, looser.value) == ("drop", pytest.approx(0.0009, rel=2e-3))


@pytest.mark.parametrize("other", [Slice(12), Slice(80, undefined={"accuracy": "no value"})])
def test_no_looser_limit_is_proven_of_slices_that_can_not_be_judged(
    fake_run: FakeRun, model: Any, other: Slice
) -> None:
    limit = "worst_slice(accuracy) >= 99% of original"
    slices = {"part=a": sliced(0.98), "part=b": other}
    found = dataclasses.replace(report(), judged=(judged(limit, "inconclusive", slice="part=b"),), slices=slices)
    fake = with_goal(fake_run, f"minimize latency.p50; {limit}")
    result = concluded(fake, [finding(ROUNDED, model, found)], report(1.0, {limit: "broken"}))
    assert not any("looser" in said for said in result.advice)


def test_a_manifest_holds_slices_churn_fairness_and_what_was_confirmed(fake_run: FakeRun, model: Any) -> None:
    interval = Interval(0.5, 0.4, 0.6)
    rates = Rates({"sex=F": Rate(interval, interval, 60), "sex=M": Rate(None, None, 12)}, None)
    gap = Rates({"sex=F": Rate(interval, interval, 60)}, Gap(interval, interval, interval))
    found = dataclasses.replace(
        report(0.25),
        slices={
            "sex=F": sliced(0.8, flagged=True),
            "sex=M": Slice(12),
            "age=9": Slice(40, undefined={"auroc": "one class"}),
        },
        worst_drops=(Drop("accuracy", "sex=F", 0.18, 0.1, math.inf, "", 60, True),),
        churn={name: Share(0.1, 0.05, 0.15, 100) for name in ("changed", "to_wrong", "to_right")},
        fairness={"sex": {"selection_rate": gap, "true_positive_rate": rates}, "age": {}},
    )
    reason = f"{ACCURACY} is inconclusive in sex=M (12 samples)"
    small = dataclasses.replace(report(), judged=(judged(ACCURACY, "inconclusive", slice="sex=M", why="12 samples"),))
    findings = [
        finding(ROUNDED, model, small),
        finding(STRIPPED, model, Report(), problem="SIGSEGV"),
        finding(COMPILED, model, found),
    ]
    manifest = concluded(fake_run, findings).manifest
    check_manifest(manifest)
    assert manifest["slices"]["sex=F"]["metrics"]["accuracy"]["difference"]["value"] == pytest.approx(-0.18)
    assert manifest["slices"]["sex=M"] == {"n": 12, "metrics": {}, "undefined": {}, "churn": {}, "support": 0}
    assert manifest["worst_drops"][0]["slice"] == "sex=F"
    assert manifest["churn"]["to_wrong"] == {"value": 0.1, "low": 0.05, "high": 0.15, "n": 100}
    assert manifest["fairness"]["sex"]["true_positive_rate"]["gap"] is None
    told = [(one["candidate"], one["verdict"], one["why"]) for one in manifest["confirmed"]]
    assert told == [
        (str(ROUNDED), "inconclusive", reason),
        (str(STRIPPED), "broken", "SIGSEGV"),
        (str(COMPILED), "met", ""),
    ]
    assert manifest["confirmed"][2]["ratios"]["latency.p50"]["value"] == 0.25


def test_without_slices_or_classes_a_manifest_says_so(fake_run: FakeRun) -> None:
    manifest = concluded(fake_run, []).manifest
    assert (manifest["slices"], manifest["worst_drops"], manifest["fairness"]) == ({}, [], {})
    assert manifest["churn"] is None and manifest["confirmed"] == []


def test_a_looser_limit_is_never_rounded_to_what_is_not_proven(fake_run: FakeRun, model: Any) -> None:
    ratio = Interval(0.991, 0.9899999, 0.995)
    found = report(0.5, BROKEN)
    accuracy = dataclasses.replace(found.figures["accuracy"], ratio=ratio)
    found = dataclasses.replace(found, figures={**found.figures, "accuracy": accuracy})
    advice = concluded(fake_run, [finding(ROUNDED, model, found)], report(1.0, BROKEN)).advice
    assert advice[0].endswith("accuracy >= 98.99% of original")


def test_where_nothing_is_known_no_looser_limit_is_made_up(fake_run: FakeRun, model: Any) -> None:
    unknown = Interval(0.9, -math.inf, math.inf)
    found = report(0.5, OPEN)
    figures = {**found.figures, "accuracy": Figure(unknown, unknown, unknown, "", 1)}
    result = concluded(
        fake_run, [finding(ROUNDED, model, dataclasses.replace(found, figures=figures))], report(1.0, OPEN)
    )
    assert not any("looser" in said for said in result.advice)
    check_manifest(result.manifest)


def test_a_stronger_machine_is_advised_by_how_much(fake_run: FakeRun, model: Any) -> None:
    limit = "latency.p50 < 2 ms"
    fake = with_goal(fake_run, f"minimize latency.p50; {limit}")
    slow = dataclasses.replace(report(1.0), judged=(judged(limit, "broken", 0.010),))
    found = dataclasses.replace(report(0.5), judged=(judged(limit, "broken", 0.005),))
    advice = concluded(fake, [finding(ROUNDED, model, found)], slow).advice
    assert f"a stronger machine: the unchanged original keeps {limit} on one that is 5 times faster" in advice


def test_the_schema_is_sound_and_refuses_what_is_not_so(fake_run: FakeRun, model: Any) -> None:
    schema = json.loads(resources.files("strop").joinpath("manifest.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    manifest = concluded(fake_run, [finding(ROUNDED, model, report(0.25))]).manifest
    wrong = [
        {"schema": 2}, {"verdict": "broken"}, {"verdict": "infeasible"}, {"winner": None}, {"extra": 1}, {"seed": 0.5},
        {"closest": manifest["winner"]}, {"winner": {**manifest["winner"], "files": []}},
        {"hashes": {**manifest["hashes"], "original": "no hash"}}, {"limits": [{"limit": "x"}]},
        {"slices": {"a=1": {"n": 3}}}, {"churn": {}}, {"fairness": {"sex": {"accuracy": {}}}}, {"worst_drops": [{}]},
        {"confirmed": [{**manifest["confirmed"][0], "verdict": "no better"}]},
    ]  # fmt: skip
    for change in wrong:
        with pytest.raises(jsonschema.ValidationError):
            check_manifest({**manifest, **change})
    for name in schema["required"]:
        with pytest.raises(jsonschema.ValidationError, match="required"):
            check_manifest({key: value for key, value in manifest.items() if key != name})


def test_a_winner_that_is_slower_says_so(fake_run: FakeRun) -> None:
    model = fake_run.setting.original.model.to_json(fake_run.run.root)
    figures = {**report().figures, "latency.p50": figure(1.2, 0.010, "s")}
    slower = dataclasses.replace(finding(ROUNDED, model, Report(figures, (judged(SIZE),))), better=True)
    assert "it is slower: latency.p50 is 1.2x" in concluded(fake_run, [slower]).reason


def test_nothing_is_infeasible_before_a_candidate_was_measured(fake_run: FakeRun) -> None:
    broken = report(limits={SIZE: "broken"})
    cut = concluded(fake_run, [], broken, tried=[], end=SPENT)
    assert cut.verdict == "inconclusive" and cut.reason.startswith("no candidate was measured (the time is spent)")
    assert cut.manifest["advice"][0].endswith("3 of 3 routes were not tried")
    assert concluded(fake_run, [], broken, tried=[]).verdict == "infeasible", "where nothing was left to try"


def test_a_recipe_that_was_not_measured_is_not_called_met(fake_run: FakeRun) -> None:
    request = dataclasses.replace(fake_run.request, recipe=ROUNDED.to_json())
    fake = dataclasses.replace(fake_run, request=request)
    cut = concluded(fake, [], tried=[], end=SPENT)
    assert cut.verdict == "inconclusive" and cut.winner is None
    assert cut.reason == "no candidate was measured (the time is spent)"
