"""A course of training: how far it goes, when it stops, which weights it keeps. Frameworks take the steps."""

from __future__ import annotations

import itertools
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import TechniqueError
from ..learning import Training
from ..spelling import option
from .batches import Batches, TrainBatch

WARMING = 0.05  # share of training in which the rate rises
PACE = 3  # steps after which the time of one is known
FEWEST = 20  # steps that the time left must do for, else nothing is learned
CHECKPOINT = 30.0  # seconds between two
LOOK = 20  # steps between two looks at what is held out, at the least
LOOKING = 0.03  # share of the time that one look may take
LARGEST_NORM = 5.0  # of gradients: one bad batch does not undo what was learned
SPARSE = 0.3  # share of exact zeros in a weight, from which on they are meant to stay; all of them are a beginning
ASKING = 0.4  # of the time left, that asking the original for all train data may take
RESERVE = 0.1  # share of the time left that is for what comes after training


@dataclass
class State:
    """Where a course stands; all of it goes into the checkpoint."""

    step: int = 0
    done: float = 0.0
    best: float = math.inf
    waited: int = 0
    weights: dict[str, Any] | None = None


class Course(ABC):
    """One training of one model.

    Args:
        batches: What it is trained on.
        training: How.
        share: Of the epochs.
        seconds: At the most.
        fewest: Steps that these must do for.
    """

    def __init__(self, batches: Batches, training: Training, share: float, seconds: float, fewest: int):
        self.batches, self.training, self.seconds, self.fewest = batches, training, seconds, fewest
        self.total = max(1, round(share * training.steps(batches.steps)))
        self.look = max(batches.steps, LOOK)
        self.state = State()
        self.begun, self.start = 0.0, time.monotonic()  # share done, and when, as this process took it up
        self.looked: int | None = None  # batches of what is held out, that a look takes in

    def run(self, checkpoint: Path | None, progress: Any) -> None:
        """Train to the end; the weights are then those that did best.

        Raises:
            TechniqueError: The loss is no number any more.
            TimeoutError: There is no time to learn anything.
        """
        if checkpoint is not None and checkpoint.exists():
            self._restore(checkpoint)
        self.begun, self.start, saved = self.state.done, time.monotonic(), time.monotonic()
        if self.state.step == 0:
            self._look_up()  # nothing is kept that is worse than what there was
        for batch in self._left():
            self._step(batch, self.state.done)
            self.state.step += 1
            self.state.done = self._share()
            self._check_pace()
            if (self.state.step % self.look == 0 or self.state.done >= 1) and self._look_up():
                break
            if checkpoint and time.monotonic() - saved > CHECKPOINT:
                checkpoint.parent.mkdir(parents=True, exist_ok=True)
                self._save(checkpoint)
                saved = time.monotonic()
            progress(self.state.done, f"epoch {1 + self.state.step / self.batches.steps:.1f}")
        if self.state.weights:
            self._take_up(self.state.weights)

    def rate(self, done: float) -> float:
        """The learning rate where so much of the course is behind."""
        return self.training.rate * schedule(self.training.schedule, done)

    def astray(self) -> str:
        """What is wrong where a loss is no number."""
        if self.state.step:
            return f"training has gone astray. Lower learning_rate (it is {self.training.rate:g})"
        return "it must be a number before anything is learned. Look at what is answered, the labels, loss and augment"

    @abstractmethod
    def _step(self, batch: TrainBatch, done: float) -> None:
        """Learn from a batch, where so much of the course is behind."""

    @abstractmethod
    def _judge(self, batch: TrainBatch) -> float:
        """The loss of a batch that is held out, all layers as they are when the model is used."""

    @abstractmethod
    def _weights(self) -> dict[str, Any]:
        """A copy of all that a step changes in the model."""

    @abstractmethod
    def _take_up(self, weights: dict[str, Any]) -> None:
        """Put such a copy into the model."""

    @abstractmethod
    def _save(self, checkpoint: Path) -> None: ...

    @abstractmethod
    def _restore(self, checkpoint: Path) -> None:
        """Go on from a checkpoint, where it is one of a model of these shapes."""

    def _left(self) -> Iterator[TrainBatch]:
        for epoch in itertools.count(self.state.step // self.batches.steps):
            for batch in self.batches.epoch(epoch, self.state.step % self.batches.steps):
                if self.state.done >= 1:
                    return
                yield batch

    def _share(self) -> float:
        """The share of the course that is behind, by steps or by the time of this process, whichever ends it first."""
        gone = (time.monotonic() - self.start) / max(self.seconds, 1e-9)
        return min(1.0, max(self.state.step / self.total, self.begun + (1 - self.begun) * gone))

    def _check_pace(self) -> None:
        steps, known = self.state.step / self.state.done, self.state.step >= PACE or self.state.done >= 1
        if known and steps < min(self.fewest, self.total):
            raise TimeoutError(
                f"the time left does for {steps:.0f} steps of training, and {self.fewest} are the least that is worth "
                f"anything. Give a longer {option('budget')}"
            )

    def _look_up(self) -> bool:
        """Judge by what is held out and keep the best weights; true where nothing was gained for long."""
        if not len(self.batches.held_out):
            return False
        total, samples, start = 0.0, 0, time.monotonic()
        for place, batch in enumerate(self.batches.apart()):
            total, samples = total + self._judge(batch) * len(batch.rows), samples + len(batch.rows)
            late = self.looked is None and time.monotonic() - start > LOOKING * self.seconds
            if late or place + 1 == self.looked:
                self.looked = place + 1  # so that all looks see the same
                break
        loss = total / samples
        if not math.isfinite(loss):
            raise TechniqueError(f"the loss of what is held out is {loss}: {self.astray()}")
        if loss < self.state.best:
            self.state = replace(self.state, best=loss, waited=0, weights=self._weights())
            return False
        self.state.waited += 1
        return self.state.waited >= self.training.patience


def schedule(kind: str, done: float) -> float:
    """The share of the peak rate."""
    if done < WARMING:
        return max(done / WARMING, 0.02)
    after = (done - WARMING) / (1 - WARMING)
    if kind == "cosine":
        return max(0.5 * (1 + math.cos(math.pi * after)), 1e-3)
    return max(1 - after, 1e-3) if kind == "linear" else 1.0


def stays_zero(zeros: float, sparse: bool) -> bool:
    """Whether the zeros of a weight, of which they are such a share, are meant to stay.

    Args:
        sparse: Whether every zero is.
    """
    return 0 < zeros < 1 and (sparse or zeros > SPARSE)
