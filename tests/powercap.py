"""A folder like the one in which the kernel shows energy counters, and what advances them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from strop import energy

RANGE = 262_143_328_850  # microjoules, as a real counter has it


def zone(folder: Path, number: str, name: str, energy: int, span: int = RANGE) -> Path:
    """Make one powercap zone, `intel-rapl:NUMBER`."""
    made = folder / f"intel-rapl:{number}"
    made.mkdir(parents=True)
    (made / "name").write_text(f"{name}\n")
    (made / "max_energy_range_uj").write_text(f"{span}\n")
    put(made, energy)
    return made


def put(zone: Path, energy: int) -> None:
    """Set a counter, all at once as the kernel does."""
    (zone / "next").write_text(f"{energy}\n")
    os.replace(zone / "next", zone / "energy_uj")


@contextlib.contextmanager
def drawing(watts: dict[Path, float], span: int = RANGE) -> Iterator[None]:
    """Counters that go by the clock, by so many watts each, from the start over at the end of their range.

    They are brought up to date whenever one is read: a thread would fall behind on a busy machine.
    """
    start, read = time.perf_counter(), energy._number
    before = {zone: read(zone / "energy_uj") for zone in watts}

    def fresh(file: Path) -> int:
        for zone, power in watts.items():
            put(zone, (before[zone] + int(1e6 * power * (time.perf_counter() - start))) % span)
        return read(file)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(energy, "_number", fresh)
        yield
