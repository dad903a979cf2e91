"""A user's own metric, in its three forms, and all that can be wrong with it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop import metrics
from strop.errors import InvalidData, InvalidGoal
from strop.metrics.custom import Custom
from strop.samples import Samples
from strop.stats import Binary, Statistic, verdict

MODULE = """
import numpy as np

def hits(outputs, labels):
    return outputs["y"].argmax(1) == labels

def distance(outputs, labels):
    return np.abs(outputs["y"][:, 0] - labels)
distance.better = "lower"

def error_rate(outputs, labels):
    return np.abs(outputs["y"]).sum(1), np.full(len(labels), 3)
error_rate.better = "lower"

def correlation(outputs, labels):
    return np.corrcoef(outputs["y"][:, 0], labels)[0, 1]

def norm(outputs, labels):
    assert labels is None
    return np.linalg.norm(outputs["y"], axis=1)

def short(outputs, labels):
    return np.ones(3)

def word(outputs, labels):
    return "good"

def triple(outputs, labels):
    return np.ones(40), np.ones(40), np.ones(40)

def lost(outputs, labels):
    return np.where(np.arange(len(labels)) == 2, np.nan, 1.0)

def fails(outputs, labels):
    return outputs["z"]

def sideways(outputs, labels):
    return 1.0
sideways.better = "up"

number = 3
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_metrics.py").write_text(MODULE)
    (tmp_path / "broken_metrics.py").write_text("import no_such_package_at_all")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("own_metrics", "broken_metrics"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture
def case(probe: Any) -> Any:
    rng = np.random.default_rng(0)
    original = rng.normal(size=(40, 3))
    return probe(original, original + 0.01 * rng.normal(size=(40, 3)), rng.integers(0, 3, 40))


def test_scores_a_sample(case: Any) -> None:
    metric = Custom("own_metrics:hits")
    assert (metric.name, metric.spelling, metric.better, metric.unit) == ("hits", "own_metrics:hits", "higher", "")
    found = metric.measure(case)
    assert isinstance(found, Binary)
    assert found.original().value == metrics.find("accuracy").measure(case).original().value
    case.groups = np.arange(40) // 4
    grouped = metric.measure(case)
    assert isinstance(grouped, Samples) and grouped.units == 10


def test_lower_is_better(case: Any) -> None:
    metric = Custom("own_metrics:distance")
    assert metric.better == "lower"
    assert verdict(metric.measure(case), "at_most", 1.05, 0)[0] == "met"


def test_numerators_and_denominators(case: Any) -> None:
    found = Custom("own_metrics:error_rate").measure(case, np.arange(20))
    assert found.original().value == pytest.approx(np.abs(case.original_outputs["y"][:20]).mean())
    assert found.n == 20


def test_one_number_is_resampled(case: Any) -> None:
    found = Custom("own_metrics:correlation").measure(case)
    assert isinstance(found, Statistic)
    assert found.original().value == pytest.approx(np.corrcoef(case.original_outputs["y"][:, 0], case.labels)[0, 1])
    assert found.margin(1, 0).high - found.margin(1, 0).low < found.original().high - found.original().low


def test_labels_may_be_missing(case: Any) -> None:
    case.labels = None
    metric = metrics.find("own_metrics:norm")
    metric.check(case.original_outputs, None)
    assert metric.measure(case, np.arange(5)).n == 5


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("short", r"for 40 samples own_metrics:short returned ndarray of shape \(3,\)"),
        ("word", "returned 'good'"),
        ("triple", "n scores"),
        ("lost", "returned NaN"),
        ("fails", "own_metrics:fails raised KeyError: 'z'"),
    ],
)
def test_what_a_function_does_wrong_is_named(name: str, said: str, case: Any) -> None:
    metric = Custom(f"own_metrics:{name}")
    with pytest.raises(InvalidData, match=said):
        metric.check(case.original_outputs, case.labels)
    with pytest.raises(InvalidData, match=said):
        metric.measure(case)


@pytest.mark.parametrize(
    ("spelling", "said"),
    [
        ("own_metrics:absent", "has no function 'absent'"),
        ("own_metrics:number", "has no function 'number'"),
        ("no_such_module:f", "can't be imported"),
        ("broken_metrics:f", "no_such_package_at_all"),
        ("own_metrics:sideways", "own_metrics:sideways has 'up'"),
        (":f", "module:function"),
        ("own_metrics:", "module:function"),
    ],
)
def test_what_cannot_be_found_is_an_invalid_goal(spelling: str, said: str) -> None:
    with pytest.raises(InvalidGoal, match=said):
        metrics.find(spelling)
