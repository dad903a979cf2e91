"""The page of a search over parameters: what it says, that every name is escaped, and how large it gets."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from sklearn.datasets import load_iris
from sklearn.svm import SVC

from strop import Budget
from strop.report import plots as drawing
from strop.tune import Tuned, search
from strop.tune.folds import Fit, Stage
from strop.tune.history import Scales, study_of
from strop.tune.space import Space

EVIL = "<script>alert('x')</script>"
KINDS = ["a", "<b>bold</b>", "fails"]


class Page(HTMLParser):
    """The words of a page outside of code, and what its code draws; complains where a tag is not closed."""

    def __init__(self, html: str):
        super().__init__()
        self.words, self.code, self.open, self.tags = "", "", [], set()  # type: ignore[var-annotated]
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" in self.open:
            self.code += data
        elif "style" not in self.open:
            self.words += data


def trained(trial: Any) -> dict[str, float]:
    """One kind fails, large ones break a limit, slow ones are dropped."""
    p = trial.params
    if p["kind"] == KINDS[2]:
        raise ValueError(f"no {EVIL} here")
    if p[EVIL] < 2e-4:
        raise optuna.TrialPruned
    return {"score": p["x"] - p[EVIL], "size": 1000.0 + 9000 * p["x"]}


@pytest.fixture(scope="module")
def found() -> Tuned:
    space = {
        EVIL: {"low": 1e-4, "high": 1.0, "log": True}, "x": {"low": 0.0, "high": 1.0},
        "kind": KINDS, "n": [1, 10, 1000],
    }  # fmt: skip
    goal = "maximize score; size <= 9 kB"
    few = search(trained, space, goal=goal, budget=Budget(600, 50), threads=1, sampler="random")
    rng, trials = np.random.default_rng(0), list(few.trials)
    while len(trials) < 500:  # worse ones in its way: to try as many takes long
        like = few.trials[len(trials) % 50]
        x, rate = like.params["x"] * rng.uniform(), like.params[EVIL] * rng.uniform()
        values = {"score": x - rate, "size": 1000 + 9000 * x} if like.state == "done" else {}
        params = {**like.params, "x": x, EVIL: max(1e-4, rate)}
        trials.append(replace(like, params=params, fits={Stage(0): Fit(values, 0.01)}))
    study = study_of(trials, Scales.of(Space.of(space)), "score", "maximize")
    importance = {"kind": 0.5, EVIL: 0.3, "x": 0.2, "n": 0.0}
    return replace(few, trials=tuple(trials), study=study, importance=importance)


@pytest.fixture(scope="module")
def html(found: Tuned, tmp_path_factory: pytest.TempPathFactory) -> str:
    return found.report(tmp_path_factory.mktemp("page") / "report.html").read_text()


def test_the_page_says_all_that_was_found(found: Tuned, html: str) -> None:
    words = Page(html).words
    for said in (
        "strop tune: trained", "met", "size <= 9 kB", "Importance", "History", "Slices", "Contours",
        "What the choices were: 500 candidates", "the trials were used up", "breaks size <= 9 kB", "behind others",
        f"ValueError: no {EVIL} here", "strop.Budget(600, 50)", "sampler='random'", "pruner='halving'",
    ):  # fmt: skip
        assert said in words, said
    chosen = found.trials[found.chosen]
    assert chosen.params == found.params
    assert f"{EVIL}={found.params[EVIL]:.4g}" in words


def test_every_name_is_escaped_also_in_the_plots(html: str) -> None:
    page = Page(html)
    assert EVIL not in html
    assert "b" not in page.tags
    drawn = [_spelled(part) for part in re.findall(r'<script type="application/json">(.*?)</script>', html)]
    assert len(drawn) == 9 and all("xaxis" in part for part in drawn), "two histories, four slices, three contours"
    assert not any("<" in part for part in drawn), "Plotly takes it for HTML"
    assert sum("&lt;script&gt;alert" in part for part in drawn) >= 3


def _spelled(code: str) -> str:
    """With the signs that JSON spells out; without Plotly's own mark-up."""
    return re.sub(r"\\u00([0-9a-f]{2})", lambda sign: chr(int(sign[1], 16)), code).replace("<extra></extra>", "")


def test_five_hundred_candidates_take_less_than_six_megabytes(html: str) -> None:
    assert len(html.encode()) < 6_000_000
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", html[: html.index("<script>")])


def test_the_original_is_told_of_where_there_is_one_equal_or_not(found: Tuned, html: str, tmp_path: Path) -> None:
    assert "metricvalue" in Page(html).words, "a function has none"
    beside = replace(found, how={**found.how, "given": {"x": 0.5}})  # with the same figures
    assert "metricas givenchosenratio" in Page(beside.report(tmp_path / "page.html").read_text()).words


def test_states_have_a_colour_and_a_shape_and_nothing_is_left_out(found: Tuned) -> None:
    plain = json.loads(json.dumps(found.to_json()))
    told = drawing.outcomes(plain)
    assert set(told) == {"chosen", "done", "breaks a limit", "dropped", "failed"}
    assert told.count("chosen") == 1
    figures = drawing.plots(plain, found.study)
    assert [len(figures[head]) for head in ("History", "Slices", "Contours")] == [2, 4, 3]
    for figure in figures["Slices"]:
        assert sum(len(trace.x) for trace in figure.data) == 500
        looks = [(trace.marker.color, trace.marker.symbol) for trace in figure.data]
        assert len({colour for colour, _ in looks}) == len({shape for _, shape in looks}) == len(set(told))
    for figure in figures["Contours"]:
        assert max(len(figure.data[0].x), len(figure.data[0].y)) <= drawing.LEVELS + 2  # Optuna's margins


def test_the_study_has_the_values_of_parameters(found: Tuned) -> None:
    assert [trial.state.name for trial in found.study.trials] == [
        {"done": "COMPLETE", "dropped": "PRUNED", "failed": "FAIL"}[trial.state] for trial in found.trials
    ]
    assert {trial.params["n"] for trial in found.study.trials} == {1, 10, 1000}
    assert found.study.best_trial.params == {**found.params}
    assert all(frozen.params == trial.params for frozen, trial in zip(found.study.trials, found.trials, strict=True))


def test_one_candidate_and_only_failed_ones_but_the_original(tmp_path: Path) -> None:
    x, y = load_iris(return_X_y=True)
    one = search(SVC(), {"C": [1.0]}, x, y, threads=1).report(tmp_path / "one.html").read_text()
    assert "1 candidate" in Page(one).words
    endless = search(lambda trial: trial.params["n"] * float("inf"), {"n": [1, 2, 3]}, threads=1)
    assert "3 candidates" in Page(endless.report(tmp_path / "endless.html").read_text()).words
    failed = search(SVC(), {"C": [-1, -2, -3]}, x, y, threads=1).report(tmp_path / "failed.html").read_text()
    words = Page(failed).words
    assert "nothing that was tried is better than the estimator as given" in words
    assert words.count("Got -2 instead") >= 1


def test_a_slice_keeps_what_is_far_behind_and_what_failed_at_its_edge() -> None:
    heights = drawing._heights([0.9, 0.8, 0.7, -1e9, float("nan"), float("inf")], 1.0)
    assert heights[:3] == [0.9, 0.8, 0.7]
    assert len(set(heights[3:])) == 1 and -1 < heights[3] < 0.7
    heights = drawing._heights([0.1, 0.2, 0.3, 1e9, float("nan")], -1.0)
    assert heights[:3] == [0.1, 0.2, 0.3]
    assert len(set(heights[3:])) == 1 and 0.3 < heights[3] < 2
    assert drawing._heights([0.5, float("nan")], 1.0)[1] < 0.5
    assert drawing._heights([1.0, 1.0, 1.0, 0.0], 1.0) == [1.0, 1.0, 1.0, 0.0]


def test_scales_of_several_grids_have_room_for_all() -> None:
    grids = [{"C": [0.1, 1, 100], "kernel": ["rbf"], "odd": [1, 2, 3]},
             {"C": {"low": 1, "high": 5}, "kernel": ["linear"]},
             {"odd": ["auto"], "mixed": {"low": 0.0, "high": 1.0}}, {"mixed": [None]}]  # fmt: skip
    scales = Scales.of(Space.of(grids))
    assert scales.kinds["C"] == optuna.distributions.FloatDistribution(0.1, 100)
    assert scales.shown({"C": 1, "kernel": "rbf", "odd": 3}) == {"C": 1, "kernel": "rbf", "odd": "3"}
    assert "mixed" not in scales.kinds
