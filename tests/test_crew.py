"""Crew: much is shared among servers on other cores, little is not, and the answers are the same either way."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop import crew
from strop.crew import Crew, run_here
from strop.data import Data
from strop.errors import RunFailed
from strop.outputs import load_outputs
from strop.server import Hosted, Server
from strop.target import Target
from strop.testing import FakeRuntime, fake_data, fake_model

COUNT = 100


def hosted(folder: Path, **given: Any) -> Hosted:
    model = fake_model(folder / "model", **given)
    fake_data(model, COUNT).save(folder / "data")
    return Hosted(model, FakeRuntime(), Target(threads=1))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[int]]:
    """By server, the samples of each call."""
    found: dict[int, list[int]] = {}
    predict = Server.predict

    def noted(self: Server, data: Path, destination: Path, rows: Any = None) -> None:
        found.setdefault(id(self), []).append(len(rows))
        predict(self, data, destination, rows)

    monkeypatch.setattr(Server, "predict", noted)
    return found


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> tuple[int, ...]:
    """Three cores, whatever the machine has: those who join the first are pinned to one that is there."""
    found = (0, 1, 2)
    monkeypatch.setattr(crew, "usable_cores", lambda: found)
    monkeypatch.setattr(Server, "__init__", _on_the_first(Server.__init__))
    return found


def _on_the_first(init: Any) -> Any:
    core = min(os.sched_getaffinity(0))
    return lambda self, hosted, cores=(): init(self, hosted, (core,))


@pytest.mark.parametrize(("join", "servers"), [(0.0, 3), (1e9, 1)])
def test_much_is_shared_and_little_is_not(
    fakes: None, cores: tuple[int, ...], asked: dict[int, list[int]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, join: float, servers: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(crew, "JOIN", join)
    given = hosted(tmp_path, seconds=0.02)
    rows = np.random.default_rng(0).permutation(COUNT)
    with Server(given) as first, Crew(first, given, (2,), tmp_path) as shared:
        found = shared.predict(tmp_path / "data", rows)["y"]
        again = shared.predict(tmp_path / "data", rows[:10])["y"]
    weights = json.loads(given.model.path.read_text())["weights"]
    expected = Data.load(tmp_path / "data").inputs["x"][rows] @ np.array(weights, np.float32)
    assert np.allclose(found, expected, atol=1e-5) and np.allclose(again, expected[:10], atol=1e-5)
    assert len(asked) == servers and sum(map(sum, asked.values())) == COUNT + 10
    assert asked[id(first)][0] == crew.HEAD


def test_a_server_that_dies_is_told_and_ends_the_work_of_the_others(
    fakes: None, cores: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "JOIN", 0.0)
    given = hosted(tmp_path, seconds=0.05)
    ill = hosted(tmp_path / "ill", fault="crash")
    with (
        Server(given) as first,
        Crew(first, ill, (2,), tmp_path) as shared,
        pytest.raises(RunFailed, match="signal 11"),
    ):
        shared.predict(tmp_path / "data", np.arange(COUNT))
    assert not list(tmp_path.glob(".part-*"))


def test_models_that_take_much_memory_are_not_held_twice(fakes: None, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(crew, "JOIN", 0.0)
    monkeypatch.setattr(crew, "usable_cores", lambda: (0, 1, 2))
    monkeypatch.setattr(crew, "COPIES", 1 << 50)
    given = hosted(tmp_path)
    with Server(given) as first, Crew(first, given, (2,), tmp_path) as shared:
        shared.predict(tmp_path / "data", np.arange(COUNT))
        assert not shared._joined


def test_a_job_shares_its_samples_too(
    fakes: None, cores: tuple[int, ...], asked: dict[int, list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = hosted(tmp_path, seconds=0.01)
    run_here(given, [(tmp_path / "data", tmp_path / "alone.npz")])
    assert not asked
    monkeypatch.setattr(crew, "JOIN", 0.0)
    run_here(given, [(tmp_path / "data", tmp_path / "shared.npz")])
    assert len(asked) == 2, "two join the model that this process holds"
    alone, shared = (load_outputs(tmp_path / f"{name}.npz")["y"] for name in ("alone", "shared"))
    assert np.array_equal(alone, shared)
