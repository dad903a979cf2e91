"""Metric: what is measured of a running model, always beside the original."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np

from .stats import Comparison
from .target import Target

Array = np.ndarray[Any, Any]
Outputs = dict[str, Array]


Scenario: TypeAlias = Literal["single_stream", "offline", "server"]
"""How calls are made (MLPerf Inference, Reddi et al. 2020, section 3): one after another; as many samples a call as
are best for throughput; or at random times, as a Poisson process, each waiting for those before it."""


@dataclass(frozen=True)
class Timing:
    """Seconds that calls take, original and candidate in turn; in the `server` scenario, from arrival to answer.

    Attributes:
        original: One list a pair of processes, of one array a block.
        candidate: The same, block by block beside the original's.
        batches: Samples that one call carries, of original and candidate.
        repeated: Turns that were taken again because the machine was disturbed.
        disturbed: Turns that count although it was, since it went on.
        why: What disturbed it, for a person.
    """

    original: list[list[Array]]
    candidate: list[list[Array]]
    batches: tuple[int, int] = (1, 1)
    repeated: int = 0
    disturbed: int = 0
    why: str = ""


@dataclass(frozen=True)
class Scores:
    """One score a sample, whose mean is the metric; or two of them, whose sums have the metric as their ratio.

    Attributes:
        original: [n].
        candidate: [n], the same samples.
        groups: [n], what samples belong together; None where each is one of its own.
        least: The least score possible; minus infinity where that is not known.
        most: The greatest; infinity likewise.
        weights: [n], the denominators of a ratio of sums; None for 1 each.
        weights_candidate: [n], those of the candidate, where they are others: both are then between 0 and 1.
        exponential: Whether the metric is the exponential of that mean.
    """

    original: Array
    candidate: Array
    groups: Array | None = None
    least: float = 0.0
    most: float = 1.0
    weights: Array | None = None
    weights_candidate: Array | None = None
    exponential: bool = False


@dataclass(frozen=True)
class Draw:
    """What the processor drew while a block of calls ran.

    Attributes:
        joules: All of it, what it would have drawn when idle included.
        seconds: Length of the block.
        samples: That were run in it.
    """

    joules: float
    seconds: float
    samples: int


@dataclass(frozen=True)
class Metering:
    """Draws of blocks, original and candidate in turn.

    Attributes:
        original: One list a pair of processes, of one draw a block.
        candidate: The same, block by block beside the original's.
        source: The meter, for a person: a counter, or somebody's estimate.
    """

    original: list[list[Draw]]
    candidate: list[list[Draw]]
    source: str


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

    @property
    def compressed_sizes(self) -> tuple[int, int]:
        """The same, compressed."""

    @property
    def target(self) -> Target: ...

    def timing(self, scenario: Scenario) -> Timing:
        """Calls of original and candidate, as they are made in a scenario."""

    def metering(self) -> Metering:
        """What the processor draws, block by block.

        Raises:
            NotMeasurable: The machine has no meter that can be read.
        """

    def memory(self) -> tuple[list[int], list[int]]:
        """Peak resident bytes over those of a bare runtime, one value a fresh process, of original and candidate."""

    @property
    def seed(self) -> int: ...


class Metric(ABC):
    """What is measured of a model.

    Attributes:
        name: As people write it in goals.
        meaning: What it is, in a few words, where its name is no common one.
        better: Which way is good.
        rank: Cheap ones are measured first.
        unit: What its numbers are in (`s`, `bytes`, empty for a share).
        quality: Whether it judges outputs (True) or cost (False). Quality metrics are also reported by slice.
        share: Whether it is a share of decisions that are right in some sense, so that its power is known beforehand.
        scenario: Of a metric that is had from `Probe.timing`: which; more pairs of processes then narrow it.
        needs_labels: Whether it can't do without labels.
        of_classes: Whether it judges scores of classes, so that the class with the highest one is a prediction.
    """

    name: str
    better: Literal["lower", "higher"]
    rank: int
    meaning: str = ""
    unit: str = ""
    quality: bool = True
    share: bool = False
    scenario: Scenario | None = None
    needs_labels: bool = False
    of_classes: bool = False

    def check(self, outputs: Outputs, labels: Array | None) -> None:  # noqa: B027 (most need no check)
        """Refuse outputs or labels that this metric can't judge, before anything is searched.

        Raises:
            InvalidData: What is wrong with them, and the next step.
        """

    def by_sample(self, probe: Probe) -> Scores | None:
        """The scores of single samples, so that a candidate can be dropped while its samples are still being run.

        Returns:
            None where the metric is no mean of scores, and no ratio of sums.
        """
        return None

    def requires(self, target: Target) -> None:  # noqa: B027 (most can be measured anywhere)
        """Refuse to be measured here, before anything is searched.

        Raises:
            NotMeasurable: The machine can't tell it; why, and what would make it.
            InvalidPlan: The target lacks what the metric is computed from, and the user can give it.
        """

    def source(self, probe: Probe) -> str:
        """What its figures are had from, where its name does not say it; shown beside each, so that no estimate passes
        for a reading."""
        return ""

    @abstractmethod
    def measure(self, probe: Probe, rows: Array | None = None) -> Comparison:
        """Measure candidate and original.

        Args:
            probe: What may be seen.
            rows: For a quality metric, the samples to judge by (a slice); None for all.

        Raises:
            NotMeasurable: It can't be told here, as `requires` says, or it turned out so.
        """
