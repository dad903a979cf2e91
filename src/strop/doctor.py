"""Doctor: what this machine can do, what is installed, and what would spoil a measurement here."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
from packaging.requirements import Requirement

from ._bandwidth import caches
from ._lazy import installed
from .findings import summarize
from .runtimes import all_runtimes
from .target import cpu_name, instruction_sets, usable_cores

BUSY = 0.25
"""Load a core from which other work shows in latencies."""

VARIABLES = {
    "OMP_NUM_THREADS": "it overrides the threads that a runtime is given",
    "OMP_WAIT_POLICY": "threads that wait actively slow whatever runs beside them",
    "GOMP_SPINCOUNT": "threads that spin slow whatever runs beside them",
    "KMP_BLOCKTIME": "threads that spin slow whatever runs beside them",
    "OMP_PROC_BIND": "it pins threads, and strop pins the processes that it measures",
    "GOMP_CPU_AFFINITY": "it pins threads, and strop pins the processes that it measures",
    "KMP_AFFINITY": "it pins threads, and strop pins the processes that it measures",
    "MKL_NUM_THREADS": "it caps the threads of scikit-learn and NumPy",
    "OPENBLAS_NUM_THREADS": "it caps the threads of scikit-learn and NumPy",
    "OPENBLAS_CORETYPE": "it overrides which kernels NumPy and SciPy run",
    "LD_PRELOAD": "a preloaded library (an allocator, a profiler) is measured too",
}


def examine() -> dict[str, Any]:
    """What there is, as plain data; imports no framework.

    Returns:
        `strop`, `python`, `system`: versions. `cpu`: name, cores, instruction sets, caches, load. `memory`: bytes.
        `runtimes` and `extras`: one entry each, with `present` and the command that installs what is missing. `notes`:
        what to know before measuring here.
    """
    memory = psutil.virtual_memory()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "strop": _version("strop"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": {
            "name": cpu_name(),
            "cores": len(usable_cores()),
            "instruction_sets": sorted(instruction_sets()),
            "caches": caches(usable_cores()),
            "load": load,
        },
        "memory": {"total": memory.total, "available": memory.available},
        "runtimes": [_runtime(kind.label(), kind.module, kind.extra, kind.loads) for kind in all_runtimes()],
        "extras": _extras(),
        "notes": _notes(load, os.environ),
    }


def describe(found: Mapping[str, Any]) -> str:
    """What `examine` found, and `conclude` where it was asked, as plain text for a terminal."""
    cpu, memory = found["cpu"], found["memory"]
    cores = f"{cpu['cores']} core{'s' if cpu['cores'] > 1 else ''} usable"
    lines = [
        f"strop     {found['strop'] or 'not installed'}, Python {found['python']}, {found['system']}",
        f"CPU       {cpu['name']}, {cores}; {', '.join(cpu['instruction_sets']) or 'instruction sets unknown'}",
        f"caches    {', '.join(map(_cache, cpu['caches'])) or 'unknown'}",
        f"memory    {memory['total'] / 1e9:.1f} GB, {memory['available'] / 1e9:.1f} GB available",
    ]
    if "measured" in found:
        lines.append(summarize(found))
    lines += ["", "Runtimes"]
    lines += _columns([
        (
            runtime["name"], ", ".join(runtime["loads"]),
            runtime["version"] or ("present" if runtime["present"] else f"missing: {runtime['install']}"),
        )
        for runtime in found["runtimes"]
    ])  # fmt: skip
    extras = []
    for extra in found["extras"]:
        lacking = [
            p["name"] + (f" (is {p['version']})" if p["version"] else "") for p in extra["packages"] if not p["fits"]
        ]
        state = "complete" if extra["present"] else f"lacks {', '.join(lacking)}: {extra['install']}"
        extras.append((extra["name"], state))
    lines += ["", "Extras", *_columns(extras)]
    if found["notes"]:
        lines += ["", "Notes", *(f"  - {note}" for note in found["notes"])]
    return "\n".join(lines)


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows as lines, whose columns are as wide as the longest in them."""
    widths = [max(map(len, column)) + 2 for column in zip(*rows, strict=True)]
    return [
        "  " + "".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _cache(cache: Mapping[str, int]) -> str:
    size = cache["bytes"]
    shown = f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"
    return f"L{cache['level']} {shown}" + (f" x {cache['count']}" if cache["count"] > 1 else "")


def _runtime(name: str, module: str, extra: str | None, loads: Iterable[str]) -> dict[str, Any]:
    present = installed(module)
    return {
        "name": name,
        "loads": sorted(loads),
        "present": present,
        "version": _version(module) if present else None,
        "install": None if present else _command(extra),
    }


def _extras() -> list[dict[str, Any]]:
    try:
        requirements = [Requirement(text) for text in metadata.requires("strop") or ()]
        names = metadata.metadata("strop").get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return []
    extras = []
    for name in ("", *(name for name in names if name != "dev")):
        chosen = _chosen(requirements, name)
        packages = [_package(requirement) for requirement in chosen]
        present = all(package["fits"] for package in packages)
        extras.append({
            "name": name or "core",
            "present": present,
            "packages": packages,
            "install": None if present else _command(name),
        })  # fmt: skip
    return extras


def _chosen(requirements: Sequence[Requirement], extra: str) -> list[Requirement]:
    """What an extra brings, and the extras that it builds on."""
    found = [requirement for requirement in requirements if _belongs(requirement, extra)]
    below = [other for requirement in found if requirement.name == "strop" for other in requirement.extras]
    own = [requirement for requirement in found if requirement.name != "strop"]
    return own + [requirement for other in below for requirement in _chosen(requirements, other)]


def _belongs(requirement: Requirement, extra: str) -> bool:
    if requirement.marker is None:
        return not extra
    wanted = requirement.marker.evaluate({"extra": extra})
    return wanted and (not extra or not requirement.marker.evaluate({"extra": ""}))


def _package(requirement: Requirement) -> dict[str, Any]:
    version = _version(requirement.name)
    fits = version is not None and requirement.specifier.contains(version, prereleases=True)
    return {"name": requirement.name, "version": version, "wanted": str(requirement.specifier), "fits": fits}


def _notes(load: float | None, environment: Mapping[str, str]) -> list[str]:
    notes = [f"{name}={environment[name]} is set: {why}." for name, why in VARIABLES.items() if environment.get(name)]
    cores = len(usable_cores())
    if load is not None and load > BUSY * cores:
        notes.append(
            f"The load average is {load:.1f} on {cores} usable cores: other work runs here, and intervals on latency "
            "will be wide. Let it end before you measure."
        )
    if (quota := _quota()) is not None and quota < cores:
        notes.append(
            f"This container may use {quota:.1f} cores' time of the {cores} it sees, and is halted when it has: "
            "high percentiles of latency will show it. Lift the quota, or set --threads below it."
        )
    governor = _line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor not in (None, "performance"):
        notes.append(f"The CPU's frequency follows its load (governor {governor}): latencies drift. Use 'performance'.")
    if _version("strop") is None:
        notes.append("strop runs from its source tree: install it (pip install -e .) to see what each extra lacks.")
    return notes


def _quota() -> float | None:
    """Cores' worth of time that the control group grants, or None where there is no bound."""
    limit, _, period = (_line("/sys/fs/cgroup/cpu.max") or "max").partition(" ")
    return None if limit == "max" else int(limit) / int(period)


def _line(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _command(extra: str | None) -> str:
    return f"pip install 'strop[{extra}]'" if extra else "pip install --upgrade strop"
