"""Energy: meters of what the processor draws. RAPL counts it; where that can't be read, CodeCarbon estimates it."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from ._lazy import installed, require
from ._quiet import silenced
from .errors import NotMeasurable

POWERCAP = Path("/sys/class/powercap")
PATIENCE = 0.2  # seconds within which a counter moves, if it ever does
SAME = 1_000_000  # microjoules by which two readings of one counter differ at the most
KWH = 3.6e6  # joules


class Meter(ABC):
    """Tells what the processor draws between `start` and `stop`."""

    source: ClassVar[str]
    """What it is, for a person; to be shown beside every figure that is had from it."""

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def stop(self) -> float:
        """Joules since `start`.

        Raises:
            NotMeasurable: The meter failed.
        """


def meter() -> Meter:
    """The best meter that there is here.

    Raises:
        NotMeasurable: There is none; why, and what would make one.
    """
    try:
        return Rapl(POWERCAP)
    except NotMeasurable as error:
        if installed("codecarbon"):
            return CodeCarbon()
        raise NotMeasurable(f"{error} For an estimate: pip install 'strop[report]' (CodeCarbon).") from None


class Rapl(Meter):
    """The processor's own counters, all packages together (Intel SDM vol. 3B, "Running Average Power Limit").

    The kernel shows them as powercap zones, `intel-rapl:N`, on AMD too. They count whole packages: cores that nobody
    uses and all that runs beside the model are in there, and memory modules are not.

    Args:
        folder: Where the kernel shows its powercap zones.

    Raises:
        NotMeasurable: There are none, they can't be read, or they stand still.
    """

    source = "RAPL"

    def __init__(self, folder: Path):
        self._counters = _distinct([
            _Counter(zone) for zone in sorted(folder.glob("intel-rapl:*")) if _name(zone).startswith("package")
        ])  # fmt: skip
        if not self._counters:
            raise NotMeasurable(
                f"the processor shows no energy counter in {folder}: virtual machines and most containers hide it. "
                "Measure on the machine that they run on."
            )
        self.start()
        end = time.monotonic() + PATIENCE
        while not self.stop():
            if time.monotonic() > end:
                raise NotMeasurable(f"the energy counters in {folder} stand still. Measure where they move.")
            time.sleep(PATIENCE / 20)

    def start(self) -> None:
        self._before = [counter.read() for counter in self._counters]

    def stop(self) -> float:
        return sum(
            counter.since(before) for counter, before in zip(self._counters, self._before, strict=True)
        ) / 1e6  # fmt: skip


@dataclass(frozen=True)
class _Counter:
    """One powercap zone: microjoules that rise, and begin anew at the end of their range."""

    zone: Path

    def read(self) -> int:
        return _number(self.zone / "energy_uj")

    def since(self, before: int) -> int:
        now = self.read()
        return now - before if now >= before else now - before + _number(self.zone / "max_energy_range_uj")

    def mirrors(self, other: Self) -> bool:
        """Whether both are dies of one package that show the package's counter, as some AMD processors do."""
        package, other_package = (_name(counter.zone).split("-die")[0] for counter in (self, other))
        return package == other_package and abs(self.read() - other.read()) < SAME


def _distinct(counters: list[_Counter]) -> list[_Counter]:
    kept: list[_Counter] = []
    for counter in counters:
        if not any(counter.mirrors(other) for other in kept):
            kept.append(counter)
    return kept


def _name(zone: Path) -> str:
    try:
        return (zone / "name").read_text().strip()
    except OSError:
        return ""


def _number(file: Path) -> int:
    try:
        return int(file.read_text())
    except PermissionError:
        raise NotMeasurable(
            f"the processor's energy counter {file} may be read by root only. "
            "Allow it until the next start: sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj."
        ) from None
    except (OSError, ValueError) as error:
        raise NotMeasurable(f"the processor's energy counter {file} can't be read ({error}).") from None


class CodeCarbon(Meter):
    """CodeCarbon's estimate: the CPU time of this process and its children, times what the processor is rated for.

    It runs offline: no network, no files, and nothing of the user's own configuration that would ask for them.
    """

    source = "CodeCarbon's estimate"

    def __init__(self) -> None:
        self._tracker: Any = None

    def start(self) -> None:
        with _told():
            if self._tracker is None:
                self._tracker = require("codecarbon", "report").OfflineEmissionsTracker(
                    tracking_mode="process", force_mode_cpu_load=True, force_carbon_intensity_g_co2e_kwh=0.0, pue=1.0,
                    output_methods=[], emissions_endpoint=False, allow_multiple_runs=True, log_level="critical",
                )  # fmt: skip
            self._tracker.start_task()

    def stop(self) -> float:
        with _told():
            return float(self._tracker.stop_task().cpu_energy) * KWH


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Whatever goes wrong in there is CodeCarbon's, and tells that nothing can be estimated."""
    try:
        with silenced():
            yield
    except Exception as error:  # of a library that looks at all of the machine
        raise NotMeasurable(f"CodeCarbon can't estimate it here ({type(error).__name__}: {error}).") from error
