"""Disturbance: whether other work ran on the cores while something was timed, and which cores are left alone."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ._rounds import waited
from .target import usable_cores

PROC = Path("/proc")
CPUS = Path("/sys/devices/system/cpu")

WAITED = 0.02  # of the time, ready to run without a core: another process had it
STOLEN = 0.02  # of the cores' time, taken by the host for other machines
SLOWED = 0.95  # of the frequency that was common: the CPU was throttled, or had not woken up
LOOK = 0.1  # seconds that it takes to see which cores are busy
BUSY = 0.1  # share of a core's time, from which a quieter one is preferred


@dataclass(frozen=True)
class Strain:
    """What befell a process while it was timed.

    Attributes:
        waited: Share of the time for which its threads were ready to run and had no core.
        stolen: Share of its cores' time that the host gave to other machines (`steal` of proc_stat(5)).
        hertz: The mean frequency of its cores at the end; 0 where the system does not tell.
    """

    waited: float = 0.0
    stolen: float = 0.0
    hertz: float = 0.0

    def why(self, usual: float) -> str:
        """What was wrong, for a person; empty where nothing was.

        Args:
            usual: The frequency that is common here, in hertz; 0 where it is not known.
        """
        if self.waited > WAITED:
            return "other work ran on the measured cores"
        if self.stolen > STOLEN:
            return "the host took the cores for other machines"
        if 0 < self.hertz < SLOWED * usual:
            return "the CPU's frequency fell"
        return ""


class Watch:
    """Tells what befell this process from one look to the next. Where the system tells nothing, nothing is found.

    Args:
        cores: What the process is pinned to.
    """

    def __init__(self, cores: Sequence[int]):
        self.cores = tuple(cores)
        self._last = self._now()

    def strain(self) -> Strain:
        """Since the last look."""
        before, self._last = self._last, self._now()
        seconds, waited, stolen = (now - then for now, then in zip(self._last, before, strict=True))
        if seconds <= 0:
            return Strain()
        return Strain(waited / seconds / len(self.cores), stolen / seconds / len(self.cores), _frequency(self.cores))

    def _now(self) -> tuple[float, float, float]:
        times = _core_times()
        stolen = sum(times[core].stolen for core in self.cores if core in times)
        return time.perf_counter(), waited(PROC), stolen


def quiet_cores(count: int) -> tuple[int, ...]:
    """The cores to measure on: the last ones, since the first serves most interrupts, unless others are less busy."""
    usable = usable_cores()
    before = _core_times()
    if count >= len(usable) or not before:
        return usable[-count:]
    time.sleep(LOOK)
    after = _core_times()
    busy = {core: after[core].busy - before[core].busy for core in usable if core in before and core in after}
    levels = {core: int(busy.get(core, 0.0) / LOOK / BUSY) for core in usable}
    return tuple(sorted(sorted(usable, key=lambda core: (levels[core], -core))[:count]))


@dataclass(frozen=True)
class _CoreTimes:
    """Seconds since the machine started."""

    busy: float
    stolen: float


def _core_times() -> Mapping[int, _CoreTimes]:
    try:
        lines = (PROC / "stat").read_text().splitlines()
    except OSError:
        return {}
    found, tick = {}, os.sysconf("SC_CLK_TCK")
    for line in lines:
        name, *counts = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and len(counts) >= 8:
            user, nice, system, _, _, hard, soft, stolen = (int(count) / tick for count in counts[:8])
            found[int(name[3:])] = _CoreTimes(user + nice + system + hard + soft + stolen, stolen)
    return found


def _frequency(cores: Sequence[int]) -> float:
    try:
        told = [int((CPUS / f"cpu{core}" / "cpufreq" / "scaling_cur_freq").read_text()) for core in cores]
    except (OSError, ValueError):
        return 0.0
    return 1000.0 * sum(told) / len(told)
