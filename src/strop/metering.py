"""Metering: what the processor draws while original and candidate take turns on the same cores."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from . import energy
from .disturbance import quiet_cores
from .energy import Meter
from .errors import NotMeasurable
from .metric import Draw, Metering
from .server import Hosted, Server
from .stats import Interval

PAIRS = 3  # fresh pairs of processes
BLOCKS = 4  # metered blocks of each, in every pair
SECONDS = 0.5  # length of a block: counters move a thousand times a second, and CPU time is told by the hundredth


@dataclass(frozen=True)
class Spent:
    """What a model draws.

    Attributes:
        joules: Of a call: the mean of blocks, the least and the most.
        watts: The mean while it runs.
        source: What they are had from.
    """

    joules: Interval
    watts: float
    source: str


def take_turns(original: Hosted, candidate: Hosted, data: Path) -> Metering:
    """Meter original and candidate in alternating blocks.

    What the processor draws when idle stays in: it is drawn for as long as a model runs, so a faster one saves it too;
    and to subtract it, it would have to be told from what else the machine does.

    Args:
        original: The model as given.
        candidate: What it is compared with.
        data: Folder of stored samples.

    Raises:
        NotMeasurable: There is no meter, or it failed.
    """
    meter = energy.meter()
    metering = Metering([], [], meter.source)
    for pair in range(PAIRS):
        cores = quiet_cores(candidate.target.threads)
        first, second = Server(original, cores), Server(candidate, cores)  # they load at once
        with first, second:
            carried: dict[Server, int] = {}
            for server in (first, second):
                carried[server] = server.prepare(data, candidate.target.batch)
                server.block(SECONDS)  # warms up
            ours: list[Draw] = []
            theirs: list[Draw] = []
            for block in range(BLOCKS):
                # who goes first changes from block to block, as it does where latency is timed
                for server, draws in [(first, ours), (second, theirs)][:: 1 if (block + pair) % 2 else -1]:
                    draws.append(_draw(meter, server, carried[server]))
        metering.original.append(ours)
        metering.candidate.append(theirs)
    return metering


def of_one(hosted: Hosted, data: Path) -> Spent:
    """Meter one model alone: what the processor draws for a call of it.

    Raises:
        NotMeasurable: There is no meter, or it failed.
    """
    meter = energy.meter()
    with Server(hosted, quiet_cores(hosted.target.threads)) as server:
        server.prepare(data, hosted.target.batch)
        server.block(SECONDS)  # warms up
        draws = [_draw(meter, server, 1) for _ in range(BLOCKS)]
    calls = sorted(draw.joules / draw.samples for draw in draws)
    power = sum(draw.joules for draw in draws) / sum(draw.seconds for draw in draws)
    return Spent(Interval(sum(calls) / BLOCKS, calls[0], calls[-1]), power, meter.source)


def _draw(meter: Meter, server: Server, batch: int) -> Draw:
    meter.start()
    start = time.perf_counter()
    calls = len(server.block(SECONDS).calls)
    seconds = time.perf_counter() - start
    joules = meter.stop()
    if not joules > 0:
        raise NotMeasurable(f"{meter.source} shows that nothing was drawn in {seconds:.2f} s of work.")
    return Draw(joules, seconds, calls * batch)
