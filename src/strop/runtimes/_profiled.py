"""Profiled: calls with a runtime's own profiler on take turns with calls without, and what the profiler itself takes
within each layer is told from what the layer takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .._rounds import waited
from ..runtime import Array

EACH = 2  # calls of either kind in a turn
WARM = 3  # turns that do not count
LEAST, MOST = 9, 100  # turns that do
SECONDS = 2.0  # after which no further turn is begun
EVENTS = 400_000  # that the logs of all turns may hold
TRUNCATED = 0.5e-6  # seconds that are lost on average where a profiler tells whole microseconds
QUIET = 0.02  # of a turn, that waiting for a core may take


@dataclass(frozen=True)
class Turns:
    """What was timed.

    Attributes:
        plain: Seconds of each call without the profiler.
        profiled: Of each call with it.
        kept: Their places among all turns. In each there were `EACH` calls with the profiler, of which the last counts.
    """

    plain: Array
    profiled: Array
    kept: Array


def take_turns(
    plain: Sequence[Callable[[], object]],
    profiled: Sequence[Callable[[], object]],
    layers: int,
    after: Callable[[], object] = lambda: None,
) -> Turns:
    """Time bound calls without a profiler and with it, one after another.

    Before each call that counts goes one of its kind that does not, since others have filled the caches. Where other
    work took the cores away, the turns that had to wait the least count.

    Args:
        plain: One call a batch, of a model that is loaded without the profiler.
        profiled: The same, with it.
        layers: That a log of one call has.
        after: What is done, out of the time, after each turn.
    """
    taken: list[tuple[float, ...]] = []
    most = WARM + max(LEAST, min(MOST, EVENTS // max(1, layers)))
    end = time.perf_counter() + SECONDS
    while len(taken) < WARM + LEAST or (len(taken) < most and time.perf_counter() < end):
        turn, lost, spent = len(taken) % len(plain), 0.0, []
        for calls in (plain, profiled):
            calls[turn - 1]()
            before = waited()
            spent.append(_timed(calls[turn]))
            lost += waited() - before
        after()
        taken.append((*spent, lost / sum(spent)))
    found = np.array(taken)
    order = WARM + np.argsort(found[WARM:, 2], kind="stable")
    kept = np.sort(order[: max(LEAST, int((found[WARM:, 2] < QUIET).sum()))])
    return Turns(found[kept, 0], found[kept, 1], kept)


def per_layer(logged: Array, turns: Turns) -> Array:
    """Seconds of each layer, without what the profiler takes within it.

    A profiler takes about the same for every layer: more between layers, where it writes down what it saw, and less
    within, where caches have to be filled again. Where the layers together take longer than the whole call does without
    the profiler, the excess is taken off evenly, up to what a layer costs between layers. What is left of it is left.

    Args:
        logged: Seconds that the profiler tells of each layer; whole microseconds.
        turns: The calls.
    """
    found = logged + TRUNCATED
    between = max(0.0, float(np.median(turns.profiled)) - float(found.sum())) / max(1, len(found))
    excess = float(found.sum()) - float(np.median(turns.plain))
    return found - _even(found, excess, between)


def _even(found: Array, excess: float, most: float) -> Array:
    """What to take off each so that it comes to `excess` in all: the same off all, though none is left below zero."""
    ordered = np.sort(found)
    each = 0.0
    for place, least in enumerate(ordered):
        each = (excess - float(ordered[:place].sum())) / (len(ordered) - place)
        if each <= least:
            break
    off: Array = np.minimum(found, np.clip(each, 0.0, most))
    return off


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
