"""Rounds: things that take turns while they are timed, so that what disturbs one disturbs all."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .stats import Interval

Array = np.ndarray[Any, Any]

ROUNDS = 9
SECONDS = 0.015  # of a block, at the least


def in_turn(calls: Mapping[str, Callable[[], object]], seconds: float = SECONDS) -> dict[str, Array]:
    """Let calls take turns in blocks; who goes first changes from round to round.

    Args:
        calls: What to time, by name; each is called once before, to warm up.
        seconds: Of a block; it ends with the call that reaches them.

    Returns:
        Calls a second of each, [9]: one value a round, so that two names can be compared round by round.
    """
    for call in calls.values():
        call()
    rates = {name: np.empty(ROUNDS) for name in calls}
    for turn in range(ROUNDS):
        for name in list(calls)[:: 1 if turn % 2 else -1]:
            rates[name][turn] = _rate(calls[name], seconds)
    return rates


def median(values: Array) -> Interval:
    """The median of nine rounds, from the second smallest to the second largest.

    Each bound holds the true median with 98 % confidence, whatever the distribution: fewer than two of nine values lie
    beyond it with a chance of 10 in 512 (David & Nagaraja, Order Statistics, section 7.1).
    """
    ordered = np.sort(values)
    return Interval(float(np.median(values)), float(ordered[1]), float(ordered[-2]))


def _rate(call: Callable[[], object], seconds: float) -> float:
    start, count = time.perf_counter(), 0
    while True:
        call()
        count += 1
        if (taken := time.perf_counter() - start) >= seconds:
            return count / taken


def waited(proc: Path = Path("/proc")) -> float:
    """Seconds that all threads of this process have waited for a core (sched-stats of the kernel, second field)."""
    total = 0
    try:
        for thread in os.scandir(proc / "self" / "task"):
            try:
                total += int((Path(thread.path) / "schedstat").read_text().split()[1])
            except (OSError, IndexError):  # it has just ended, or the kernel keeps no such count
                continue
    except OSError:
        return 0.0
    return total / 1e9
