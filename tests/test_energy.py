"""Meters: RAPL's counters as the kernel shows them, in a made-up folder; CodeCarbon's estimate if installed."""

from __future__ import annotations

import socket
import sys
import threading
import time
import types
from pathlib import Path
from typing import Any

import pytest

from powercap import drawing, put, zone
from strop import energy
from strop.energy import CodeCarbon, Rapl, meter
from strop.errors import NotMeasurable


def rapl(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Rapl:
    """A meter whose counters only the test moves: that they move by themselves is not asked for."""
    with monkeypatch.context() as patched:
        patched.setattr(Rapl, "stop", lambda self: 1.0)
        return Rapl(folder)


def test_all_packages_are_counted_together_and_their_parts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = zone(tmp_path, "0", "package-0", 5_000_000), zone(tmp_path, "1", "package-1", 900_000_000)
    core, whole = zone(tmp_path, "0:0", "core", 7_000_000), zone(tmp_path, "2", "psys", 90_000_000)
    found = rapl(tmp_path, monkeypatch)
    found.start()
    for counter, joules in ((first, 3), (second, 4), (core, 2), (whole, 50)):
        put(counter, int((counter / "energy_uj").read_text()) + joules * 1_000_000)
    assert found.stop() == pytest.approx(7.0)
    assert found.stop() == pytest.approx(7.0), "it tells all since the start"
    found.start()
    assert found.stop() == 0


def test_a_counter_that_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = zone(tmp_path, "0", "package-0", 9_000_000, span=10_000_000)
    found = rapl(tmp_path, monkeypatch)
    found.start()
    put(counter, 500_000)
    assert found.stop() == pytest.approx(1.5)


def test_dies_that_mirror_their_package_are_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    same = [zone(tmp_path, str(die), f"package-0-die-{die}", 777_000_000 + die) for die in (0, 1)]
    own = zone(tmp_path, "2", "package-1-die-0", 777_000_000)
    apart = zone(tmp_path, "3", "package-1-die-1", 123_000_000)
    found = rapl(tmp_path, monkeypatch)
    found.start()
    for counter, joules in ((same[0], 10), (same[1], 10), (own, 1), (apart, 2)):
        put(counter, int((counter / "energy_uj").read_text()) + joules * 1_000_000)
    assert found.stop() == pytest.approx(13.0)


def test_counters_that_run_are_read_whole(tmp_path: Path) -> None:
    span = 4_000_000_000
    zones = {zone(tmp_path, str(n), f"package-{n}", span - 1_000_000 * n, span): 40.0 + n for n in (0, 1)}
    with drawing(zones, span):
        found = Rapl(tmp_path)
        times = [time.perf_counter()]
        found.start()
        times.append(time.perf_counter())
        time.sleep(0.05)  # one begins anew
        times.append(time.perf_counter())
        joules = found.stop()
        times.append(time.perf_counter())
    assert 81 * (times[2] - times[1]) <= joules + 1e-5
    assert joules <= 81 * (times[3] - times[0]) + 1e-5


def refuse(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let only root read a file, whoever runs the test."""
    read = Path.read_text

    def guarded(self: Path, *arguments: Any, **named: Any) -> str:
        if self == file:
            raise PermissionError(13, "Permission denied", str(file))
        return read(self, *arguments, **named)

    monkeypatch.setattr(Path, "read_text", guarded)


def test_what_can_not_be_read_says_so_and_how_to_allow_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = zone(tmp_path, "0", "package-0", 5)
    with monkeypatch.context() as patched:
        refuse(counter / "energy_uj", patched)
        with pytest.raises(NotMeasurable, match=r"root only.*chmod a\+r"):
            Rapl(tmp_path)
    (counter / "energy_uj").write_text("no number")
    with pytest.raises(NotMeasurable, match="can't be read"):
        Rapl(tmp_path)
    (counter / "energy_uj").unlink()
    with pytest.raises(NotMeasurable, match="No such file"):
        Rapl(tmp_path)


def test_where_there_is_no_counter(tmp_path: Path) -> None:
    with pytest.raises(NotMeasurable, match=r"shows no energy counter.*virtual machines"):
        Rapl(tmp_path / "missing")
    zone(tmp_path, "0", "psys", 5)
    with pytest.raises(NotMeasurable, match="shows no energy counter"):
        Rapl(tmp_path)


def test_a_counter_that_stands_still_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "PATIENCE", 0.01)
    zone(tmp_path, "0", "package-0", 0)
    with pytest.raises(NotMeasurable, match="stand still"):
        Rapl(tmp_path)


@pytest.mark.parametrize("present", [True, False])
def test_counters_come_first_then_an_estimate_then_nothing(
    present: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    monkeypatch.setattr(energy, "installed", lambda name: present and name == "codecarbon")
    if present:
        assert meter().source == "CodeCarbon's estimate"
    else:
        with pytest.raises(NotMeasurable, match=r"no energy counter.*For an estimate: pip install 'strop\[report\]'"):
            meter()
    with drawing({zone(tmp_path, "0", "package-0", 0): 10.0}):
        assert meter().source == "RAPL"


class Tracker:
    """CodeCarbon's tracker as far as it is used."""

    asked: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, **asked: Any):
        Tracker.asked = asked

    def start_task(self) -> None:
        print("codecarbon talks")

    def stop_task(self) -> Any:
        return types.SimpleNamespace(cpu_energy=2e-6, ram_energy=1.0)


def codecarbon(monkeypatch: pytest.MonkeyPatch, tracker: Any) -> None:
    monkeypatch.setitem(sys.modules, "codecarbon", types.SimpleNamespace(OfflineEmissionsTracker=tracker))  # type: ignore[misc]


def test_an_estimate_is_of_the_processor_in_joules_and_stays_at_home(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codecarbon(monkeypatch, Tracker)
    found = CodeCarbon()
    found.start()
    assert found.stop() == pytest.approx(7.2)
    assert Tracker.asked["output_methods"] == []
    assert Tracker.asked["emissions_endpoint"] is False
    assert Tracker.asked["tracking_mode"] == "process"
    assert capsys.readouterr().out == ""


def test_where_nothing_can_be_estimated_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**asked: Any) -> Any:
        raise KeyError("no such processor")

    codecarbon(monkeypatch, fails)
    with pytest.raises(NotMeasurable, match=r"CodeCarbon can't estimate it here.*no such processor"):
        CodeCarbon().start()
    monkeypatch.setitem(sys.modules, "codecarbon", None)  # type: ignore[arg-type]
    with pytest.raises(NotMeasurable, match="codecarbon is needed here"):
        CodeCarbon().start()


def test_the_real_estimate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("codecarbon", reason="codecarbon is not installed (pip install 'strop[report]')")
    config = "[codecarbon]\nemissions_endpoint = http://localhost:9\noutput_methods = csv,api\noutput_dir = .\n"
    (tmp_path / ".codecarbon.config").write_text(config)  # a user's own, which must not count here
    monkeypatch.chdir(tmp_path)

    def connect(self: Any, address: Any) -> None:
        raise AssertionError(f"CodeCarbon phones {address}")

    monkeypatch.setattr(socket.socket, "connect", connect)
    found, joules = CodeCarbon(), []
    for work in (False, True):
        found.start()
        end = time.process_time() + 0.4
        while work and time.process_time() < end:
            pass
        joules.append(found.stop())
    assert joules[1] > 4 * joules[0] >= 0, "it goes by CPU time"
    assert [file.name for file in tmp_path.iterdir()] == [".codecarbon.config"]
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer) and thread.is_alive()]
