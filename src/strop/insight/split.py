"""Split: what a call of a model takes, and how much of it is spent before any part of the model does anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from .. import formats
from ..data import Data
from ..errors import NotMeasurable
from ..jobs import PATIENCE
from ..metering import Spent, of_one
from ..metric import Timing
from ..model import Model
from ..runtime import LayerTime
from ..server import Hosted, Server
from ..stats import Interval, Replicates, bootstrap_timing
from ..structure import Structure
from ..timing import Effort, Turns, one_at_a_time
from ..units import counted
from .memory import Held, held
from .peaks import Peaks
from .roofline import Row, rows

PROFILING = Effort(pairs=4, blocks=6, width=0.03)
LOOKED_AT = 1000  # samples whose ways through the model are counted
STATISTIC = "p50"
UNTOLD = "what a call takes besides the model can't be told"


@dataclass(frozen=True)
class Found:
    """What was measured of a model.

    Attributes:
        structure: What it is made of.
        seconds: Of one call.
        overhead: Seconds of it that are the same for any number of parts; None where that can't be told.
        share: The same over the whole call.
        memory: Peak resident bytes over those of its runtime.
        calls: That were timed.
        notes: What to know of how it was measured, in sentences.
        rows: What ran in a call, where the runtime tells.
        held: What a call holds in memory, where the format tells.
        spent: What the processor draws for it, where that was metered.
        unmetered: Why it was not.
    """

    structure: Structure
    seconds: Interval
    overhead: Interval | None
    share: Interval | None
    memory: int
    calls: int
    notes: tuple[str, ...]
    rows: tuple[Row, ...] = ()
    held: Held | None = None
    spent: Spent | None = None
    unmetered: str = ""

    @property
    def rest(self) -> Interval | None:
        """The share of a call that the model itself takes."""
        return self.share and Interval(1 - self.share.value, 1 - self.share.high, 1 - self.share.low)

    @property
    def inside(self) -> Interval | None:
        """Seconds of it; with the overhead, those of the call."""
        if self.rest is None or self.overhead is None:
            return None
        whole = self.seconds.value
        return Interval(whole - self.overhead.value, whole * self.rest.low, whole * self.rest.high)


def examine(
    models: tuple[Model, Model | None], ready: tuple[Hosted, Hosted], data: Path, effort: Effort, given: bool,
    seed: int, peaks: Peaks | None = None,
) -> Found:  # fmt: skip
    """Measure a model. Runs in a job.

    The model is timed in turns with itself cut down to its first part. Of what both have to do, operations say how much
    is left; what is left of the time beyond that is overhead: for a share r of the time and f of the operations,
    (r - f) / (1 - f) of a call.

    Args:
        models: The model, and itself cut down (`ModelFormat.shortened`); None where it can't be.
        ready: Both with what runs them; in place of None, the model again.
        data: Folder of stored samples.
        effort: What timing may take.
        given: Whether these samples are the user's, by which what happens inside the model is worth counting.
        seed: Of the resamples.
        peaks: What this machine does at the most; None where that is not known.

    Raises:
        StropError: The model can't be taken apart, or run.
    """
    model, short = models
    hosted, other = ready
    room, notes = formats.format_of(model.format), []
    samples = Data.load(data).batch(0, LOOKED_AT) if given else None
    structure = room.structure(model, samples)
    left = 1.0
    if short is not None and not structure.operations:
        notes.append(f"{UNTOLD}: it does nothing with a sample")
    elif short is not None:
        left = room.structure(short, samples).operations / structure.operations
    with one_at_a_time() as waited:
        with Server(hosted, hosted.target.cores()) as server:
            memory = server.memory(data)
        batch = hosted.target.batch
        timing = Turns(hosted, other, data, (batch, batch), effort).take(_narrow(effort, seed))
        spent, why = metered(hosted, data)
    timed = bootstrap_timing(timing.original, timing.candidate, STATISTIC, seed)
    known = left < 1
    if waited > PATIENCE:
        notes.append(f"waited {waited:.0f} s for another strop to end measuring on this machine")
    if timing.disturbed:
        notes.append(
            f"{counted(timing.disturbed, 'turn')} counted though disturbed ({timing.why}): the spread shows it"
        )
    found = Found(
        structure, timed.original(), _overhead(timed, left) if known else None,
        _share(timed.ratio(), left) if known else None, memory, sum(map(len, (b for p in timing.original for b in p))),
        tuple(notes), held=held(structure, hosted.target.batch), spent=spent, unmetered=why,
    )  # fmt: skip
    return replace(found, rows=_single(found, peaks, hosted.target.batch))


def _single(found: Found, peaks: Peaks | None, batch: int) -> tuple[Row, ...]:
    """Of a model of one part, that part, which takes all that is no overhead."""
    if found.inside is None or len(found.structure.layers) != 1:
        return ()
    (layer,) = found.structure.layers
    types = found.structure.facts.get("types", {})
    time = LayerTime(layer.name, layer.operator, found.inside.value, (layer.name,), types.get("thresholds", ""))
    return tuple(replace(row, spread=found.inside) for row in rows([time], found.structure, peaks, batch))


def metered(hosted: Hosted, data: Path) -> tuple[Spent | None, str]:
    """What a call draws; or why that can't be told."""
    try:
        return of_one(hosted, data), ""
    except NotMeasurable as error:
        return None, str(error)


def _narrow(effort: Effort, seed: int) -> Callable[[Timing], bool]:
    def enough(timing: Timing) -> bool:
        ratio = bootstrap_timing(timing.original, timing.candidate, STATISTIC, seed).ratio()
        return ratio.high - ratio.low < 2 * effort.width * ratio.value

    return enough


def _overhead(timed: Replicates, left: float) -> Interval:
    """Seconds: of the shortened model's call, without what is left of the model's own work in it."""
    found = timed.margin(left, 0.0)
    value, low, high = (max(0.0, bound) / (1 - left) for bound in (found.value, found.low, found.high))
    return Interval(value, low, high)


def _share(ratio: Interval, left: float) -> Interval:
    def of(bound: float) -> float:
        return min(1.0, max(0.0, (bound - left) / (1 - left)))

    return Interval(of(ratio.value), of(ratio.low), of(ratio.high))
