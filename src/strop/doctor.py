"""Doctor: what this machine can do, what is installed, and what would spoil a measurement here."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
from packaging.requirements import Requirement

from ._lazy import installed
from .runtimes import all_runtimes
from .target import Target, cpu_name, instruction_sets, usable_cores

DOT_PRODUCTS = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp")
BF16 = ("amx_bf16", "avx512_bf16", "bf16")
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
        `strop`, `python`, `system`: versions. `cpu`: name, cores, instruction sets, load. `memory`: bytes. `int8`: in
        words. `runtimes` and `extras`: one entry each, with `present` and the command that installs what is missing.
        `notes`: what to know before measuring here.
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
            "load": load,
        },
        "memory": {"total": memory.total, "available": memory.available},
        "int8": _int8(),
        "runtimes": [_runtime(kind.label(), kind.module, kind.extra, kind.loads) for kind in all_runtimes()],
        "extras": _extras(),
        "notes": _notes(load, os.environ),
    }


def describe(found: Mapping[str, Any]) -> str:
    """What `examine` found, as plain text for a terminal."""
    cpu, memory = found["cpu"], found["memory"]
    cores = f"{cpu['cores']} core{'s' if cpu['cores'] > 1 else ''} usable"
    lines = [
        f"strop     {found['strop'] or 'not installed'}, Python {found['python']}, {found['system']}",
        f"CPU       {cpu['name']}, {cores}; {', '.join(cpu['instruction_sets']) or 'instruction sets unknown'}",
        f"memory    {memory['total'] / 1e9:.1f} GB, {memory['available'] / 1e9:.1f} GB available",
        f"int8      {found['int8']}",
        "",
        "Runtimes",
    ]
    for runtime in found["runtimes"]:
        state = runtime["version"] or ("present" if runtime["present"] else f"missing: {runtime['install']}")
        lines.append(f"  {runtime['name']:<12}{', '.join(runtime['loads']):<10}{state}")
    lines += ["", "Extras"]
    for extra in found["extras"]:
        lacking = [
            p["name"] + (f" (is {p['version']})" if p["version"] else "") for p in extra["packages"] if not p["fits"]
        ]
        state = "complete" if extra["present"] else f"lacks {', '.join(lacking)}: {extra['install']}"
        lines.append(f"  {extra['name']:<12}{state}")
    if found["notes"]:
        lines += ["", "Notes", *(f"  - {note}" for note in found["notes"])]
    return "\n".join(lines)


def _int8() -> str:
    sets = instruction_sets()
    have = [name for name in DOT_PRODUCTS if name in sets]
    bf16 = [name for name in BF16 if name in sets]
    also = f" bfloat16 pays too ({', '.join(bf16)})." if bf16 else ""
    if have:
        return f"pays here: dot products of int8 are single instructions ({', '.join(have)}).{also}"
    if Target().int8_saturates:
        return (
            "pays less here: without VNNI or AMX, products of uint8 and int8 are summed in 16 bits, which is slower "
            f"and can saturate; weights are kept to 7 bits where that matters.{also}"
        )
    return f"may pay here: this CPU tells of no int8 dot products, so only measuring shows.{also}"


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
        chosen = [r for r in requirements if _belongs(r, name)]
        packages = [_package(requirement) for requirement in chosen]
        present = all(package["fits"] for package in packages)
        extras.append({
            "name": name or "core",
            "present": present,
            "packages": packages,
            "install": None if present else _command(name),
        })  # fmt: skip
    return extras


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
