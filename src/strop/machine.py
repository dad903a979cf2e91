"""Machine: what it can do at the most, and which differences in latency can be told apart on it."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from . import jobs, metrics
from ._bandwidth import bandwidth
from ._lazy import installed
from ._multiplying import input_shape
from ._products import LIBRARIES, Product, graph, products
from .bench import Bench
from .data import Data
from .disturbance import quiet_cores
from .prepare import open_model, reference
from .server import Hosted
from .stats import Interval
from .target import Target
from .timing import SEARCHING, WAITING, one_at_a_time

T = TypeVar("T")

LIMITS = jobs.Limits(120, 1 << 62)  # for what hangs; all of it takes seconds
EFFORT = replace(SEARCHING, longest=3.0)  # people wait for it: two pairs of processes where others disturb them
SAMPLES = 8  # that take turns
LATENCIES = ("latency.p50", "latency.p95")


@dataclass(frozen=True)
class Measured:
    """What was measured of a machine.

    Attributes:
        threads: As many as the target gives; products and bandwidth are known for one thread, too.
        products: Of each installed runtime.
        bandwidth: Bytes copied a second (read and written), by the number of threads.
        noise: The ratio of a small model's latency to its own, by metric, as a search would measure it.
        notes: What disturbed the measuring of that.
        missing: What could not be measured, and why.
    """

    threads: int
    products: tuple[Product, ...]
    bandwidth: dict[int, Interval]
    noise: dict[str, Interval]
    notes: tuple[str, ...]
    missing: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "bandwidth": [{"threads": threads, **asdict(rate)} for threads, rate in self.bandwidth.items()],
            "noise": {name: {**asdict(ratio), "floor": floor(ratio)} for name, ratio in self.noise.items()},
        }


def measure(target: Target, tell: Callable[[str], None]) -> Measured:
    """Measure this machine, on the cores that strop would pin to, while no other strop measures: some ten seconds.

    Args:
        target: Whose threads to use, besides a single one.
        tell: Hears what is being done.

    Raises:
        RunFailed: The lock that keeps two from measuring at once can't be had.
    """
    missing: dict[str, str] = {}

    def job(what: str, function: Callable[..., T], *args: object) -> T | None:
        tell(f"measuring {what}")
        ended = jobs.run(function, *args, limits=LIMITS)
        if ended.cause != "done":
            missing[what] = ended.reason
        return ended.value

    with alone(tell):
        cores = [quiet_cores(threads) for threads in sorted({target.threads, 1}, reverse=True)]
        found = [
            job(f"products through {name} ({len(own)} thread{'s' * (len(own) > 1)})", products, name, own)
            for name, library in LIBRARIES.items() if installed(library.module)
            for own in cores
        ]  # fmt: skip
        copied = job("memory bandwidth", bandwidth, cores)
    noise, notes = job("the noise floor", against_itself, target) or ({}, ())
    return Measured(target.threads, tuple(p for some in found for p in some or ()), copied or {}, noise, notes, missing)


def floor(ratio: Interval) -> float:
    """By how much the ratio of a model's latency to its own is off 1, at the most."""
    return max(ratio.high - 1, 1 - ratio.low)


@contextlib.contextmanager
def alone(tell: Callable[[str], None]) -> Iterator[None]:
    """Hold the host's lock for measuring, and say so where another strop has it."""
    said = threading.Timer(jobs.PATIENCE, tell, [WAITING])
    said.start()
    try:
        with one_at_a_time():
            said.cancel()
            yield
    finally:
        said.cancel()


def against_itself(target: Target) -> tuple[dict[str, Interval], tuple[str, ...]]:
    """Measure a convolution of about a millisecond as a search would, as its own candidate.

    Returns:
        The ratio of the two latencies, by metric; and what disturbed them.
    """
    with tempfile.TemporaryDirectory(prefix="strop-") as scratch:
        folder = Path(scratch)
        model = open_model(graph("convolution", "f32", target.threads, layers=1), folder)
        shape = (SAMPLES, *input_shape("convolution", target.threads)[1:])
        samples = np.random.default_rng(0).standard_normal(shape, np.float32)
        Data({"x": samples}).save(folder / "data")
        hosted = Hosted(model, reference(model.format)[1], target)
        with Bench(hosted, hosted, folder / "data", folder / "outputs.npz", folder, EFFORT, 0) as bench:
            return {name: metrics.find(name).measure(bench).ratio() for name in LATENCIES}, bench.notes()
