"""A probe that holds arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from strop.metric import Draw, Metering, Scenario, Timing
from strop.target import Target


@dataclass
class ArrayProbe:
    original_outputs: dict[str, np.ndarray]
    candidate_outputs: dict[str, np.ndarray]
    labels: np.ndarray | None = None
    groups: np.ndarray | None = None
    sizes: tuple[int, int] = (1000, 250)
    times: Timing = field(default_factory=lambda: Timing([[np.ones(4)]], [[np.full(4, 0.5)]], (8, 8)))
    peaks: tuple[list[int], list[int]] = ([100, 90, 120], [50, 49, 60])
    draws: Metering = field(
        default_factory=lambda: Metering([[Draw(10.0, 0.5, 100)]], [[Draw(10.0, 0.5, 200)]], "RAPL")
    )
    target: Target = field(default_factory=lambda: Target(threads=1))
    seed: int = 0

    def timing(self, scenario: Scenario) -> Timing:
        return self.times

    def memory(self) -> tuple[list[int], list[int]]:
        return self.peaks

    def metering(self) -> Metering:
        return self.draws


@pytest.fixture
def probe() -> Callable[..., ArrayProbe]:
    """Makes a probe of two arrays (or dicts of arrays) and labels."""

    def make(original: Any, candidate: Any, labels: Any = None, **rest: Any) -> ArrayProbe:
        sides = [side if isinstance(side, dict) else {"y": np.asarray(side)} for side in (original, candidate)]
        return ArrayProbe(sides[0], sides[1], None if labels is None else np.asarray(labels), **rest)

    return make
