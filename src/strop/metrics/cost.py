"""Metrics of cost: latency, throughput, size, memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..metric import Metric, Probe
from ..stats import Comparison, Exact, Replicates, bootstrap_timing

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

    def measure(self, probe: Probe, rows: Array | None = None) -> Comparison:
        timing = probe.timing("offline")
        original, candidate = timing.batches
        mean = bootstrap_timing(timing.original, timing.candidate, "mean", probe.seed)
        return Replicates(
            original / mean.original_value,
            candidate / mean.candidate_value,
            original / mean.original_reps,
            candidate / mean.candidate_reps,
            mean.n,
        )


class Size(Metric):
    """Bytes on disk of all that must ship."""

    name = "size"
    better = "lower"
    rank = 0
    unit = "bytes"
    quality = False

    def measure(self, probe: Probe, rows: Array | None = None) -> Comparison:
        return Exact(*probe.sizes)


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
