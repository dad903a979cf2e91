"""Spaces: scikit-learn's order, what is drawn, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import ParameterGrid
from sklearn.svm import SVC

from strop.errors import InvalidPlan
from strop.tune.asking import Asking, default, key
from strop.tune.space import Space

values = st.lists(st.one_of(st.integers(-5, 5), st.booleans(), st.none(), st.text(max_size=3)), min_size=1, max_size=4)
grids = st.dictionaries(st.sampled_from(["C", "gamma", "kernel", "grid"]), values, max_size=3)
CONDITIONAL = [{"kernel": ["linear"], "C": [1, 10]}, {"kernel": ["rbf"], "C": [1, 2, 3], "gamma": [0.1, 1]}]


@settings(max_examples=25, deadline=None)
@given(st.lists(grids, min_size=1, max_size=3))
def test_a_grid_is_enumerated_in_scikit_learns_order(given: list[dict[str, list[Any]]]) -> None:
    space = Space.of(given)
    points = list(space)
    assert [space.params(point) for point in points] == list(ParameterGrid(given))
    assert space.size == len(points) == len({key(point) for point in points})


def suggested(space: Space, count: int, sampler: str = "tpe") -> list[dict[str, Any]]:
    asking = Asking(space, sampler, seed=3)  # type: ignore[arg-type]
    found = []
    while len(found) < count and (asked := asking.ask()):
        found.append(dict(asked.params))
        asking.tell(asked, float(len(repr(asked.params))))
    return found


@pytest.mark.parametrize("sampler", ["gp", "tpe", "random", "nsga2", "grid"])
@pytest.mark.parametrize("given", [{"a": [3, 1, 2, 9], "b": ["x", None, True, 2.5]}, CONDITIONAL])
def test_every_sampler_tries_each_point_of_a_grid_once(given: Any, sampler: str) -> None:
    found = suggested(Space.of(given), 100, sampler)
    whole = list(ParameterGrid(given))
    assert sorted(map(repr, found)) == sorted(map(repr, whole))


def test_a_conditional_parameter_is_drawn_where_it_belongs() -> None:
    given = [{"kernel": ["linear"], "C": scipy.stats.uniform(1, 2)}, {"kernel": ["rbf"], "gamma": [0.1, 1]}]
    for params in suggested(Space.of(given), 40):
        assert set(params) == ({"kernel", "C"} if params["kernel"] == "linear" else {"kernel", "gamma"})


def test_values_that_are_estimators_come_back_as_they_are() -> None:
    models = [SVC(C=1), SVC(C=1), None]
    assert [Space.of({"m": models}).params(point)["m"] for point in Space.of({"m": models})] == models


@pytest.mark.parametrize(
    ("given", "low", "high", "median"),
    [
        (scipy.stats.loguniform(1e-3, 1e3), 1e-3, 1e3, 1.0),
        (scipy.stats.uniform(2, 6), 2, 8, 5.0),
        (scipy.stats.randint(0, 101), 0, 100, 50),
        (scipy.stats.expon(scale=2), 0, np.inf, 2 * np.log(2)),
        (scipy.stats.norm(1, 2), -np.inf, np.inf, 1.0),
        (scipy.stats.poisson(20), 0, np.inf, 20),
        (optuna.distributions.FloatDistribution(1e-3, 1e3, log=True), 1e-3, 1e3, 1.0),
        (optuna.distributions.FloatDistribution(0, 1, step=0.25), 0, 1, 0.5),
        (optuna.distributions.IntDistribution(2, 10, step=2), 2, 10, 6),
    ],
)
def test_distributions_of_scipy_and_optuna_are_drawn_from(given: Any, low: float, high: float, median: float) -> None:
    space = Space.of({"a": given})
    asking = Asking(space, "random", seed=0)
    drawn = [space.params(space.suggest(asking.study.ask()))["a"] for _ in range(300)]
    assert low <= min(drawn)
    assert max(drawn) <= high
    assert np.mean(np.asarray(drawn) <= median) > 0.4, "half of them lie below the median"
    assert np.mean(np.asarray(drawn) >= median) > 0.4
    if hasattr(given, "pmf"):
        assert all(isinstance(value, int) for value in drawn)


def test_a_search_ends_where_a_space_of_steps_is_exhausted() -> None:
    space = Space.of({"a": optuna.distributions.IntDistribution(1, 4), "b": [True, False]})
    assert space.size == 8
    assert len(suggested(space, 100)) == 8


CUBE = Space.of({name: list(np.logspace(-4, 4, 17)) for name in "abc"})  # 4,913 points


def distance(params: Mapping[str, Any]) -> float:
    """From the middle of the cube."""
    return float(sum(np.log10(params[name]) ** 2 for name in "abc"))


def nearest(asking: Asking, trials: int, sign: float = 1.0) -> float:
    """The least distance of what is asked for."""
    found = np.inf
    for _ in range(trials):
        asked = asking.ask()
        assert asked is not None
        found = min(found, distance(asked.params))
        asking.tell(asked, sign * distance(asked.params))
    return found


def test_tpe_learns_the_order_of_numbers() -> None:
    assert nearest(Asking(CUBE, direction="minimize", seed=0), 80) <= 0.75, "one of the 27 points around the best"


@pytest.mark.parametrize(("direction", "sign"), [("minimize", 1.0), ("maximize", -1.0)])
def test_a_gaussian_process_finds_the_best_point_of_thousands(direction: Any, sign: float) -> None:
    assert nearest(Asking(CUBE, "gp", direction, seed=0), 30, sign) == 0


def test_a_gaussian_process_turns_away_from_what_fails_or_breaks_a_limit() -> None:
    asking = Asking(CUBE, "gp", "minimize", seed=0)
    asked = []
    for _ in range(30):
        asked.append(one := asking.ask())
        assert one is not None
        a = float(one.params["a"])
        if a > 1:
            asking.tell(one, None)
        else:
            asking.tell(one, distance(one.params), {"limit": max(0.0, 0.01 - a)})
    kept = [0.01 <= float(one.params["a"]) <= 1 for one in asked if one]
    assert np.mean(kept[15:]) > 0.6, "5 of 17 values are allowed"


def test_a_gaussian_process_does_not_ask_twice_for_what_is_still_being_tried() -> None:
    asking = Asking(CUBE, "gp", "minimize", seed=0)
    nearest(asking, 12)
    several = [one for one in (asking.ask() for _ in range(4)) if one]
    assert len({one.key for one in several}) == 4


def test_a_space_with_too_many_points_is_refused_by_the_sampler_that_looks_through_them() -> None:
    for space, count in (({"C": scipy.stats.uniform(0, 1)}, "without number"), ({"C": range(30_000)}, "30,000")):
        with pytest.raises(InvalidPlan, match=f"at most 20,000, and those of this one are {count}.*choose tpe"):
            Asking(Space.of(space), "gp")


@pytest.mark.parametrize(
    ("given", "trials", "plain", "sampler"),
    [({"C": [1, 2]}, 2, True, "grid"), ({"C": [1, 2, 3]}, 2, True, "gp"), ({"C": [1, 2, 3]}, 2, False, "tpe"),
     ({"C": scipy.stats.uniform(0, 1)}, 2, True, "tpe")],
)  # fmt: skip
def test_the_sampler_where_none_is_named(given: Any, trials: int, plain: bool, sampler: str) -> None:
    assert default(Space.of(given), trials, plain) == sampler


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ([], "this list is empty"),
        ({"C": []}, "its list is empty"),
        ({"C": np.array([])}, "its list is empty"),
        ({"C": 1}, "C must be a list of values"),
        ({"C": "rbf"}, r"One value goes into a list too: \['rbf'\]"),
        ({"C": np.ones((2, 2))}, "one dimension"),
        ({1: [1]}, "named by text"),
        ("C", "A space must be a dict"),
        ([{"C": [1]}, 3], "A space must be a dict"),
        ({"C": scipy.stats.uniform(0, -1)}, "Check its parameters"),
    ],
)
def test_what_is_no_space_is_refused(given: Any, why: str) -> None:
    with pytest.raises(InvalidPlan, match=why):
        Space.of(given)


def test_a_grid_of_any_number_is_refused() -> None:
    with pytest.raises(InvalidPlan, match="Name its values"):
        Asking(Space.of({"C": scipy.stats.uniform(0, 1)}), "grid")
    with pytest.raises(InvalidPlan, match="sampler must be one of"):
        Asking(Space.of({"C": [1]}), "best")  # type: ignore[arg-type]


def test_a_dict_without_parameters_is_one_point() -> None:
    assert [Space.of({}).params(point) for point in Space.of({})] == [{}]


def test_ranges_of_plain_data_are_whole_where_all_their_numbers_are() -> None:
    space = Space.of({
        "C": {"low": 1e-4, "high": 1, "log": True}, "depth": {"low": 1, "high": 10, "step": 4},
        "rate": {"low": 0.1, "high": 0.75, "step": 0.2}, "leaves": {"low": 2, "high": 2000, "log": True},
    })  # fmt: skip
    (grid,) = space.grids
    assert grid["C"].distribution == optuna.distributions.FloatDistribution(1e-4, 1.0, log=True)
    assert grid["depth"].distribution == optuna.distributions.IntDistribution(1, 9, step=4)
    assert grid["rate"].distribution == optuna.distributions.FloatDistribution(0.1, 0.7, step=0.2)
    assert grid["leaves"].distribution == optuna.distributions.IntDistribution(2, 2000, log=True)
    assert Space.of({"depth": {"low": 1, "high": 10, "step": 4}}).size == 3


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"low": 3, "high": 1}, "from a low to a high above it"),
        ({"low": 1, "high": 1}, r"Give one value as a list: \[1\]"),
        ({"low": 1, "high": 5, "step": 9}, "in steps between them"),
        ({"low": 0, "high": 1, "log": True}, "begins above 0"),
        ({"low": 1, "high": 9, "log": True, "step": 2}, "has no step"),
        ({"low": 1}, "with numbers for low, high"),
        ({"low": "a", "high": 2}, "with numbers for low, high"),
        ({"low": 1, "high": float("inf")}, "with numbers for low, high"),
        ({"low": 1, "high": 2, "log": 1}, "with numbers for low, high"),
        ({"lo": 1, "high": 2}, "and not 'lo'"),
    ],
)
def test_ranges_that_are_none(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(InvalidPlan, match=told):
        Space.of({"C": wrong})
