"""Crew: servers of one model that share its samples, on cores that would stand idle: only timing has to be alone."""

from __future__ import annotations

import contextlib
import queue
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from ._lazy import lazy
from .data import Data
from .metric import Outputs
from .outputs import load_outputs, store_outputs
from .rundir import atomic
from .server import Hosted, Loaded, Server, blaming, together
from .target import usable_cores

psutil = lazy("psutil")

Array = np.ndarray[Any, Any]
Pieces = queue.SimpleQueue[tuple[int, Array]]

JOIN = 3.0  # seconds that what is left would take, from which on others join: to start and to load takes them about one
HEAD = 8  # samples, by which that is told
PIECES = 4  # of what is left, for each of them: some are faster than others
COPIES = 4  # times what a model has on disk, that a server may take of memory ...
FREE_MEMORY = 0.1  # ... and what share of it those who join may take


class Predicts(Protocol):
    def predict(self, data: Path, destination: Path, rows: Array | None = None) -> None:
        """Run samples of stored data, all or those at some positions, and store the outputs."""
        ...


class Crew:
    """A first server, and others that join it where there is much to do, on cores of their own.

    Args:
        first: Has the model loaded.
        hosted: What the others are to run.
        cores: That the first may use.
        folder: Where outputs may be written for a while.
    """

    def __init__(self, first: Predicts, hosted: Hosted, cores: Sequence[int], folder: Path):
        self.first, self.hosted, self.cores, self.folder = first, hosted, cores, folder
        self._joined: list[Server] = []
        self._each: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for server in self._joined:
            server.__exit__()

    def predict(self, data: Path, rows: Array) -> Outputs:
        """What the model answers to samples at some positions, in that order.

        Raises:
            RunFailed: It can't be run, or a server died.
        """
        head = 0 if self._each is not None else min(len(rows), self._whole(HEAD))
        found = {-1: self._timed(data, rows[:head])} if head else {}
        left, pieces = rows[head:], Pieces()
        crew = self._helpers(len(left))
        size = self._whole(max(1, -(-len(left) // (PIECES * (1 + len(crew)))))) if crew else max(1, len(left))
        for place in range(0, len(left), size):
            pieces.put((place, left[place : place + size]))
        with ThreadPoolExecutor(max(1, len(crew))) as pool:
            at_work = [pool.submit(self._work, server, data, pieces, found) for server in crew]
            self._work(self.first, data, pieces, found)
            for one in at_work:
                one.result()
        parts = [found[place] for place in sorted(found)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _work(self, server: Predicts, data: Path, pieces: Pieces, found: dict[int, Outputs]) -> None:
        try:
            if isinstance(server, Server):
                server.__enter__()
            while True:
                place, rows = pieces.get_nowait()
                found[place] = self._run(server, data, rows)
        except queue.Empty:
            return
        except BaseException:  # what is left helps nobody
            with contextlib.suppress(queue.Empty):
                while True:
                    pieces.get_nowait()
            raise

    def _timed(self, data: Path, rows: Array) -> Outputs:
        start = time.monotonic()
        outputs = self._run(self.first, data, rows)
        self._each = (time.monotonic() - start) / len(rows)
        return outputs

    def _run(self, server: Predicts, data: Path, rows: Array) -> Outputs:
        with tempfile.TemporaryDirectory(prefix=".part-", dir=self.folder) as folder:
            destination = Path(folder) / "outputs.npz"
            server.predict(data, destination, rows)
            return load_outputs(destination)

    def _whole(self, samples: int) -> int:
        """As many samples, at the least, in calls that are full: what a call answers may hang on what else is in it."""
        fixed = (tensor.fixed_batch for tensor in self.hosted.model.signature.inputs if tensor.fixed_batch)
        size = next(fixed, together(self.hosted))
        return -(-samples // size) * size

    def _helpers(self, samples: int) -> Sequence[Server]:
        """Those who join the first, started where they have not been."""
        if samples * (self._each or 0.0) < JOIN:
            return ()
        if not self._joined:
            threads, need = self.hosted.target.threads, COPIES * max(1, self.hosted.model.size)
            free = [core for core in usable_cores() if core not in self.cores]
            room = int(FREE_MEMORY * psutil.virtual_memory().available / need)
            for number in range(min(len(free) // threads, room)):
                self._joined.append(Server(self.hosted, free[number * threads : (number + 1) * threads]))
        return self._joined


def run_here(hosted: Hosted, splits: Sequence[tuple[Path, Path]]) -> None:
    """Run a model over stored samples, split by split, and keep what it answers; in a job, which it may take down.

    Raises:
        RunFailed: It can't be loaded or run.
    """
    with blaming(hosted.runtime):
        state, cores = Loaded(hosted, ()), usable_cores()[-hosted.target.threads :]
    for data, destination in splits:
        with blaming(hosted.runtime), Crew(state, hosted, cores, destination.parent) as crew:
            outputs = crew.predict(data, np.arange(len(Data.load(data))))
        with atomic(destination) as temporary:
            store_outputs(temporary, outputs)
