"""Bench: the two take turns, warm-up ends when it has settled, and each thing is measured once."""

from __future__ import annotations

import contextlib
import fcntl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop import bench
from strop.bench import WARM_UP_BLOCKS, Bench, Effort, warm_up
from strop.errors import RunFailed
from strop.server import Hosted, Server
from strop.target import Target
from strop.testing import FakeRuntime, fake_data, fake_model

TARGET = Target(threads=1)


class FakeServer:
    """A server that notes what it is asked, and whose calls take as long as told."""

    log: list[tuple[str, str]] = []  # noqa: RUF012
    seconds: dict[str, float] = {}  # noqa: RUF012
    runs = 5

    def __init__(self, hosted: Any, pinned: bool):
        self.name = hosted
        self._note("start")

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self._note("stop")

    def _note(self, what: str) -> None:
        self.log.append((self.name, what))

    def prepare(self, data: Path) -> None:
        self._note("prepare")

    def predict(self, data: Path, destination: Path) -> None:
        self._note("predict")
        np.savez(destination, y=np.ones(3))

    def block(self, seconds: float) -> Any:
        self._note("block")
        return np.full(self.runs, self.seconds[self.name])

    def memory(self, data: Path) -> int:
        return {"original": 100, "candidate": 40}[self.name]


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeServer]]:
    monkeypatch.setattr(bench, "Server", FakeServer)
    monkeypatch.setattr(bench, "one_at_a_time", contextlib.nullcontext)  # what is faked disturbs nobody
    monkeypatch.setattr(FakeServer, "log", [])
    monkeypatch.setattr(FakeServer, "seconds", {"original": 0.010, "candidate": 0.005})
    yield FakeServer


class Named(str):
    """A stand-in for `Hosted`: a name with a target."""

    target = TARGET


def faked(folder: Path, effort: Effort) -> Bench:
    return Bench(Named("original"), Named("candidate"), folder, folder, folder, effort, 0)  # type: ignore[arg-type]


def timed(log: list[tuple[str, str]]) -> list[str]:
    """Who was timed in turn, warm-up left out."""
    blocks = [name for name, what in log if what == "block"]
    return blocks[6:]


def test_original_and_candidate_take_turns_and_so_does_who_is_first(servers: Any, tmp_path: Path) -> None:
    timing = faked(tmp_path, Effort(pairs=1, blocks=4, runs=1)).timing()
    turns = timed(servers.log)
    pairs = [set(turns[at : at + 2]) for at in range(0, len(turns), 2)]
    assert pairs == [{"original", "candidate"}] * 4
    assert [turns[at] for at in range(0, len(turns), 2)] == ["candidate", "original"] * 2
    assert [[len(block) for block in pair] for pair in timing.original] == [[5] * 4]
    assert [float(block[0]) for block in timing.candidate[0]] == [0.005] * 4


def test_both_are_warm_before_either_is_timed(servers: Any, tmp_path: Path) -> None:
    _ = faked(tmp_path, Effort(pairs=1, blocks=2, runs=1)).timing()
    assert servers.log[:10] == [
        ("original", "start"), ("candidate", "start"),
        ("original", "prepare"), *[("original", "block")] * 3,
        ("candidate", "prepare"), *[("candidate", "block")] * 3,
    ]  # fmt: skip


def test_enough_calls_are_timed_however_few_fit_a_block(servers: Any, tmp_path: Path) -> None:
    timing = faked(tmp_path, Effort(pairs=2, blocks=2, runs=100, width=0)).timing()
    assert sum(len(block) for pair in timing.candidate for block in pair) == 100


def test_fresh_processes_until_the_ratio_is_narrow(servers: Any, tmp_path: Path) -> None:
    effort = Effort(pairs=5, blocks=2, runs=1, width=0.03)
    assert len(faked(tmp_path, effort).timing().original) == 2, "narrow after two pairs; one tells nothing of spread"
    servers.log.clear()
    servers.seconds["candidate"] = 0.020
    assert len(faked(tmp_path, effort).timing().original) == 1, "hopeless after one"
    assert servers.log[-2:] == [("candidate", "stop"), ("original", "stop")]


def test_each_pair_is_fresh_but_the_first_reuses_the_server_that_ran_the_samples(servers: Any, tmp_path: Path) -> None:
    with faked(tmp_path, Effort(pairs=2, blocks=2, runs=1, width=0)) as probe:
        _ = probe.candidate_outputs, probe.candidate_outputs, probe.timing(), probe.timing()
    starts = [name for name, what in servers.log if what == "start"]
    assert starts == ["candidate", "original", "original", "candidate"]
    assert sum(what == "predict" for _, what in servers.log) == 1
    assert sum(what == "stop" for _, what in servers.log) == len(starts)


def test_a_server_that_only_ran_the_samples_is_stopped(servers: Any, tmp_path: Path) -> None:
    with faked(tmp_path, Effort()) as probe:
        assert set(probe.candidate_outputs) == {"y"}
    assert servers.log == [("candidate", "start"), ("candidate", "predict"), ("candidate", "stop")]
    assert not list(tmp_path.iterdir()), "its outputs are read, and gone"


def test_memory_is_that_of_fresh_processes_in_turn(servers: Any, tmp_path: Path) -> None:
    probe = faked(tmp_path, Effort())
    assert probe.memory() == ([100] * 3, [40] * 3)
    assert [name for name, what in servers.log if what == "start"] == ["original", "candidate"] * 3
    assert probe.memory() is probe.memory()


class Warming:
    """A server whose block medians are given; the last one stays."""

    def __init__(self, *medians: float):
        self.medians, self.asked = medians, 0

    def block(self, seconds: float) -> Any:
        self.asked += 1
        return np.full(3, self.medians[min(self.asked, len(self.medians)) - 1])


@pytest.mark.parametrize(
    ("medians", "blocks"),
    [((1.0,), 3), ((9.0, 3.0, 1.0), 5), ((1.0, 1.1, 1.0, 1.02, 1.01), 5), (tuple(range(1, 99)), WARM_UP_BLOCKS)],
)
def test_warm_up_ends_when_three_medians_agree(medians: tuple[float, ...], blocks: int) -> None:
    server = Warming(*medians)
    warm_up(server, 0.01)  # type: ignore[arg-type]
    assert server.asked == blocks


def test_one_measures_at_a_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for _ in range(2):  # the file is made, and then found
        with (
            bench.one_at_a_time(),
            (tmp_path / "strop-measuring.lock").open() as other,
            pytest.raises(BlockingIOError),
        ):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with (tmp_path / "strop-measuring.lock").open() as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_link_in_place_of_the_lock_is_not_followed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "strop-measuring.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"), bench.one_at_a_time():
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_real_processes_are_measured(fakes: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # a lock of its own: no other test is waited for
    slow = fake_model(tmp_path / "slow", seconds=0.02, padding=4000)
    quick = fake_model(tmp_path / "quick")
    data = fake_data(slow, 20)
    data.save(tmp_path / "data")
    outputs = tmp_path / "outputs.npz"
    expected = {"y": data.inputs["x"] @ np.zeros((4, 3), np.float32)}
    np.savez(outputs, **expected)
    effort = Effort(pairs=1, blocks=2, seconds=0.01, runs=4)
    hosted = [Hosted(model, FakeRuntime(), TARGET) for model in (slow, quick)]
    with Bench(hosted[0], hosted[1], tmp_path / "data", outputs, tmp_path, effort, 0) as probe:
        assert (probe.candidate_outputs["y"].argmax(1) == data.labels).all()
        assert probe.original_outputs["y"].shape == probe.candidate_outputs["y"].shape == (20, 3)
        assert probe.sizes[0] > probe.sizes[1] + 3000
        timing = probe.timing()
    assert np.median(np.concatenate(timing.original[0])) >= 0.02, "who sleeps so long can't be quicker"
    assert np.concatenate(timing.candidate[0]).size >= 4


@pytest.mark.parametrize(
    ("fault", "said"),
    [("load", "can't load this model"), ("error", "fake-runtime failed: RuntimeError: a fault of kind 'error'"),
     ("crash", "fake-runtime crashed: its process ended with signal 11")],
)  # fmt: skip
def test_what_goes_wrong_in_a_server_is_told(fakes: None, tmp_path: Path, fault: str, said: str) -> None:
    model = fake_model(tmp_path, fault=fault)
    fake_data(model, 5).save(tmp_path / "data")
    with (
        pytest.raises(RunFailed, match=said),
        Server(Hosted(model, FakeRuntime(), TARGET), pinned=False) as server,
    ):
        server.predict(tmp_path / "data", tmp_path / "outputs.npz")
    assert not (tmp_path / "outputs.npz").exists()
