"""What of a call is overhead follows from the times and operations of a model and of its first trees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from forests import grown
from strop import insight
from strop.data import Data
from strop.forest import Forest
from strop.formats.forest import ForestFormat, save
from strop.insight import Found, split
from strop.model import Model
from strop.runtimes import Gtil
from strop.server import Hosted
from strop.stats import Interval
from strop.target import Target

RNG = np.random.default_rng
Seconds = Callable[[Model], float]


def examined(folder: Path, forest: Forest, cut: bool = True) -> tuple[Model, Found]:
    model = save(forest, folder)
    (folder / "short").mkdir()
    short = ForestFormat().shortened(model, folder / "short") if cut else None
    Data({"x": RNG(1).normal(size=(9, forest.features))}).save(folder / "data")
    target = Target(threads=1)
    ready = (Hosted(model, Gtil(), target), Hosted(short or model, Gtil(), target))
    return model, insight.examine((model, short), ready, folder / "data", insight.PROFILING, True, 0)


def test_overhead_is_what_is_left_when_the_trees_are_gone(clock: Seconds, tmp_path: Path) -> None:
    model, found = examined(tmp_path, grown(RNG(0), trees=6))
    short = ForestFormat().open(tmp_path / "short" / "forest.npz")
    x = {"x": RNG(1).normal(size=(9, 4))}
    passed, left = (ForestFormat().structure(each, x).operations for each in (model, short))
    whole, rest = clock(model), clock(short)
    # a line through both: seconds = overhead + slope * operations
    slope = (whole - rest) / (passed - left)
    overhead = max(0.0, whole - slope * passed)
    assert found.seconds.value == pytest.approx(whole)
    assert found.overhead is not None and found.overhead.value == pytest.approx(overhead)
    assert found.share is not None and found.share.value == pytest.approx(overhead / whole)
    assert found.inside is not None and found.inside.value == pytest.approx(whole - overhead)
    assert found.rest is not None and found.rest.value == pytest.approx(1 - overhead / whole)
    assert (found.memory, found.calls) == (12345, 20)
    assert found.notes == ("1 turn counted though disturbed (the machine slept): the spread shows it",)


def test_overhead_of_equal_trees_is_that_of_the_clock(clock: Seconds, tmp_path: Path) -> None:
    tree = grown(RNG(3), trees=1, leaves=8)
    nodes = len(tree.feature)

    def shifted(array: np.ndarray, by: int) -> np.ndarray:  # type: ignore[type-arg]
        return np.concatenate([np.where(array >= 0, array + by * time, -1) for time in range(4)])

    fourfold = {name: np.tile(getattr(tree, name), 4) for name in Forest.ARRAYS[:10]} | {
        "left": shifted(tree.left, nodes), "right": shifted(tree.right, nodes),
        "leaf": shifted(tree.leaf, len(tree.values)),
    }  # fmt: skip
    forest = replace(
        tree, **fourfold, values=np.tile(tree.values, (4, 1)), roots=nodes * np.arange(4), output=np.zeros(4)
    ).check()
    _, found = examined(tmp_path, forest)
    assert found.overhead is not None and found.overhead.value == pytest.approx(20)


def test_a_model_that_can_not_be_cut_has_its_call_timed_all_the_same(clock: Seconds, tmp_path: Path) -> None:
    model, found = examined(tmp_path, grown(RNG(0), trees=1), cut=False)
    assert found.overhead is found.share is found.inside is found.rest is None
    assert found.seconds.value == pytest.approx(clock(model))


def test_trees_without_splits_are_no_work_that_could_be_told_apart(clock: Seconds, tmp_path: Path) -> None:
    _, found = examined(tmp_path, grown(RNG(0), trees=3, leaves=1))
    assert found.share is None
    assert found.notes[0] == "what a call takes besides the model can't be told: it does nothing with a sample"


def test_shares_stay_between_none_and_all_of_a_call() -> None:
    assert split._share(Interval(0.05, 0.01, 1.4), 0.1) == Interval(0.0, 0.0, 1.0)
    assert split._share(Interval(0.55, 0.1, 0.9), 0.1).value == pytest.approx(0.5)
