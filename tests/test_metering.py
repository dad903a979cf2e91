"""Metering: original and candidate take turns between two readings of the meter."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from powercap import drawing, zone
from strop import energy, metering, metrics
from strop.bench import Bench
from strop.disturbance import Strain
from strop.errors import NotMeasurable
from strop.metering import BLOCKS, PAIRS, take_turns
from strop.server import Block, Hosted
from strop.target import Target
from strop.testing import FakeRuntime, fake_data, fake_model
from strop.timing import Effort

LOG: list[tuple[str, str]] = []


class FakeMeter(energy.Meter):
    """Notes when it is read; a block draws as many joules as it has calls."""

    source = "a fake"
    joules = 5.0

    def start(self) -> None:
        LOG.append(("meter", "start"))

    def stop(self) -> float:
        LOG.append(("meter", "stop"))
        return self.joules


class FakeServer:
    def __init__(self, hosted: Any, cores: Sequence[int]):
        assert len(cores) == 1
        self.name = hosted.model

    def __enter__(self) -> FakeServer:
        LOG.append((self.name, "enter"))
        return self

    def __exit__(self, *exc: object) -> None:
        LOG.append((self.name, "exit"))

    def prepare(self, data: Path, batch: int) -> int:
        LOG.append((self.name, "prepare"))
        return batch

    def block(self, seconds: float) -> Any:
        LOG.append((self.name, "block"))
        return Block(np.full({"original": 5, "candidate": 20}[self.name], 0.01), Strain())


def hosted(name: str) -> Any:
    return Hosted(name, FakeRuntime(), Target(threads=1, batch=4))  # type: ignore[arg-type]


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(metering, "Server", FakeServer)
    monkeypatch.setattr(energy, "meter", FakeMeter)
    LOG.clear()
    yield


def test_both_are_metered_in_turn_each_block_by_itself(faked: None, tmp_path: Path) -> None:
    found = take_turns(hosted("original"), hosted("candidate"), tmp_path)
    assert [len(pair) for pair in found.original] == [len(pair) for pair in found.candidate] == [BLOCKS] * PAIRS
    assert {draw.samples for pair in found.original for draw in pair} == {20}, "five calls of four samples"
    assert {draw.samples for pair in found.candidate for draw in pair} == {80}
    assert {draw.joules for side in (found.original, found.candidate) for pair in side for draw in pair} == {5.0}
    assert found.source == "a fake"
    around = [(LOG[at - 1], name, LOG[at + 1]) for at, (name, what) in enumerate(LOG) if what == "block"]
    turns = [name for before, name, after in around if (before, after) == (("meter", "start"), ("meter", "stop"))]
    assert len(turns) == 2 * BLOCKS * PAIRS
    firsts = turns[: 2 * BLOCKS : 2]
    assert firsts == ["candidate", "original"] * (BLOCKS // 2), "who goes first changes"
    unmetered = [name for before, name, _ in around if before != ("meter", "start")]
    assert unmetered == ["original", "candidate"] * PAIRS, "each is warm first"


def test_a_meter_that_shows_nothing_is_none(faked: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeMeter, "joules", 0.0)
    with pytest.raises(NotMeasurable, match="a fake shows that nothing was drawn"):
        take_turns(hosted("original"), hosted("candidate"), tmp_path)


def test_real_processes_on_made_up_counters(fakes: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # a lock of its own: no other test is waited for
    monkeypatch.setattr(metering, "PAIRS", 2)
    monkeypatch.setattr(metering, "BLOCKS", 2)
    monkeypatch.setattr(metering, "SECONDS", 0.1)
    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "powercap")
    slow, quick = fake_model(tmp_path / "slow", seconds=0.02), fake_model(tmp_path / "quick", seconds=0.005)
    fake_data(slow, 20).save(tmp_path / "data")
    zones = {zone(tmp_path / "powercap", str(n), f"package-{n}", 0): 30.0 for n in (0, 1)}
    sides = [Hosted(model, FakeRuntime(), Target(threads=1)) for model in (slow, quick)]
    with (
        drawing(zones),
        Bench(sides[0], sides[1], tmp_path / "data", tmp_path / "none", tmp_path, Effort(), 0) as bench,
    ):
        found = metrics.find("energy").measure(bench)
        watts = metrics.find("power").measure(bench).candidate()
        assert bench.metering() is bench.metering()
        assert bench.target.threads == 1
    assert found.original().value > 60 * 0.02 * 0.8, "who takes so long can't draw less"
    assert found.ratio().value < 0.6
    assert watts.value == pytest.approx(60, rel=0.3)
