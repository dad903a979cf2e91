"""Report: what a person is shown; every name escaped, and what is not known said so."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.markup import escape

from engine import (
    ACCURACY,
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
from strop import details, terminal
from strop.baseline import noise
from strop.events import Confirmed, Measured, Tried
from strop.fairness import Gap, Rate, Rates
from strop.goal import Goal
from strop.judge import Report
from strop.report import page, unfinished, unfinished_tuning
from strop.report.choices import choices
from strop.report.frontier import OF_SLICES, Axis
from strop.report.limits import limits_table
from strop.report.parts import table
from strop.rundir import finite
from strop.slices import Drop, Share, Slice
from strop.stats import Interval
from strop.terminal import console, fail
from strop.trial import Outcome, plain
from strop.units import counted, named, percent, share, spread

HALF = Interval(0.5, 0.4, 0.6)
EVIL = "<script>alert('x')</script>&\"'"


class Text(HTMLParser):
    """The text of a page, and the tags in it; complains where one is not closed."""

    def __init__(self, html: str):
        super().__init__()
        self.words, self.code, self.tags, self.open = "", "", [], []  # type: ignore[var-annotated]
        self.feed(html)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" in self.open:
            self.code += data
        elif "style" not in self.open:
            self.words += data


@pytest.fixture
def manifest(fake_run: FakeRun) -> dict[str, Any]:
    model = fake_run.setting.original.model.to_json(fake_run.run.root)
    found = Report(
        report().figures,
        (judged(ACCURACY, "inconclusive", needed=4321), judged(SIZE, why="for a reason")),
        {
            "part=a": sliced(0.8, flagged=True),
            "part=b": Slice(17),
            "part=c": Slice(1040, sliced(1.0).metrics, {"auroc": "one class only"}),
        },
        (Drop("accuracy", "part=a", 0.18, 0.16, 0.2, "", 100, True), Drop("f1", "part=c", -0.1, -0.2, 0, "", 9, False)),
        {name: Share(0.0123, 0.01, 0.02, 1000) for name in ("changed", "to_wrong", "to_right")},
        {"part": {"selection_rate": Rates({"part=a": Rate(HALF, HALF, 100), "part=b": Rate(None, None, 17)}, None),
                  "true_positive_rate": Rates({"part=c": Rate(HALF, HALF, 500)}, Gap(HALF, HALF, HALF))}},
    )  # fmt: skip
    result = concluded(fake_run, [finding(ROUNDED, model, found)], original=report(limits={SIZE: "broken"}))
    return json.loads(json.dumps(result.manifest))  # type: ignore[no-any-return]


def tried() -> list[dict[str, Any]]:
    outcomes = [
        outcome(0.5, {ACCURACY: "met"}),
        outcome(0.3, {ACCURACY: "broken"}),
        Outcome("crashed", "SIGSEGV", seconds=1.0),
    ]
    return [{**plain(ROUNDED, one), "candidate": f"candidate {number}"} for number, one in enumerate(outcomes)]


def test_a_page_says_what_was_found_and_loads_nothing(manifest: dict[str, Any]) -> None:
    html = page(manifest, tried())
    text = Text(html)
    words = re.sub(r"\s+", " ", text.words)
    for said in (
        "inconclusive: these data can't decide", "about 4,321 samples", "4,321 samples would decide", "fake-round",
        "5 (4.95 to 5.05) ms", "0.5x (0.495 to 0.505)", "part=a", "broke accuracy", "SIGSEGV",
        "fake-fault has no fault to show", "1 thread, batch 1", "of the original against itself is",
        "1 candidate in 12 s",
        "Worst drop in accuracy: 0.1800 (0.1600 to 0.2000), in part=a (100 samples), proven to be more than the whole",
        "No slice loses in f1.", "Too small to judge, with fewer than 30 samples: part=b (17).", "1,040",
        "0.9000 (0.8910 to 0.9090)0.7200 (0.7128 to 0.7272)-0.1800 (-0.2000 to -0.1600)flagged",
        "aurocundefined here: one class only",
        "Predictions that changed (churn)1.23% (1.00% to 2.00%) of the predictions changed; 1.23%",
        "selection ratepart=a1000.5000 (0.4000 to 0.6000)", "part=b17undecidable", "largest difference",
        "What was confirmed on unseen samples", "for a reason",
    ):  # fmt: skip
        assert said in words, said
    assert not {"link", "img", "iframe"} & {tag for tag, _ in text.tags}
    assert not re.search(r"""src=|href="[^#]|url\(|@import""", html.partition("<script>")[0])
    assert len(html.encode()) < 6_000_000


def evil(value: Any) -> Any:
    """The same data with a trap in every text and every name that a user or a plug-in may choose."""
    if isinstance(value, dict):
        return {key: evil(item) for key, item in value.items()}
    if isinstance(value, list):
        return [evil(item) for item in value]
    return value + EVIL if isinstance(value, str) else value


def test_every_name_is_escaped(manifest: dict[str, Any]) -> None:
    trapped = evil(manifest)
    for side in ("original", "closest"):
        trapped[side]["metrics"] = {name + EVIL: found for name, found in trapped[side]["metrics"].items()}
    trapped["closest"]["ratios"] = {name + EVIL: found for name, found in trapped["closest"]["ratios"].items()}
    for found in trapped["slices"].values():
        for part in ("metrics", "undefined"):
            found[part] = {name + EVIL: told for name, told in found[part].items()}
    trapped["slices"] = {name + EVIL: found for name, found in trapped["slices"].items()}
    for rates in trapped["fairness"].values():
        for rate in rates.values():
            rate["values"] = {name + EVIL: told for name, told in rate["values"].items()}
    trapped["fairness"] = {name + EVIL: rates for name, rates in trapped["fairness"].items()}
    for found in trapped["confirmed"]:
        found["ratios"] = {name + EVIL: ratio for name, ratio in found["ratios"].items()}
    trapped["not_tried"] = {name + EVIL: reason for name, reason in trapped["not_tried"].items()}
    trapped["goal"], trapped["target"] = manifest["goal"], manifest["target"]  # which are read, and refused
    candidates = [evil(found) for found in tried()]
    for one in candidates:
        one["cause"] = one["cause"].removesuffix(EVIL)
        one["report"]["figures"] = {name + EVIL: found for name, found in one["report"]["figures"].items()}
    html = page(trapped, candidates, EVIL)
    plain_tags, tags = Text(page(manifest, tried(), "code")).tags, Text(html).tags
    assert EVIL not in html
    assert {tag for tag, _ in tags} <= {tag for tag, _ in plain_tags}
    assert sum(tag == "script" for tag, _ in tags) == sum(tag == "script" for tag, _ in plain_tags) == 3
    assert "alert('x')" in Text(html).words
    assert {name for _, found in tags for name in found} <= {name for _, found in plain_tags for name in found}
    data = Text(html).code.partition('{"groups"')[2].partition("'use strict'")[0]
    assert "&lt;script&gt;" in data.replace(r"\u0026", "&"), "Plotly takes names for HTML"


@pytest.mark.parametrize(
    ("candidates", "told"),
    [
        (2, "41 planned routes (steps in a row, and what runs the result): 2 tried, 6 refused (a step of it does not "
            "fit this model or this machine), 33 not tried (the search ended before)"),
        (3, "33 not tried (the search ended before); 1 more candidate: routes of these with other settings"),
    ],
)  # fmt: skip
def test_what_was_tried_adds_up(candidates: int, told: str) -> None:
    counts = {"ended": "over", "bound": "trials", "routes": 41, "tried": 2, "refused": 6, "untried": 33}
    said = details.search({"search": counts, "candidates": candidates})
    assert said.startswith("the search ended: over. ") and said.endswith(told)
    whole = {**counts, "routes": 2, "refused": 0, "untried": 0}
    assert details.search({"search": whole, "candidates": 2}).endswith("runs the result): 2 tried")


def test_noise_is_told_as_gains_are_held_to_it() -> None:
    """Its value counts, not its bounds: a candidate's ratio has bounds of its own."""
    found = {"metric": "latency.p50", "value": 0.98, "low": 0.3, "high": 1.4}
    assert details.noise(found) == (
        "latency.p50 of the original against itself is 0.98x (0.3 to 1.4). A gain in it counts where its own bounds "
        "leave out 1x, and it is more than the 0.02 that this is off 1x"
    )
    original = cast(Any, SimpleNamespace(report=SimpleNamespace(figures={"latency.p50": SimpleNamespace(ratio=Interval(
        0.98, 0.3, 1.4))})))  # fmt: skip
    assert noise(original, "latency.p50") == pytest.approx(0.02)


def test_a_terminal_tells_what_stands_out(manifest: dict[str, Any]) -> None:
    said = list(details.lines(manifest))
    assert said[2].startswith("part=a loses more than the whole in accuracy: 0.9000 (0.8910 to 0.9090) became 0.7200")
    assert said[-2] == "selection rate between values of part: undecidable, fewer than two have the samples"
    assert said[-1].startswith("true positive rate between values of part: the largest difference was 0.5000 (0.4000")
    assert said[-3].startswith("churn: 1.23% (1.00% to 2.00%) of the predictions changed; 1.23%")
    assert len(said) == 7
    assert not any("part=c" in line for line in said)
    assert list(details.fairness({"age": {}})) == [
        "no fairness between values of age: it is told of binary classifiers with labels only"
    ]
    manifest["slices"] = {f"id={number}": {"n": 1, "metrics": {}} for number in range(1000)}
    assert [line for line in details.lines(manifest) if "and 990 more" in line]


def test_figures_that_are_null_are_not_known(manifest: dict[str, Any]) -> None:
    for side in ("original", "closest"):
        for found in manifest[side]["metrics"].values():
            found.update(value=None, low=None, high=None)
    for ratio in manifest["closest"]["ratios"].values():
        ratio.update(low=None, high=None)
    manifest["noise"].update(low=None, high=None)
    endless = finite(tried())
    endless[0]["report"]["figures"]["size"]["ratio"] = {"value": None, "low": None, "high": None}
    words = Text(page(manifest, endless)).words
    assert "not known" in words
    assert "0.5x (? to ?)" in words
    assert re.search(r"latency.p50 of the original against itself is [\d.]+x \(\? to \?\)", words)
    assert not re.search(r"\b(nan|None|null)\b", words.partition("Settings, versions, hashes")[0])


def test_so_are_figures_without_end(manifest: dict[str, Any]) -> None:
    manifest["closest"]["metrics"]["accuracy"].update(low=float("-inf"), high=float("inf"))
    manifest["noise"]["high"] = float("inf")
    words = Text(page(manifest, tried())).words
    assert "0.9000 (? to ?)" in words
    assert "Infinity" not in words


def test_an_estimate_is_called_one_wherever_it_is_shown(fake_run: FakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    by, limit = "somebody's estimate", "energy < 6 mJ"
    drawn = dataclasses.replace(figure(0.5, 0.010, "J"), source=by)
    verdict = dataclasses.replace(judged(limit, "inconclusive", 0.005, needed=999), source=by)
    found = Report({**report().figures, "energy": drawn}, (verdict,), not_measurable={"power": "there is no meter"})
    goal = Goal.parse(f"minimize energy; {limit}")
    fake = dataclasses.replace(fake_run, setting=dataclasses.replace(fake_run.setting, goal=goal))
    one = finding(ROUNDED, fake.setting.original.model.to_json(fake.run.root), found)
    tried = [(ROUNDED, Outcome("done", report=found, seconds=1.0))]
    broken = dataclasses.replace(found, judged=(dataclasses.replace(verdict, verdict="broken"),))
    result = concluded(fake, [one], original=broken, tried=tried)
    check_manifest(result.manifest)
    assert result.manifest["closest"]["metrics"]["energy"]["source"] == by
    words = Text(page(result.manifest, [plain(c, o) for c, o in tried])).words.partition("The command")[0]
    screen = terminal.console()
    terminal.show_result(screen, result, None)
    with terminal.Reporter(screen, 1.0) as reporter:
        reporter(Measured(found))
        reporter(Tried(1, "one", tried[0][1], None))
        reporter(Confirmed("one", "inconclusive", one.why_not))
    for shown in (words, capsys.readouterr().err):
        energies = re.findall(r"energy(?=(.{0,50}))", shown)
        assert len(energies) > 4
        assert all(by in said for said in energies), [said for said in energies if by not in said]
        assert "there is no meter" in shown


def test_the_page_of_an_original_that_nothing_beats(fake_run: FakeRun) -> None:
    html = page(concluded(fake_run, []).manifest, [])
    words = Text(html).words
    assert "the original, unchanged" in words
    assert "0 candidates" in words


def test_the_page_of_a_task_that_is_not_binary(manifest: dict[str, Any]) -> None:
    manifest["fairness"] = {"age": {}}
    assert "no fairness between values of age" in Text(page(manifest, tried())).words


def test_a_limit_is_told_in_the_terms_that_it_is_written_in(fake_run: FakeRun) -> None:
    """A value for a value, a share for a share, a drop for a drop; of a slice, the slice's."""
    limits = [
        {"limit": limit, "verdict": "met", "value": 0.88, "low": 0.87, "high": 0.89, "slice": part}
        for limit, part in (
            ("accuracy >= 0.5", None), ("accuracy >= 97% of original", None), ("drop(accuracy) <= 0.05", None),
            ("worst_slice(accuracy) >= 90% of original", "part=a"), ("drop(log_loss) <= 0.05", None),
            ("nobody's", None),
        )
    ]  # fmt: skip
    before = {"accuracy": {"value": 0.9, "unit": ""}, "log_loss": {"value": 0.2, "unit": ""}}
    ratio, rises = ({"value": v, "low": v - 0.01, "high": v + 0.01} for v in (0.98, 1.1))
    slices = {"part=a": {"metrics": {"accuracy": {"ratio": {"value": 0.95, "low": 0.94, "high": 0.96}}}}}
    html = limits_table(limits, before, before, {"accuracy": ratio, "log_loss": rises}, slices, ["size < 1 MB"])
    words = Text(html).words
    for said in (
        "accuracy >= 0.50.8800 (0.8700 to 0.8900)", "97% of original0.98x (0.97 to 0.99) of the original's",
        "0.05a drop of 0.0180 (0.0090 to 0.0270)", "(part=a)0.95x (0.94 to 0.96) of the original's",
        "a drop of 0.0200 (0.0180 to 0.0220)", "size < 1 MBnot judged: another was broken first",
    ):  # fmt: skip
        assert said in words, said
    assert words.count("a drop of") == 2, "of what can't be read there is a verdict, and no more"


def test_what_nothing_kept_is_called_closest_and_nothing_says_that_it_won(fake_run: FakeRun) -> None:
    model = fake_run.setting.original.model.to_json(fake_run.run.root)
    near = finding(ROUNDED, model, report(0.5, {SIZE: "broken"}))
    tried = [(ROUNDED, outcome(0.5, {SIZE: "broken"}, model=model))]
    original = report(1.0, {SIZE: "broken"})
    manifest = json.loads(json.dumps(concluded(fake_run, [near], original, tried).manifest))
    words = re.sub(r"\s+", " ", Text(page(manifest, [plain(*one) for one in tried])).words)
    assert "No candidate keeps the limits. These are the figures of the closest one." in words
    assert "metricoriginalclosestratio" in words and "★ closest" in words and "handed overratio" not in words
    assert f"{ACCURACY}not judged: another was broken first" in words


def test_a_run_that_was_interrupted_before_anything_was_found_says_so() -> None:
    asked = "maximize accuracy"
    for html in (
        unfinished("m", asked, "strop", None, [], {}),
        unfinished_tuning(asked, "strop tune --resume run", []),
    ):
        words = Text(html).words
        assert "No candidate has come to an end yet." in words
        assert "inconclusive: the search was interrupted" in words and f"It was asked to: {asked}." in words


def test_one_that_was_dropped_early_lies_where_its_ratio_puts_it_and_decides_no_axis() -> None:
    """It has seen few samples, on which the original did better than on all of them."""
    few = dataclasses.replace(figure(0.99, 0.96), n=20)
    dropped = plain(ROUNDED, Outcome("done", report=Report({"accuracy": few}), seconds=1.0))
    whole = plain(STRIPPED, Outcome("done", report=Report({"accuracy": figure(0.98, 0.9)}), seconds=1.0))
    axis = Axis.of("accuracy", [dropped, whole], Goal.parse("accuracy >= 99% of original"))
    assert axis.original == 0.9 and axis.limits[0][0] == pytest.approx(0.891)
    assert axis.place(dropped) == pytest.approx((0.891, 0.891 * 0.99, 0.891 * 1.01))
    assert axis.place(whole)[0] == pytest.approx(0.882)


@pytest.mark.parametrize(
    ("limit", "at"),
    [("worst_slice(accuracy, 30) >= 98% of original", 0.98 * 0.9), ("worst_slice(accuracy) >= 0.7", 0.7)],
)
def test_a_limit_on_the_worst_slice_lies_where_the_whole_would_break_it(limit: str, at: float) -> None:
    goal = Goal.parse(f"minimize latency.p50; {limit}")
    axis = Axis.of("accuracy", tried()[:1], goal)
    assert [(pytest.approx(place), said) for place, said in axis.limits] == [(at, limit)]
    kept = {"goal": goal.to_json(), "winner": None, "closest": None, "confirmed": []}
    assert OF_SLICES in choices(tried(), kept)
    assert OF_SLICES not in choices(tried(), {**kept, "goal": Goal.parse(f"minimize size; {ACCURACY}").to_json()})


def test_what_did_not_change_is_told_in_one_line() -> None:
    before = {"trees": 200, "leaves": 6200, "depth": 20}
    assert details.counts(before, {"trees": 100, "leaves": 6200, "depth": 20}) == [
        "trees: 200 became 100, 0.5x", "unchanged: leaves 6,200, depth 20",
    ]  # fmt: skip


def test_columns_without_anything_in_them_are_left_out() -> None:
    html = table("Some", ["a", "b", "c", "d"], [["1", "", "2", ("", "")], ["3", "", "the rest"]])
    assert Text(html).words == "Someac123the rest"
    assert "colspan" not in html


def test_the_page_of_nothing_at_all(fake_run: FakeRun) -> None:
    manifest = concluded(fake_run, [], report(limits={SIZE: "broken"}), tried=[]).manifest
    assert manifest["winner"] is manifest["closest"] is None
    words = Text(page(manifest, [])).words
    assert "no candidate was measured" in words and "Route" not in words


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (spread(Interval(0.00231, 0.00225, 0.0024), "s"), "2.31 (2.25 to 2.4) ms"),
        (spread(Interval(0.00231, 0.00225, 0.0024), "J"), "2.31 (2.25 to 2.4) mJ"),
        (spread(Interval(41.5, 40.0, 43.0), "W"), "41.5 (40 to 43) W"),
        (spread(Interval(0.114, 0.11, 0.12), "per million"), "0.114 (0.11 to 0.12) per million"),
        (named("size", ""), "size"),
        (spread(Interval(4.1e6, 4.1e6, 4.1e6), "bytes"), "4.1 MB"),
        (spread(Interval(0.9, float("-inf"), 0.95), ""), "0.9000 (? to 0.9500)"),
        (spread(Interval(float("nan"), 0, 1), "s"), "not known"),
        (share(Interval(0.43, 0.41, float("inf"))), "0.43x (0.41 to ?)"),
        (share(Interval(float("inf"), 0.41, 1)), "not known"),
        (share(Interval(1.0004, 0.9964, 1.0031)), "1x (0.996 to 1.003)"),
        (share(Interval(0.99914, 0.99896, 0.99931)), "0.9991x (0.999 to 0.9993)"),
        (share(Interval(1.0, 0.99993, 1.0)), "1x (0.9999 to 1)"),
        (percent(Interval(0.012, 0.009, float("inf"))), "1.20% (0.90% to ?)"),
        (percent(Interval(float("nan"), 0, 1)), "not known"),
        (counted(1, "candidate"), "1 candidate"),
        (counted(0, "candidate"), "0 candidates"),
        (counted(2000, "sample"), "2,000 samples"),
    ],
)
def test_numbers_as_people_read_them(shown: str, text: str) -> None:
    assert shown == text


def test_control_characters_are_spelled_out_on_page_and_terminal(
    fake_run: FakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = concluded(fake_run, [], report(limits={SIZE: "broken"}), tried=[]).manifest
    bad = "a\x1b[31m\0\udcff"
    told = r"a\x1b[31m\x00\udcff"
    written = page({**manifest, "advice": [bad]}, [])
    assert told in written and "\x1b" not in written
    console().print(escape(bad))
    fail(bad)
    assert capsys.readouterr().err.split("\n")[:2] == [told, f"strop: {told}"]


def test_deploying_says_what_to_install(manifest: dict[str, Any]) -> None:
    manifest["environment"]["packages"] |= {"numpy": "2.4.6", "xgboost-cpu": "3.2.0"}
    code = "import ctypes\nimport numpy as np\n\nimport xgboost\nfrom ai_edge_litert.interpreter import Interpreter\n"
    assert "pip install numpy==2.4.6 xgboost-cpu==3.2.0 ai-edge-litert" in page(manifest, tried(), code)
    assert "It needs nothing but Python." in page(manifest, tried(), "import ctypes")
