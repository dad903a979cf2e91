"""Bandwidth: what the machine's caches hold, and how fast they and its memory are copied."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from ._rounds import in_turn, median
from .stats import Interval
from .target import pin

Array = np.ndarray[Any, Any]

CPUS = Path("/sys/devices/system/cpu")
TIMES = 4  # the last-level caches, that an array must hold to lie in memory (STREAM's rule)
LEAST, MOST = 64 << 20, 1 << 30  # bytes of an array
NEAR = 1 << 20  # bytes of a second-level cache, where the system does not tell
SHARE = 1 / 8  # of the memory available, that an array may take


def caches(cores: Sequence[int]) -> list[dict[str, int]]:
    """The caches of some cores, from the nearest on, where the system tells (Linux, sysfs).

    Returns:
        `level`, `bytes` of one such cache, and `count`: how many of them these cores have; no instruction caches.
    """
    found: dict[int, dict[str, int]] = {}
    for core in cores:
        for folder in sorted((CPUS / f"cpu{core}" / "cache").glob("index*")):
            if (cache := _cache(folder)) is not None:
                level, size, shared = cache
                found.setdefault(level, {})[shared] = size
    return [{"level": n, "bytes": max(own.values()), "count": len(own)} for n, own in sorted(found.items())]


def bandwidth(cores: Sequence[Sequence[int]]) -> dict[int, Interval]:
    """Copy arrays that no cache holds, and count what is read and what is written (STREAM's Copy, McCalpin 1995).

    Args:
        cores: What to run on, one thread a core: this process is kept to each set in turn.

    Returns:
        Bytes a second, by the number of threads.
    """
    size = array_bytes(max(cores, key=len))
    found = {}
    for own in cores:
        pin(own)
        found[len(own)] = _copied(len(own), size)
    return found


def near(core: int) -> Interval:
    """Negate an array that the core's own second-level cache holds, and count what is read and what is written.

    (Small ones are copied by `rep movsb`, which some CPUs do at a twentieth of what their caches give.)

    Returns:
        Bytes a second of one core.
    """
    pin([core])
    own = [cache["bytes"] for cache in caches([core]) if cache["level"] == 2]
    source = np.ones((own[0] if own else NEAR) // 16, np.float32)  # with the target, half of it
    target = source.copy()
    return median(in_turn({"pass": lambda: np.negative(source, out=target)})["pass"] * 2 * source.nbytes)


def array_bytes(cores: Sequence[int]) -> int:
    """Bytes of each of the two arrays that `bandwidth` copies between, so that no cache of these cores holds them."""
    last = max((cache["bytes"] * cache["count"] for cache in caches(cores)), default=0)
    return int(min(max(TIMES * last, LEAST), MOST, psutil.virtual_memory().available * SHARE))


def _copied(threads: int, size: int) -> Interval:
    with ThreadPoolExecutor(threads) as pool:
        # each thread's own pages, so that they lie near it; ones, since zeros that were never written take no memory
        pieces = list(pool.map(lambda _: (np.ones(size // threads, np.uint8), np.ones(size // threads, np.uint8)),
                               range(threads)))  # fmt: skip
        moved = 2 * sum(source.nbytes for source, _ in pieces)
        copy = {"copy": lambda: list(pool.map(lambda piece: np.copyto(piece[1], piece[0]), pieces))}
        return median(in_turn(copy)["copy"] * moved)


def _cache(folder: Path) -> tuple[int, int, str] | None:
    """Level, bytes, and the cores that share it."""
    try:
        kind, level, size, shared = (
            (folder / name).read_text().strip() for name in ("type", "level", "size", "shared_cpu_list")
        )
        units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
        return None if kind == "Instruction" else (int(level), int(size[:-1]) * units[size[-1]], shared)
    except (OSError, ValueError, KeyError, IndexError):
        return None
