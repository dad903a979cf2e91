"""Metrics of cost: latency, throughput, size, memory, and the price of an inference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import InvalidPlan
from ..metric import Metric, Probe
from ..spelling import option
from ..stats import Comparison, Exact, Replicates, bootstrap_timing
from ..target import Target

Array = np.ndarray[Any, Any]


class Latency(Metric):
    """Seconds of one call, whatever the batch it carries.

    Args:
        statistic: `p50`, `p95`, `p99` or `mean`.
    """

    better = "lower"
    rank = 20
    unit = "s"
    quality = False
    scenario = "single_stream"

    def __init__(self, statistic: str):
        self.statistic = statistic
        self.name = f"latency.{statistic}"

    def measure(self, probe: Probe, rows: Array | None = None) -> Comparison:
        timing = probe.timing("single_stream")
        return bootstrap_timing(timing.original, timing.candidate, self.statistic, probe.seed)


class Throughput(Metric):
    """Samples a second, offline: the batch over the mean time of a call, each model at its best batch."""

    name = "throughput"
    better = "higher"
    rank = 20
    unit = "1/s"
    quality = False
    scenario = "offline"

    def measure(self, probe: Probe, rows: Array | None = None) -> Replicates:
        timing = probe.timing("offline")
        return _over(timing.batches, bootstrap_timing(timing.original, timing.candidate, "mean", probe.seed))


class Cost(Metric):
    """What a million inferences cost in the user's own currency: the target's price per hour over the throughput."""

    name = "cost"
    better = "lower"
    rank = 20
    unit = "per million"
    quality = False
    scenario = "offline"

    def requires(self, target: Target) -> None:
        if target.price is None:
            raise InvalidPlan(
                "cost needs what an hour of the machine costs, and no price was given. Give it in any currency, as in "
                f"{option('price', 0.34)}."
            )

    def measure(self, probe: Probe, rows: Array | None = None) -> Comparison:
        self.requires(probe.target)
        million = (probe.target.price or 0.0) / 3600 * 1e6
        return _over((million, million), Throughput().measure(probe))


class Size(Metric):
    """Bytes on disk of all that must ship."""

    name = "size"
    better = "lower"
    rank = 0
    unit = "bytes"
    quality = False

    def measure(self, probe: Probe, rows: Array | None = None) -> Comparison:
        return Exact(*probe.sizes)


class CompressedSize(Metric):
    """Bytes of all that must ship after DEFLATE: what a download or an app's package takes. Zeros cost hardly any."""

    name = "size.compressed"
    better = "lower"
    rank = 1
    unit = "bytes"
    quality = False

    def measure(self, probe: Probe, rows: Array | None = None) -> Comparison:
        return Exact(*probe.compressed_sizes)


class Memory(Metric):
    """Peak resident bytes of a fresh process over those of a bare runtime: the median over a few processes.

    Bounds are the least and the greatest seen, and the ratio's those of all pairs.
    """

    name = "memory"
    better = "lower"
    rank = 30
    unit = "bytes"
    quality = False

    def measure(self, probe: Probe, rows: Array | None = None) -> Comparison:
        original, candidate = (np.asarray(side, np.float64) for side in probe.memory())
        return Replicates(
            float(np.median(original)),
            float(np.median(candidate)),
            np.repeat(original, len(candidate)),
            np.tile(candidate, len(original)),
            min(len(original), len(candidate)),
        )


def _over(dividends: tuple[float, float], divisor: Replicates) -> Replicates:
    """Quotients of the original and of the candidate."""
    return replace(
        divisor,
        original_value=dividends[0] / divisor.original_value,
        candidate_value=dividends[1] / divisor.candidate_value,
        original_reps=dividends[0] / divisor.original_reps,
        candidate_reps=dividends[1] / divisor.candidate_reps,
    )
