"""Disturbance: work of others on the measured cores is seen, and quiet cores are preferred."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from strop import disturbance
from strop.disturbance import Strain, Watch, quiet_cores


def run_for(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


@pytest.fixture
def pinned() -> Iterator[int]:
    """This process on one core."""
    before = os.sched_getaffinity(0)
    core = min(before)
    os.sched_setaffinity(0, {core})
    yield core
    os.sched_setaffinity(0, before)


@pytest.fixture
def rival(pinned: int) -> Iterator[None]:
    """Another process that never rests, on the same core: inherited with the affinity."""
    process = subprocess.Popen([sys.executable, "-c", "print(1, flush=True)\nwhile True: pass"], stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    yield
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_process_that_shares_its_core_has_waited_for_it(pinned: int, rival: None) -> None:
    watch = Watch([pinned])
    run_for(0.5)
    strain = watch.strain()
    assert 0.2 < strain.waited < 0.9, "two processes that never rest get about half of a core each"
    assert strain.why(0.0) == "other work ran on the measured cores"


def test_each_look_begins_where_the_last_one_ended(pinned: int, rival: None) -> None:
    watch = Watch([pinned])
    run_for(0.3)
    assert watch.strain().waited > disturbance.WAITED
    assert watch.strain().waited < 1.0, "not the wait of before, over no time"


@pytest.mark.parametrize(
    ("strain", "usual", "said"),
    [(Strain(), 0.0, ""), (Strain(waited=0.01, stolen=0.01, hertz=2.99e9), 3e9, ""),
     (Strain(stolen=0.2), 0.0, "the host took the cores for other machines"),
     (Strain(hertz=2e9), 3e9, "the CPU's frequency fell"), (Strain(hertz=0.0), 3e9, "")],
)  # fmt: skip
def test_what_was_wrong_is_told(strain: Strain, usual: float, said: str) -> None:
    assert strain.why(usual) == said


class FakeSystem:
    """The files of /proc and /sys that are looked at."""

    def __init__(self, folder: Path):
        self.folder = folder

    def cores(self, *cores: tuple[int, int]) -> None:
        """Ticks that each core was busy, and that were stolen from it."""
        lines = [f"cpu{n} {busy} 0 0 1000 0 0 0 {stolen} 0 0" for n, (busy, stolen) in enumerate(cores)]
        (self.folder / "stat").write_text("cpu  1 2 3\n" + "\n".join(lines) + "\nintr 5\n")

    def frequency(self, core: int, kilohertz: int) -> None:
        folder = self.folder / f"cpu{core}" / "cpufreq"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "scaling_cur_freq").write_text(f"{kilohertz}\n")


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSystem:
    monkeypatch.setattr(disturbance, "PROC", tmp_path)
    monkeypatch.setattr(disturbance, "CPUS", tmp_path)
    monkeypatch.setattr(disturbance, "usable_cores", lambda: (0, 1, 2))
    return FakeSystem(tmp_path)


def test_time_that_the_host_took_and_the_frequency_are_read(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([10.0, 12.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    monkeypatch.setattr(os, "sysconf", lambda name: 100)
    system.cores((0, 0), (0, 7), (0, 0))
    system.frequency(1, 2_400_000)
    watch = Watch([1])
    system.cores((0, 50), (0, 57), (0, 0))
    strain = watch.strain()
    assert (strain.waited, strain.hertz) == (0.0, 2.4e9)
    assert strain.stolen == pytest.approx(0.25)


def test_where_nothing_is_told_nothing_is_found(system: FakeSystem) -> None:
    watch = Watch([0])
    run_for(0.01)
    assert watch.strain() == Strain()
    assert quiet_cores(2) == (1, 2)


@pytest.mark.parametrize(
    ("busy", "count", "cores"),
    [((0, 0, 0), 1, (2,)), ((0, 0, 20), 1, (1,)), ((0, 20, 20), 1, (0,)), ((0, 0, 1), 1, (2,)), ((0, 20, 0), 2, (0, 2)),
     ((20, 20, 20), 1, (2,)), ((20, 20, 20), 3, (0, 1, 2)), ((9, 9, 9), 5, (0, 1, 2))],
)  # fmt: skip
def test_the_last_cores_are_taken_unless_others_are_less_busy(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch, busy: tuple[int, ...], count: int, cores: tuple[int, ...]
) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: 100)
    system.cores((5, 0), (5, 0), (5, 0))
    monkeypatch.setattr(time, "sleep", lambda seconds: system.cores(*((5 + ticks, 0) for ticks in busy)))
    assert quiet_cores(count) == cores
