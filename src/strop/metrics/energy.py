"""Metrics of energy: what the processor draws while the model runs."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from ..energy import meter
from ..metric import Draw, Metric, Probe
from ..stats import Comparison, bootstrap_timing
from ..target import Target

Array = np.ndarray[Any, Any]


class _Metered(Metric):
    better = "lower"
    rank = 40
    quality = False

    def requires(self, target: Target) -> None:
        meter()

    def source(self, probe: Probe) -> str:
        return probe.metering().source

    def measure(self, probe: Probe, rows: Array | None = None) -> Comparison:
        metering = probe.metering()
        original, candidate = (
            [[self._of(draw) for draw in pair] for pair in side] for side in (metering.original, metering.candidate)
        )
        return bootstrap_timing(original, candidate, "mean", probe.seed)

    @abstractmethod
    def _of(self, draw: Draw) -> Array:
        """What is averaged over all blocks."""


class Energy(_Metered):
    """Joules a sample: all that the processor draws while a model runs, over the samples that it runs."""

    name = "energy"
    unit = "J"

    def _of(self, draw: Draw) -> Array:
        return np.full(draw.samples, draw.joules / draw.samples)


class Power(_Metered):
    """Watts that the processor draws while a model runs: the mean of blocks, which are of one length."""

    name = "power"
    unit = "W"

    def _of(self, draw: Draw) -> Array:
        return np.array([draw.joules / draw.seconds])
