"""What of a call is overhead follows from the times and operations of a model and of its first trees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from forests import grown
from strop import formats, insight
from strop.data import Data
from strop.formats.forest import save
from strop.insight import Found, split
from strop.metric import Timing
from strop.runtimes import Native
from strop.server import Hosted
from strop.stats import Interval
from strop.target import Target
from strop.timing import Effort

RNG = np.random.default_rng


class Clock:
    """In the place of `Turns`: calls that take 20 s and 2 s for each split that is passed."""

    def __init__(self, first: Hosted, second: Hosted, data: Path, batches: tuple[int, int], effort: Effort):
        self.hosted, self.data, self.batches, self.effort = (first, second), data, batches, effort

    def take(self, enough: object) -> Timing:
        sides = []
        for hosted in self.hosted:
            room = formats.format_of(hosted.model.format)
            taken = 20 + 2 * room.structure(hosted.model, Data.load(self.data).batch(0, 9)).operations
            sides.append([[np.full(5, taken)] * 2] * 2)
        return Timing(sides[0], sides[1], self.batches, disturbed=1, why="the machine slept")


class Memory:
    """In the place of `Server`."""

    def __init__(self, *given: object):
        pass

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def memory(self, data: Path) -> int:
        return 12345


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split, "Turns", Clock)
    monkeypatch.setattr(split, "Server", Memory)


def examined(tmp_path: Path, trees: int) -> Found:
    (tmp_path / "short").mkdir()
    forest = grown(RNG(0), trees=trees)
    model = save(forest, tmp_path)
    Data({"x": RNG(1).normal(size=(9, 4))}).save(tmp_path / "data")
    hosted = Hosted(model, Native(), Target(threads=1))
    return insight.examine(hosted, tmp_path / "data", tmp_path / "short", insight.PROFILING, True, 0)


def test_overhead_is_what_is_left_when_the_trees_are_gone(clock: None, tmp_path: Path) -> None:
    found = examined(tmp_path, 6)
    whole = 20 + 2 * found.structure.operations
    assert found.seconds.value == pytest.approx(whole)
    assert found.overhead is not None and found.overhead.value == pytest.approx(20)
    assert found.share is not None and found.share.value == pytest.approx(20 / whole)
    assert found.inside is not None and found.inside.value == pytest.approx(whole - 20)
    assert found.rest is not None and found.rest.value == pytest.approx(1 - 20 / whole)
    assert (found.memory, found.calls) == (12345, 20)
    assert found.notes == ("1 turn counted though disturbed (the machine slept): the spread shows it",)


def test_a_model_that_can_not_be_cut_has_its_call_timed_all_the_same(clock: None, tmp_path: Path) -> None:
    found = examined(tmp_path, 1)
    assert found.overhead is found.share is found.inside is found.rest is None
    assert found.seconds.value == pytest.approx(20 + 2 * found.structure.operations)
    assert found.notes[0] == "what a call takes besides the model can't be told: it has one tree at the most"


def test_trees_without_splits_are_no_work_that_could_be_told_apart(clock: None, tmp_path: Path) -> None:
    (tmp_path / "leaves").mkdir()
    forest = grown(RNG(0), trees=3, leaves=1)
    Data({"x": np.zeros((9, 4))}).save(tmp_path / "data")
    hosted = Hosted(save(forest, tmp_path), Native(), Target(threads=1))
    bare = insight.examine(hosted, tmp_path / "data", tmp_path / "leaves", insight.PROFILING, False, 0)
    assert bare.share is None
    assert bare.notes[0] == "what a call takes besides the model can't be told: a sample passes no split"


def test_shares_stay_between_none_and_all_of_a_call() -> None:
    assert split._share(Interval(0.05, 0.01, 1.4), 0.1) == Interval(0.0, 0.0, 1.0)
    assert split._share(Interval(0.55, 0.1, 0.9), 0.1).value == pytest.approx(0.5)
