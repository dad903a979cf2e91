"""Metric: what is measured of a running model, always beside the original."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from .stats import Comparison

Array = np.ndarray[Any, Any]
Outputs = dict[str, Array]


@dataclass(frozen=True)
class Timing:
    """Seconds of single calls, original and candidate in turn.

    Attributes:
        original: One list a pair of processes, of one array a block.
        candidate: The same, block by block beside the original's.
        batch: Samples in one call.
    """

    original: list[list[Array]]
    candidate: list[list[Array]]
    batch: int


class Probe(Protocol):
    """What the engine lets a metric see. Each is measured when first asked for, and once."""

    @property
    def original_outputs(self) -> Outputs: ...
    @property
    def candidate_outputs(self) -> Outputs: ...
    @property
    def labels(self) -> Array | None: ...
    @property
    def groups(self) -> Array | None:
        """What samples belong together, one value a sample; they are resampled together."""

    @property
    def sizes(self) -> tuple[int, int]:
        """Bytes on disk of original and candidate."""

    def timing(self) -> Timing: ...

    def memory(self) -> tuple[list[int], list[int]]:
        """Peak resident bytes over those of a bare runtime, one value a fresh process, of original and candidate."""

    @property
    def seed(self) -> int: ...


class Metric(ABC):
    """What is measured of a model.

    Attributes:
        name: As people write it in goals.
        better: Which way is good.
        rank: Cheap ones are measured first.
        unit: What its numbers are in (`s`, `bytes`, empty for a share).
        quality: Whether it judges outputs (True) or cost (False). Quality metrics are also reported by slice.
        needs_labels: Whether it can't do without labels.
        of_classes: Whether it judges scores of classes, so that the class with the highest one is a prediction.
    """

    name: str
    better: Literal["lower", "higher"]
    rank: int
    unit: str = ""
    quality: bool = True
    needs_labels: bool = False
    of_classes: bool = False

    def check(self, outputs: Outputs, labels: Array | None) -> None:  # noqa: B027 (most need no check)
        """Refuse outputs or labels that this metric can't judge, before anything is searched.

        Raises:
            InvalidData: What is wrong with them, and the next step.
        """

    @abstractmethod
    def measure(self, probe: Probe, rows: Array | None = None) -> Comparison:
        """Measure candidate and original.

        Args:
            probe: What may be seen.
            rows: For a quality metric, the samples to judge by (a slice); None for all.
        """
