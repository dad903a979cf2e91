"""Arguments and the user's own functions, misused."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop import benchmark, compare, optimize, verify
from strop._calls import call
from strop._pickles import write_object
from strop._plain import given, texts
from strop.bundle import Bundle
from strop.errors import BundleError, InvalidData, InvalidPlan
from strop.learning import Training
from strop.metrics.custom import Custom
from strop.prepare import Budget
from strop.reading import read
from strop.target import Target


@pytest.mark.parametrize("seconds", [-1, 0, float("nan"), float("inf"), "60", None])
def test_a_budget_is_above_zero(seconds: Any) -> None:
    with pytest.raises(InvalidPlan, match="seconds of a budget"):
        Budget(seconds)


@pytest.mark.parametrize("trials", [0, -1, 1.5, "2"])
def test_trials_are_counted_from_one(trials: Any) -> None:
    with pytest.raises(InvalidPlan, match="trials of a budget"):
        Budget(60, trials)


@pytest.mark.parametrize("fields", [{"threads": "1"}, {"batch": "4"}, {"formats": None}, {"rate": "5"}])
def test_a_target_is_of_numbers(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidPlan, match=next(iter(fields))):
        Target(**fields)


def test_a_target_is_of_a_known_kind_and_takes_its_formats() -> None:
    assert Target(kind="mobile").formats == ("tflite",)
    with pytest.raises(InvalidPlan, match="server or mobile, not 'phone'"):
        Target(kind="phone")
    with pytest.raises(InvalidPlan, match="takes tflite, not onnx"):
        Target(kind="mobile", formats=("onnx",))


def test_arguments_of_other_kinds_are_refused() -> None:
    with pytest.raises(InvalidPlan, match=r"budget must be a strop\.Budget, not 60"):
        given(Budget, 60, "budget")
    with pytest.raises(InvalidPlan, match="metric must be text"):
        texts(5, "metric")
    for wrong in ({"label": 5}, {"slices": 5}):
        with pytest.raises(InvalidPlan, match=f"{next(iter(wrong))}.* must be text"):
            read({"x": np.ones(3)}, ["x"], **wrong)  # type: ignore[arg-type]
    with pytest.raises(BundleError, match="None is no path"):
        Bundle.load(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5, "0", None])
def test_a_seed_is_one_that_every_library_takes(seed: Any, tmp_path: Path) -> None:
    bundle = Bundle(tmp_path, {})
    for verb in (
        lambda: optimize("m.onnx", "d.npz", seed=seed, run=tmp_path / "run"), lambda: benchmark("m.onnx", seed=seed),
        lambda: compare("m.onnx", "n.onnx", "d.npz", seed=seed), lambda: verify(bundle, seed=seed),
    ):  # fmt: skip
        with pytest.raises(InvalidPlan, match="seed must be a whole number"):
            verb()


def test_what_is_verified_is_an_opened_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="opened bundle"):
        verify(tmp_path)  # type: ignore[arg-type]


OWN = """
class Worst(BaseException):
    def __str__(self):
        raise ValueError
class Odd:
    def __array__(self, *rest, **named):
        raise Worst2("no array")
    __repr__ = __str__ = lambda self: 1 / 0
class Worst2(Exception):
    __str__ = Worst.__str__
def fails():
    raise Worst
def odd(*rest):
    return Odd()
def huge(outputs, labels):
    return 10 ** 400
def broken(outputs, labels):
    raise Worst
"""


def test_functions_that_fail_in_odd_ways_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_odd.py").write_text(OWN)
    with pytest.raises(InvalidData, match="own_odd:fails failed with Worst"):
        call("own_odd:fails", "data", InvalidData)
    with pytest.raises(InvalidData, match="one shape"):
        read({"x": call("own_odd:odd", "data", InvalidData)}, ["x"])
    for name in ("odd", "huge", "broken"):
        with pytest.raises(InvalidData, match=f"own_odd:{name}"):
            Custom(f"own_odd:{name}").check({"y": np.ones(3)}, None)


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 10**400}, {"epochs": float("nan")}, {"epochs": True}, {"seconds": "5m"}, {"batch": 0.5},
        {"augment": Path("a")}, {"augment": "flip"}, {"loss": "huber"}, {"keep": [1]}, {"teach": 1.1}, {"l2": -1},
    ],
    ids=str,
)  # fmt: skip
def test_a_training_is_of_what_can_be_trained(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidPlan, match=f"{next(iter(settings))} of the training must be"):
        Training(**settings)


def test_trainings_of_another_kind_and_what_no_process_can_be_given_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidPlan, match=r"training must be a strop\.Training"):
        optimize("m.onnx", "d.npz", training={"epochs": 3}, run=tmp_path / "run")  # type: ignore[arg-type]
    lock = threading.Lock()
    with pytest.raises(InvalidPlan, match="augment must be something that other processes can be given"):
        write_object(tmp_path / "augment.pkl", lambda batch, random: lock)
