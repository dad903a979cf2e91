"""The figures of an ensemble of trees: how far each puts the scores off, and what it splits by."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from forests import grown
from strop.errors import InvalidData
from strop.forest import Forest
from strop.insight.forests import compare
from strop.insight.story import likeness
from strop.report.forest import COLUMNS, LISTED, forest
from strop.showing import Explanation

EVIL = "<script>alert(1)</script>"
X = np.random.default_rng(1).normal(size=(200, 14))


def original(trees: int) -> Forest:
    return grown(np.random.default_rng(0), trees=trees, features=14, leaves=20, names=(EVIL, *map(str, range(13))))


def cut(first: Forest, trees: int) -> Forest:
    return replace(first, roots=first.roots[:trees], output=first.output[:trees]).without_unused_nodes()


def told(first: Forest, second: Forest) -> dict[str, Any]:
    """As an anatomy has it."""
    found = compare(first, second, X)
    return json.loads(json.dumps({**found, "scores": likeness(found["scores"])}))  # type: ignore[no-any-return]


def drawn(html: str) -> list[dict[str, Any]]:
    return [json.loads(code) for code in re.findall(r'<script type="application/json">(.*?)</script>', html)]


def test_trees_that_were_left_out_are_drawn_one_by_one_and_the_most_of_them_listed() -> None:
    html = forest(told(original(60), cut(original(60), 15)))
    trees, columns = drawn(html)
    assert [trace["name"] for trace in trees["data"]] == ["removed tree", "all trees so far"]
    assert trees["data"][0]["x"] == list(range(15, 60)) and len(trees["data"][1]["y"]) == 60
    assert html.count('scope="row"') == LISTED and "of 45 that changed" in html
    before, after = columns["data"]
    assert len(before["x"]) == COLUMNS and before["x"] == sorted(before["x"], reverse=True)
    assert sum(after["x"]) < sum(before["x"])
    assert EVIL not in html and r"\u0026lt;script" in html


def test_nothing_is_drawn_of_what_did_not_change_but_its_columns() -> None:
    html = forest(told(original(8), original(8)))
    assert len(drawn(html)) == 1 and "<table" not in html


def test_an_explanation_of_trees_draws_them() -> None:
    found = told(original(8), cut(original(8), 6))
    assert "removed tree" in Explanation(forest=found, layers=[], said=[], notes=[]).plot().html
    with pytest.raises(InvalidData, match="nothing to draw"):
        Explanation(forest=None, layers=[], said=[], notes=[]).plot()
