"""Observe: what each layer of a model takes, as its runtime's profiler tells it."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np

from .. import formats
from ..data import Data
from ..disturbance import quiet_cores
from ..jobs import PATIENCE
from ..runtime import EXACT, Array, Profiled
from ..server import Hosted, Server, first_feeds
from ..stats import Interval
from ..target import pin
from ..timing import one_at_a_time
from ..units import counted, quantity
from .memory import held
from .peaks import Peaks
from .roofline import Row, rows
from .split import Found, metered

FEEDS = 8  # calls that take turns
DISTURBED = 0.02  # of the time, without a core, from which on that is said
STEPS = 3  # of a profiler, under which what a layer takes is hardly known
COARSE = 0.1  # of the layers' time, that such layers take, from which on that is said
TOO_LONG = 0.02  # by which layers together take longer than a call, from which on that is said


def observe(hosted: Hosted, data: Path, peaks: Peaks | None) -> Found:
    """Measure a model by its runtime's own profiler. Runs in a job.

    Args:
        hosted: The model, and what runs it.
        data: Folder of stored samples.
        peaks: What this machine does at the most; None where that is not known.

    Raises:
        NotApplicable: The runtime has no profiler.
        StropError: The model can't be taken apart, or run.
    """
    model, target = hosted.model, hosted.target
    samples = Data.load(data)
    structure = formats.format_of(model.format).structure(model, samples.batch(0, 1))
    carried, feeds = first_feeds(model.signature, samples, target.batch)
    with one_at_a_time() as waited:
        pin(quiet_cores(target.threads))
        profiled = hosted.runtime.profiled(model, target, list(itertools.islice(feeds, FEEDS)))
        with Server(hosted, target.cores()) as server:
            memory = server.memory(data)
        spent, why = metered(hosted, data)
    seconds = _median(profiled.calls)
    found = rows(profiled.layers, structure, peaks, carried)
    overhead, share = _overhead(seconds, found)
    notes = [*structure.missing, *_said(profiled, seconds, waited)]
    return Found(
        structure, seconds, overhead, share, memory, len(profiled.calls), tuple(notes), found,
        held(structure, carried), spent, why,
    )  # fmt: skip


def _overhead(seconds: Interval, found: tuple[Row, ...]) -> tuple[Interval, Interval]:
    """Seconds of a call that no layer takes, and their share of it."""
    parts = sum(row.seconds for row in found)
    left = (whole - parts for whole in (seconds.value, seconds.low, seconds.high))
    value, low, high = (rest if rest >= EXACT else 0.0 for rest in left)
    whole = seconds.value
    return Interval(value, low, high), Interval(value / whole, low / seconds.low, high / seconds.high)


def _median(calls: Array) -> Interval:
    """With bounds that hold it with 95 % confidence each, whatever the distribution.

    Order statistics (David & Nagaraja, section 7.1): the number of calls under the median is binomial, here as normal.
    """
    ordered = np.sort(calls)
    off = math.ceil(0.5 + 1.645 * 0.5 * math.sqrt(len(ordered)))
    low, high = (min(max(len(ordered) // 2 + step, 0), len(ordered) - 1) for step in (-off, off))
    return Interval(float(np.median(calls)), float(ordered[low]), float(ordered[high]))


def _said(profiled: Profiled, seconds: Interval, waited: float) -> list[str]:
    said = []
    if waited > PATIENCE:
        said.append(f"waited {waited:.0f} s for another strop to end measuring on this machine")
    if profiled.waited > DISTURBED:
        said.append(
            f"other work ran on the measured cores: {profiled.waited:.0%} of the time went to waiting for a free one. "
            "It is left out of the times; profile again on an idle machine"
        )
    over = sum(layer.seconds for layer in profiled.layers) / seconds.value - 1
    if over > TOO_LONG:
        said.append(
            f"while they are watched the layers together take {over:.0%} longer than a call does: by so much their "
            "times are too long"
        )
    taken = [layer.seconds for layer in profiled.layers]
    short = [each for each in taken if each < STEPS * profiled.step]
    if sum(short) > COARSE * sum(taken):
        said.append(
            f"the profiler tells times in steps of {quantity(profiled.step, 's')}, and of {counted(len(taken), 'row')} "
            f"{len(short):,} took less than {STEPS} of these: their times are hardly known"
        )
    return said
