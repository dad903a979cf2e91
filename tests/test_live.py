"""Live: what is tried, the best so far and warnings stand in one output of a notebook; elsewhere nothing is shown."""

from __future__ import annotations

from typing import Any

import pytest

from engine import COMPILED, outcome
from strop.events import Confirming, Event, Planned, Said, Stopped, Tried, Trying, Working
from strop.live import Live, following

NAME = "<b>evil</b>\x1b[2J"


class Shown(Live):
    """Keeps what a notebook would show."""

    def __init__(self) -> None:
        super().__init__()
        self.pages: list[str] = []

    def _show(self) -> None:
        self.pages.append(self._repr_html_())


def told(*events: Event) -> str:
    live = Shown()
    for event in events:
        live(event)
    return live.pages[-1]


def test_what_is_tried_and_the_time_left_are_told() -> None:
    assert "12 routes to try" in told(Planned(("a",) * 12, {}))
    trying = Trying(3, "static-int8", "its defaults", 125.0)
    assert "3: static-int8 (its defaults), 2 min 5 s left" in told(trying)
    worked = told(trying, Working(0.25, "calibrating"), Working(0.5, "calibrating"))
    assert worked.count("calibrating") == 1 and "50%" in worked


def test_the_best_so_far_stays() -> None:
    name = str(COMPILED)
    page = told(Trying(1, name, "", None), Tried(1, name, outcome(0.25), name), Trying(2, "other", "", None))
    assert "2: other" in page and f"best so far, of 1 candidate: {name}: " in page and "latency.p50 0.25x" in page


def test_what_is_better_in_quality_stands_beside_the_best() -> None:
    quick = Tried(2, "quick", outcome(0.25, accuracy=0.99), "quick")
    page = told(Tried(1, "exact", outcome(0.5), "exact"), quick)
    assert page.count("quick") == 1 and "or 0.5x latency.p50, accuracy 0.9: exact" in page


def test_warnings_stay_and_names_are_escaped() -> None:
    page = told(Said("nothing to see", False), Said(f"beware of {NAME}", True), Confirming(NAME, 1, 2), Stopped(NAME))
    assert "nothing to see" not in page and "beware of" in page
    assert "<b>" not in page and "\x1b" not in page and page.count("&lt;b&gt;") == 2


def test_outside_of_a_notebook_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    following(None)(Stopped("over"))
    assert capsys.readouterr() == ("", "")
    heard: list[Any] = []
    following(heard.append)(Stopped("over"))
    assert heard == [Stopped("over")]
