"""Profiled: calls with a runtime's own profiler on take turns with calls without, and what the profiler itself takes
within each layer is told from what the layer takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .._rounds import waited
from ..runtime import EXACT, SECONDS, Array

EACH = 2  # calls of either kind in a turn
WARM = 3  # turns that do not count
LEAST, MOST = 9, 100  # turns that do
PATIENCE = 3.0  # times these seconds, after which none is begun at all, but for those that it takes
FEWEST = 3  # turns that do, where there is less time
EVENTS = 100_000  # that the logs of all turns may hold
TOLD = 1e-6  # seconds that profilers tell apart: they tell whole microseconds, which loses half of one on average
QUIET = 0.02  # of a turn, that waiting for a core may take


@dataclass(frozen=True)
class Turns:
    """What was timed.

    Attributes:
        plain: Seconds of each call without the profiler, and without those in which its threads had no core.
        lost: Of each call with it, the seconds in which they had none, which its log does not tell from the others.
        waited: Their share of the time of calls without it.
        kept: Their places among all turns. In each there were `EACH` calls with the profiler, of which the last counts.
    """

    plain: Array
    lost: Array
    waited: float
    kept: Array


def take_turns(
    plain: Sequence[Callable[[], object]],
    profiled: Sequence[Callable[[], object]],
    layers: int,
    threads: int,
    seconds: float,
    after: Callable[[], object] = lambda: None,
) -> Turns:
    """Time bound calls without a profiler and with it, one after another.

    Before each call that counts goes one of its kind that does not, since others have filled the caches. Where other
    work took the cores away, the turns that had to wait the least count.

    Args:
        plain: One call a batch, of a model that is loaded without the profiler.
        profiled: The same, with it.
        layers: That a log of one call has.
        threads: That work on a call.
        seconds: After which no further turn is begun, if there are enough that nothing disturbed.
        after: What is done, out of the time, after each turn.
    """
    least = round(np.clip(LEAST * seconds / SECONDS, FEWEST, LEAST))
    taken: list[tuple[tuple[float, float], tuple[float, float]]] = []
    most = WARM + max(LEAST, min(MOST, EVENTS // max(1, EACH * layers)))
    begun = time.perf_counter()

    def enough() -> bool:
        quiet = sum(lost < QUIET * spent for (spent, lost), _ in taken[WARM:])
        passed = time.perf_counter() - begun
        if len(taken) < WARM + least:
            return False
        return len(taken) >= most or passed > PATIENCE * seconds or (quiet >= least and passed > seconds)

    while not enough():
        turn = len(taken) % len(plain)
        plain[turn - 1]()
        without = _timed(plain[turn], threads)
        profiled[turn - 1]()
        taken.append((without, _timed(profiled[turn], threads)))
        after()
    found = np.array(taken)
    first, second = _quietest(found[:, 0]), _quietest(found[:, 1])
    spent, lost = found[first, 0].T
    return Turns(spent - lost, found[second, 1, 1], float(lost.sum() / spent.sum()), second)


def _quietest(calls: Array) -> Array:
    """The places of the calls of `[spent, lost]` that nothing disturbed, or of those that were disturbed the least."""
    lost = calls[WARM:, 1] / calls[WARM:, 0]
    order = np.argsort(lost, kind="stable")
    return WARM + np.sort(order[: max(LEAST, int((lost < QUIET).sum()))])


def per_layer(logged: Array, turns: Turns, within: float, written: Array | None = None, told: float = TOLD) -> Array:
    """Seconds of each layer, the median over calls, without what the profiler takes within it and without waiting for
    a core.

    A profiler takes about the same each time that it writes down what it saw: the caches have to be filled again. Where
    the layers together take longer than the whole call does without the profiler, the excess is taken off evenly, up to
    what the profiler takes. What is left of it is left.

    Args:
        logged: Seconds that the profiler tells of each layer, [turns, layers], or [1, layers] where it tells means.
        turns: The calls.
        within: Seconds that the profiler takes each time, at the most.
        written: How many times it writes within each layer, [layers]; once by default.
        told: Seconds that it tells apart.
    """
    lost = turns.lost if len(logged) == len(turns.lost) else turns.lost.mean(keepdims=True)
    found = np.median(_calm(logged, lost), axis=0) + told / 2
    excess = float(found.sum()) - float(np.median(turns.plain))
    left = found - _even(found, excess, within, np.ones(len(found)) if written is None else written)
    return np.where(left < EXACT, 0.0, left)


def behind(node: str, layers: Mapping[str, Sequence[str]], reads: Mapping[str, str]) -> str:
    """The layer whose value a node takes that stands for none: the last of those of the node before it, or where that
    stands for none either, before that. Where no node comes before, it is an input, and that is told.

    Args:
        node: By the runtime's own name, as all nodes here.
        layers: That each node stands for, in order.
        reads: The node, or the input, whose value each node takes first.
    """
    seen = {node}
    while (node := reads.get(node, "")) not in seen:
        seen.add(node)
        if node not in reads or layers.get(node):
            return layers[node][-1] if layers.get(node) else node
    return ""


def _calm(logged: Array, lost: Array) -> Array:
    """Take off each call's layers what it waited for a core: where they took longer than in other calls, and what is
    left of it by how long they take, since a long layer is interrupted every time."""
    excess = logged - logged.min(axis=0)
    room = excess.sum(axis=1)
    first = np.divide(np.minimum(lost, room), room, out=np.zeros_like(room), where=room > 0)
    rest = logged - excess * first[:, None]
    whole = rest.sum(axis=1)  # nothing where all took less than what the profiler tells apart
    left = np.clip(np.divide(lost - first * room, whole, out=np.zeros_like(whole), where=whole > 0), 0.0, 0.9)
    calm: Array = rest * (1 - left)[:, None]
    return calm


def _even(found: Array, excess: float, most: float, times: Array) -> Array:
    """What to take off each so that it comes to `excess` in all: for each time the same, though none is left below
    zero."""
    single = found / times
    order = np.argsort(single)
    each = 0.0
    for place, least in enumerate(single[order]):
        each = (excess - float(found[order[:place]].sum())) / float(times[order[place:]].sum())
        if each <= least:
            break
    off: Array = np.minimum(found, np.clip(each, 0.0, most) * times)
    return off


def _timed(call: Callable[[], object], threads: int) -> tuple[float, float]:
    """Seconds that a call takes, and how many of them its threads had no core."""
    before, start = waited(), time.perf_counter()
    call()
    spent = time.perf_counter() - start
    return spent, min(0.9 * spent, (waited() - before) / threads)
