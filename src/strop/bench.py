"""Bench: original and candidate side by side, on the same samples and the same cores, each in its own process."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from .crew import Crew
from .data import Data
from .decision import Decision
from .disturbance import quiet_cores
from .goal import Goal
from .jobs import PATIENCE
from .metering import take_turns
from .metric import Metering, Outputs, Scenario, Timing
from .outputs import load_outputs
from .server import Hosted, Server
from .target import Target
from .timing import Effort, Turns, best_batch, one_at_a_time

Array = np.ndarray[Any, Any]

FIRST_LOOK = 64  # samples; every later look has twice as many


@dataclass(frozen=True)
class Judged:
    """The samples that were run, and what both models answer to them: row for row the same."""

    data: Data
    original: Outputs
    candidate: Outputs


@dataclass
class Bench:
    """Measures a candidate against the original. It is the `Probe` that metrics see.

    Attributes:
        original: The model as given, on its reference runtime.
        candidate: What is measured.
        split: Folder of the stored samples to judge by.
        original_outputs_file: Outputs of the original on them.
        folder: Where outputs of the candidate may be written.
        effort: What timing may take.
        seed: Of resamples, and of the order in which samples are run.
        decision: What it is for.
        deadline: When timing should come to its end, on the clock of `time.monotonic`.
        itself: Whether the candidate is the original, so that what it answers is known.
    """

    original: Hosted
    candidate: Hosted
    split: Path
    original_outputs_file: Path
    folder: Path
    effort: Effort
    seed: int
    decision: Decision = field(default_factory=lambda: Decision(Goal(())))
    deadline: float = float("inf")
    itself: bool = False
    _server: Server | None = field(default=None, init=False)
    _timings: dict[Scenario, Timing] = field(default_factory=dict, init=False)
    _notes: list[str] = field(default_factory=list, init=False)
    _waited: float = field(default=0.0, init=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._server:
            self._server.__exit__()

    @property
    def data(self) -> Data:
        """Of all samples, without a race: then nothing need be run to know which are judged."""
        return self._judged.data if self.decision.race else self._whole

    @cached_property
    def _whole(self) -> Data:
        return Data.load(self.split)

    @cached_property
    def labels(self) -> Array | None:
        return self.data.label_array()

    @cached_property
    def groups(self) -> Array | None:
        return self.data.group_array()

    @property
    def original_outputs(self) -> Outputs:
        return self._judged.original if self.decision.race else self._stored

    @cached_property
    def _stored(self) -> Outputs:
        return load_outputs(self.original_outputs_file)

    @property
    def candidate_outputs(self) -> Outputs:
        """Of all samples, or, where a limit was proven broken before, of those that were run: then all else is cut."""
        return self._judged.candidate

    @cached_property
    def _judged(self) -> Judged:
        if self.itself:
            return Judged(self._whole, self._stored, self._stored)
        self._server = server = Server(self.candidate, quiet_cores(self.candidate.target.threads)).__enter__()
        with Crew(server, self.candidate, server.cores, self.folder) as crew:
            return self._raced(crew) if self.decision.race else self._all(crew)

    def _all(self, crew: Crew) -> Judged:
        return Judged(self._whole, self._stored, crew.predict(self.split, np.arange(len(self._whole))))

    def _raced(self, crew: Crew) -> Judged:
        whole, original = self._whole, self._stored
        order, ends = _drawn(len(whole), whole.group_array(), self.seed)
        itself = self._glimpse({"_judged": Judged(whole, original, original)})
        parts: list[Outputs] = []
        for start, stop in itertools.pairwise(_looks(ends)):
            rows = order[:stop]
            parts.append(crew.predict(self.split, order[start:stop]))
            outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            known = Judged(whole.take(rows), {name: array[rows] for name, array in original.items()}, outputs)
            if stop < len(order) and self.decision.lost(self._glimpse({"_judged": known}), itself):
                self._notes.append(f"dropped after {stop:,} of {len(order):,} samples")
                return known
        places = np.argsort(order)
        return Judged(whole, original, {name: array[places] for name, array in outputs.items()})

    def _glimpse(self, known: Mapping[str, Any]) -> Self:
        """This bench as far as it has come: what is known so far stands for what would be measured."""
        view = copy.copy(self)
        for cached in ("labels", "groups"):
            view.__dict__.pop(cached, None)
        view.__dict__.update(known)
        return view

    @property
    def sizes(self) -> tuple[int, int]:
        return self.original.model.size, self.candidate.model.size

    @property
    def compressed_sizes(self) -> tuple[int, int]:
        return self.original.model.compressed, self.candidate.model.compressed

    @property
    def target(self) -> Target:
        return self.candidate.target

    def timing(self, scenario: Scenario) -> Timing:
        if scenario not in self._timings:
            self._timings[scenario] = self._time(scenario)
        return self._timings[scenario]

    def _time(self, scenario: Scenario) -> Timing:
        def enough(timing: Timing) -> bool:
            so_far = self._glimpse({"_timings": {**self._timings, scenario: timing}})
            return self.decision.timed_enough(so_far, scenario)

        with one_at_a_time(self.effort.lock) as waited:
            self._wait(waited)
            server, self._server = self._server, None
            batches = (self.target.batch, self.target.batch)
            if scenario == "offline":
                batches = best_batch(self.original, self.split), best_batch(self.candidate, self.split)
            rate = self.target.rate if scenario == "server" else None
            turns = Turns(self.original, self.candidate, self.split, batches, self.effort, self.deadline, rate)
            return turns.take(enough, server)

    def _wait(self, seconds: float) -> None:
        """Waiting for another strop takes nothing from what measuring may take."""
        self.deadline += seconds
        self._waited += seconds

    def notes(self) -> tuple[str, ...]:
        """What a person should know of how it was measured: dropped early, waited for, disturbed."""
        said = list(self._notes)
        if self._waited > PATIENCE:
            said.append(f"waited {self._waited:.0f} s for another strop to end measuring on this machine")
        for scenario, timing in self._timings.items():
            turns = sum(map(len, timing.original))
            if timing.disturbed:
                said.append(
                    f"{timing.disturbed} of {turns} turns of the {scenario} timing were disturbed ({timing.why}), also "
                    "when they were taken again: their spread is in the intervals; measure again on a quiet machine"
                )
            elif timing.repeated:
                said.append(
                    f"{timing.repeated} turns of the {scenario} timing were disturbed ({timing.why}), and taken again"
                )
        return tuple(said)

    def memory(self) -> tuple[list[int], list[int]]:
        return self._memory

    @cached_property
    def _memory(self) -> tuple[list[int], list[int]]:
        peaks: tuple[list[int], list[int]] = ([], [])
        for _ in range(self.effort.processes):
            for hosted, found in zip((self.original, self.candidate), peaks, strict=True):
                with Server(hosted, hosted.target.cores()) as server:
                    found.append(server.memory(self.split))
        return peaks

    def metering(self) -> Metering:
        return self._metering

    @cached_property
    def _metering(self) -> Metering:
        with one_at_a_time(self.effort.lock) as waited:
            self._wait(waited)
            return take_turns(self.original, self.candidate, self.split)


def _drawn(count: int, groups: Array | None, seed: int) -> tuple[Array, Array]:
    """Positions of samples in random order, those of a group together; and the counts at which a group ends."""
    rng = np.random.default_rng(seed)
    if groups is None:
        return rng.permutation(count), np.arange(1, count + 1)
    _, group = np.unique(groups, return_inverse=True)
    place = rng.permutation(group.max() + 1)[group]
    return np.argsort(place, kind="stable"), np.cumsum(np.bincount(place))


def _looks(ends: Array) -> Iterator[int]:
    """Where to look: 0, 64, 128, 256, ... (or where the group ends that is begun then), and all."""
    yield 0
    step, last = FIRST_LOOK, int(ends[-1])
    while step < last and (stop := int(ends[np.searchsorted(ends, step)])) < last:
        yield stop
        step = 2 * stop
    yield last
