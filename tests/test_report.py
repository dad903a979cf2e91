"""Report: what a person is shown; every name escaped, and what is not known said so."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from engine import (
    ACCURACY,
    ROUNDED,
    SIZE,
    FakeRun,
    check_manifest,
    concluded,
    figure,
    finding,
    judged,
    outcome,
    report,
)  # fmt: skip
from strop import terminal
from strop.events import Confirmed, Measured, Tried
from strop.goal import Goal
from strop.judge import Report
from strop.report import page
from strop.rundir import finite
from strop.stats import Interval
from strop.trial import Outcome
from strop.units import named, share, spread

EVIL = "<script>alert('x')</script>&\"'"


class Text(HTMLParser):
    """The text of a page, and the tags in it; complains where one is not closed."""

    def __init__(self, html: str):
        super().__init__()
        self.words, self.tags, self.open = "", [], []  # type: ignore[var-annotated]
        self.feed(html)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data if "style" not in self.open else ""


@pytest.fixture
def manifest(fake_run: FakeRun) -> dict[str, Any]:
    model = fake_run.setting.original.model.to_json(fake_run.run.root)
    slices = {"part=a": {"accuracy": figure(0.98, 0.9)}}
    found = Report(report().figures, (judged(ACCURACY, "inconclusive", needed=4321), judged(SIZE)), slices)
    result = concluded(fake_run, [finding(ROUNDED, model, found)], original=report(limits={SIZE: "broken"}))
    return json.loads(json.dumps(result.manifest))  # type: ignore[no-any-return]


def tried() -> list[tuple[str, dict[str, Any]]]:
    outcomes = [
        outcome(0.5, {ACCURACY: "met"}),
        outcome(0.3, {ACCURACY: "broken"}),
        Outcome("crashed", "SIGSEGV", seconds=1.0),
    ]
    return [(f"candidate {number}", one.to_json()) for number, one in enumerate(outcomes)]


def test_a_page_says_what_was_found_and_loads_nothing(manifest: dict[str, Any]) -> None:
    html = page(manifest, tried())
    text = Text(html)
    words = re.sub(r"\s+", " ", text.words)
    for said in (
        "inconclusive: these data can't decide", "about 4,321 samples", "4,321 samples would decide", "fake-round",
        "5 (4.95 to 5.05) ms", "0.5x (0.495 to 0.505)", "part=a", "broke accuracy", "SIGSEGV",
        "fake-fault has no fault to show", "1 threads, batch 1", "differs by up to 2.0%",
    ):  # fmt: skip
        assert said in words, said
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in text.tags}
    assert not re.search(r"(src|href)=|url\(|@import", html)


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
    trapped["slices"] = {name + EVIL: found for name, found in trapped["slices"].items()}
    trapped["not_tried"] = {name + EVIL: reason for name, reason in trapped["not_tried"].items()}
    candidates = [(name + EVIL, evil(found)) for name, found in tried()]
    html = page(trapped, candidates)
    assert "<script" not in html
    assert "alert('x')" in Text(html).words
    known = {"class", "scope", "lang", "charset", "name", "content"}
    assert {name for _, attributes in Text(html).tags for name in attributes} <= known


def test_figures_that_are_null_are_not_known(manifest: dict[str, Any]) -> None:
    for side in ("original", "closest"):
        for found in manifest[side]["metrics"].values():
            found.update(value=None, low=None, high=None)
    for ratio in manifest["closest"]["ratios"].values():
        ratio.update(low=None, high=None)
    manifest["noise"] = None
    endless = [(name, finite(found)) for name, found in tried()]
    endless[0][1]["report"]["figures"]["size"]["ratio"] = {"value": None, "low": None, "high": None}
    words = Text(page(manifest, endless)).words
    assert "not known" in words
    assert "0.5x (? to ?)" in words
    assert "an unknown share" in words
    assert not re.search(r"\b(nan|None|null)\b", words.partition("Settings, versions, hashes")[0])


def test_so_are_figures_without_end(manifest: dict[str, Any]) -> None:
    manifest["closest"]["metrics"]["accuracy"].update(low=float("-inf"), high=float("inf"))
    manifest["noise"] = float("inf")
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
    words = Text(page(result.manifest, [(str(c), o.to_json()) for c, o in tried])).words
    screen = terminal.console()
    terminal.show_result(screen, result, None)
    with terminal.Reporter(screen, 1.0) as reporter:
        reporter(Measured(found))
        reporter(Tried(1, "one", tried[0][1], None))
        reporter(Confirmed("one", "inconclusive", one.why_not))
    for shown in (words.partition("Settings, versions, hashes")[0], capsys.readouterr().err):
        energies = re.findall(r"energy(?=(.{0,40}))", shown)
        assert len(energies) > 4
        assert all(by in said for said in energies), energies
        assert "there is no meter" in shown


def test_the_page_of_an_original_that_nothing_beats(fake_run: FakeRun) -> None:
    html = page(concluded(fake_run, []).manifest, [])
    words = Text(html).words
    assert "the original, unchanged" in words
    assert "0 candidates" in words


def test_the_page_of_nothing_at_all(fake_run: FakeRun) -> None:
    manifest = concluded(fake_run, [], report(limits={SIZE: "broken"}), tried=[]).manifest
    assert manifest["winner"] is manifest["closest"] is None
    assert "no candidate was measured" in Text(page(manifest, [])).words


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
    ],
)
def test_numbers_as_people_read_them(shown: str, text: str) -> None:
    assert shown == text
