"""Metrics of a server: calls arrive at random times, and wait for those before them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import InvalidPlan
from ..metric import Metric, Probe
from ..spelling import option
from ..stats import Comparison, Replicates, bootstrap_timing
from ..target import Target

Array = np.ndarray[Any, Any]

CALLS = 8000  # that a simulated queue serves
RESAMPLES = 100
HALVINGS = 24  # of the range of rates: more than the figure has digits


class ServerP99(Metric):
    """Seconds from arrival to answer that 99 % of the calls keep, at the target's rate of Poisson arrivals."""

    name = "server.p99"
    better = "lower"
    rank = 25
    unit = "s"
    quality = False
    scenario = "server"

    def requires(self, target: Target) -> None:
        if target.rate is None:
            raise InvalidPlan(
                "server.p99 needs the rate at which calls arrive. Give it in calls a second, as in "
                f"{option('rate', 50)}."
            )

    def measure(self, probe: Probe, rows: Array | None = None) -> Comparison:
        self.requires(probe.target)
        timing = probe.timing("server")
        return bootstrap_timing(timing.original, timing.candidate, "p99", probe.seed)


class ServerRate(Metric):
    """The highest rate of Poisson arrivals at which 99 % of the calls are answered within the target's `p99` seconds.

    The seconds that calls take are measured; how they queue follows from them by Lindley's recursion (1952): the wait
    of call n + 1 is that of call n, plus what call n takes, less the time between them, or 0 where that is negative.
    """

    name = "server.rate"
    better = "higher"
    rank = 25
    unit = "1/s"
    quality = False
    scenario = "single_stream"

    def requires(self, target: Target) -> None:
        if target.p99 is None:
            raise InvalidPlan(
                f"server.rate needs the p99 that must be kept, 20 ms for instance. Give it: {option('p99', 'TIME')}."
            )

    def measure(self, probe: Probe, rows: Array | None = None) -> Comparison:
        self.requires(probe.target)
        within = probe.target.p99 or 0.0
        timing = probe.timing("single_stream")
        rng = np.random.default_rng(probe.seed)
        gaps = rng.exponential(size=(RESAMPLES + 1, CALLS))
        drawn = [_blocks(timing.original, rng) for _ in range(RESAMPLES)]
        places = rng.random((RESAMPLES + 1, CALLS))
        sides = []
        for pairs in (timing.original, timing.candidate):
            pools = [np.concatenate([block for pair in pairs for block in pair])]
            pools += [np.concatenate([pairs[pair][block] for pair, block in chosen]) for chosen in drawn]
            taken = np.stack([pool[(place * len(pool)).astype(int)] for pool, place in zip(pools, places, strict=True)])
            sides.append(highest_rate(taken, gaps, within))
        calls = sum(len(block) for pair in timing.candidate for block in pair)
        return Replicates(
            float(sides[0][0]), float(sides[1][0]), sides[0][1:], sides[1][1:], calls, len(timing.original)
        )


def highest_rate(taken: Array, gaps: Array, within: float) -> Array:
    """The highest rate at which 99 % of the calls are answered in time; 0 where even a call that never waits is late.

    Args:
        taken: [r, n], seconds that calls take.
        gaps: [r, n], times between arrivals at a rate of 1 a second.
        within: Seconds from arrival to answer.

    Returns:
        [r], calls a second.
    """
    low, high = np.zeros(len(taken)), 1 / taken.mean(axis=1)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        with np.errstate(divide="ignore"):
            kept = np.quantile(responses(taken, gaps / middle[:, None]), 0.99, axis=1) <= within
        low, high = np.where(kept, middle, low), np.where(kept, high, middle)
    return np.where(np.quantile(taken, 0.99, axis=1) <= within, low, 0.0)


def responses(taken: Array, gaps: Array) -> Array:
    """Seconds from arrival to answer of calls that one server answers in their order.

    Args:
        taken: [r, n], seconds that calls take.
        gaps: [r, n], seconds between each arrival and the one before.

    Returns:
        [r, n].
    """
    steps = np.concatenate([np.zeros((len(taken), 1)), taken[:, :-1] - gaps[:, 1:]], axis=1)
    walk = np.cumsum(steps, axis=1)
    waits = walk - np.minimum.accumulate(walk, axis=1)
    return np.asarray(waits + taken)


def _blocks(pairs: list[list[Array]], rng: np.random.Generator) -> list[tuple[int, int]]:
    """Blocks drawn hierarchically: pairs of processes, then blocks within each."""
    chosen = rng.integers(0, len(pairs), len(pairs))
    return [(int(pair), int(block)) for pair in chosen for block in rng.integers(0, len(pairs[pair]), len(pairs[pair]))]
