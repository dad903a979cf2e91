"""Bench: original and candidate side by side, on the same samples and the same cores, each in its own process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from .data import Data
from .metering import take_turns
from .metric import Metering, Outputs, Timing
from .server import Hosted, Server
from .stats import bootstrap_timing
from .target import Target

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Effort:
    """How much measuring is worth its time.

    Attributes:
        pairs: Fresh pairs of processes, at the most.
        blocks: Timed blocks of each, in every pair.
        seconds: Length of a block.
        runs: Calls of each that must be timed in all; a bound on a high percentile needs hundreds.
        width: Half-width of the ratio's interval, relative, at which no further pair is started.
    """

    pairs: int = 3
    blocks: int = 6
    seconds: float = 0.05
    runs: int = 30
    width: float = 0.03


SEARCHING = Effort()
CONFIRMING = Effort(pairs=5, blocks=8, runs=100, width=0.015)

SETTLED = 0.05  # the last three block medians within this share of each other: warm
WARM_UP_BLOCKS = 12  # at the most
HOPELESS = 1.25  # a ratio proven above this is not worth a further pair
PROCESSES = 3  # fresh ones, to tell how much memory varies


@dataclass
class Bench:
    """Measures a candidate against the original. It is the `Probe` that metrics see.

    Attributes:
        original: The model as given, on its reference runtime.
        candidate: What is measured.
        split: Folder of the stored samples to judge by.
        original_outputs_file: Outputs of the original on them.
        folder: Where outputs of the candidate may be written.
    """

    original: Hosted
    candidate: Hosted
    split: Path
    original_outputs_file: Path
    folder: Path
    effort: Effort
    seed: int
    _server: Server | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._server:
            self._server.__exit__()

    @cached_property
    def data(self) -> Data:
        return Data.load(self.split)

    @cached_property
    def labels(self) -> Array | None:
        return self.data.label_array()

    @cached_property
    def groups(self) -> Array | None:
        return self.data.group_array()

    @cached_property
    def original_outputs(self) -> Outputs:
        return load_outputs(self.original_outputs_file)

    @cached_property
    def candidate_outputs(self) -> Outputs:
        with tempfile.TemporaryDirectory(prefix=".part-", dir=self.folder) as folder:
            destination = Path(folder) / "outputs.npz"
            with one_at_a_time():
                self._server = Server(self.candidate, pinned=True).__enter__()
                self._server.predict(self.split, destination)
            return load_outputs(destination)

    @property
    def sizes(self) -> tuple[int, int]:
        return self.original.model.size, self.candidate.model.size

    @property
    def target(self) -> Target:
        return self.candidate.target

    def timing(self) -> Timing:
        return self._timing

    @cached_property
    def _timing(self) -> Timing:
        timing = Timing([], [], self.candidate.target.batch)
        with one_at_a_time():
            for pair in range(self.effort.pairs):
                first, second = Server(self.original, pinned=True), self._candidate_server()
                with first, second:
                    ours, theirs = self._alternate(first, second, pair)
                timing.original.append(ours)
                timing.candidate.append(theirs)
                if self._enough(timing):
                    break
        return timing

    def _candidate_server(self) -> Server:
        """The server that ran the samples serves for the first pair too; every other pair gets a fresh one."""
        server, self._server = self._server or Server(self.candidate, pinned=True), None
        return server

    def _alternate(self, first: Server, second: Server, pair: int) -> tuple[list[Array], list[Array]]:
        for server in (first, second):
            server.prepare(self.split)
            warm_up(server, self.effort.seconds)
        ours: list[Array] = []
        theirs: list[Array] = []
        wanted = self.effort.runs / self.effort.pairs
        while len(ours) < self.effort.blocks or min(sum(map(len, ours)), sum(map(len, theirs))) < wanted:
            # who goes first changes from block to block, so that neither always runs in the other's wake
            for server, blocks in [(first, ours), (second, theirs)][:: 1 if (len(ours) + pair) % 2 else -1]:
                blocks.append(server.block(self.effort.seconds))
        return ours, theirs

    def _enough(self, timing: Timing) -> bool:
        ratio = bootstrap_timing(timing.original, timing.candidate, "p50", self.seed, resamples=100).ratio()
        narrow = (ratio.high - ratio.low) / 2 < self.effort.width * ratio.value
        return ratio.low > HOPELESS or (narrow and len(timing.original) > 1)

    def memory(self) -> tuple[list[int], list[int]]:
        return self._memory

    @cached_property
    def _memory(self) -> tuple[list[int], list[int]]:
        peaks: tuple[list[int], list[int]] = ([], [])
        for _ in range(PROCESSES):
            for hosted, found in zip((self.original, self.candidate), peaks, strict=True):
                with Server(hosted, pinned=True) as server:
                    found.append(server.memory(self.split))
        return peaks

    def metering(self) -> Metering:
        return self._metering

    @cached_property
    def _metering(self) -> Metering:
        with one_at_a_time():
            return take_turns(self.original, self.candidate, self.split)


def warm_up(server: Server, seconds: float) -> None:
    """Run until the medians of three blocks on end agree."""
    medians: list[float] = []
    for _ in range(WARM_UP_BLOCKS):
        medians.append(float(np.median(server.block(seconds))))
        last = medians[-3:]
        if len(last) == 3 and max(last) - min(last) < SETTLED * min(last):
            return


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Hold the host's lock for measuring: two at once would disturb each other."""
    path = Path(tempfile.gettempdir()) / "strop-measuring.lock"
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(path, flags)  # another user's, perhaps: there it may be read only, and not with O_CREAT
    except FileNotFoundError:
        descriptor = os.open(path, flags | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def load_outputs(path: Path) -> Outputs:
    """Read stored outputs."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
