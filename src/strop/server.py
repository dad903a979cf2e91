"""Server: one model in a process of its own, that runs samples and times calls when asked to.

A crash or a hang in a runtime ends the server; who asked is told so.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import numpy as np

from ._quiet import no_telemetry
from .data import Data
from .errors import RunFailed, StropError
from .jobs import die_with_parent, spawn_context
from .model import Batch, Model, Signature
from .rundir import atomic
from .runtime import Runner, Runtime, calls, predict
from .target import Target

Array = np.ndarray[Any, Any]

DISTINCT = 32  # inputs that take turns in a timed block
RUNS_A_BLOCK = 2  # at the least


@dataclass(frozen=True)
class Hosted:
    """A model and what runs it: all that a server needs to know."""

    model: Model
    runtime: Runtime
    target: Target


class Server:
    """A process that holds one loaded model. Loading begins at once, and is waited for on entry.

    Raises:
        RunFailed: The model can't be loaded or run, or its process died.
    """

    def __init__(self, hosted: Hosted, pinned: bool):
        context = spawn_context()
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, hosted, pinned), daemon=True)
        self._process.start()
        theirs.close()
        self.name = str(hosted.runtime)
        self._loaded = False

    def __enter__(self) -> Self:
        if not self._loaded:
            self._receive()
            self._loaded = True
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(OSError):
            self._pipe.send(None)
        self._process.join(timeout=2)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._pipe.close()

    def predict(self, data: Path, destination: Path) -> None:
        """Run all samples of stored data and store the outputs."""
        self._ask("predict", data, destination)

    def prepare(self, data: Path) -> None:
        """Bind a few dozen inputs, which then take turns in `block`."""
        self._ask("prepare", data)

    def block(self, seconds: float) -> Array:
        """Time calls for so many seconds; the seconds of each call come back."""
        return self._ask("block", seconds)  # type: ignore[no-any-return]

    def memory(self, data: Path) -> int:
        """Peak resident bytes of loading the model and of calls, over those of its runtime with no model loaded.

        Memory-mapped weights count as far as they were resident. Asked of a process that has done nothing else.
        """
        return self._ask("memory", data)  # type: ignore[no-any-return]

    def _ask(self, *question: object) -> Any:
        try:
            self._pipe.send(question)
        except OSError as error:
            raise RunFailed(self._obituary()) from error
        return self._receive()

    def _receive(self) -> Any:
        try:
            answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise RunFailed(self._obituary()) from error
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _obituary(self) -> str:
        self._process.join(timeout=5)
        code = self._process.exitcode
        how = f"signal {-code}" if code and code < 0 else f"code {code}"
        return f"{self.name} crashed: its process ended with {how}"


def _serve(pipe: Connection, hosted: Hosted, pinned: bool) -> None:
    die_with_parent()
    no_telemetry()
    if pinned and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, hosted.target.cores())
    try:
        state = _Loaded(hosted)
        pipe.send(None)
        while (question := pipe.recv()) is not None:
            verb, *arguments = question
            pipe.send(getattr(state, verb)(*arguments))
    except (EOFError, KeyboardInterrupt):
        return
    except StropError as error:
        pipe.send(error)
    except Exception as error:  # of the runtime, whose exceptions nobody knows; who asked is told
        pipe.send(RunFailed(f"{hosted.runtime} failed: {type(error).__name__}: {error}"))


class _Loaded:
    def __init__(self, hosted: Hosted):
        hosted.runtime.start()
        self.empty = _forget_peak()
        self.signature: Signature = hosted.model.signature
        self.batch = hosted.target.batch
        self.runner: Runner = hosted.runtime.load(hosted.model, hosted.target)
        self.bound: list[Callable[[], object]] = []
        self.turn = 0

    def predict(self, data: Path, destination: Path) -> None:
        outputs = predict(self.runner, self.signature, Data.load(data), self.batch)
        with atomic(destination) as temporary:
            np.savez(temporary.with_suffix(".npz"), allow_pickle=False, **outputs)
            if temporary.suffix != ".npz":
                temporary.with_suffix(".npz").replace(temporary)

    def prepare(self, data: Path) -> None:
        self.bound = [self.runner.bind(feed) for feed in _first_feeds(self.signature, Data.load(data), self.batch)]

    def block(self, seconds: float) -> Array:
        clock, bound, count = time.perf_counter, self.bound, len(self.bound)
        taken: list[float] = []
        gc.disable()
        end = clock() + seconds
        while True:
            call = bound[self.turn % count]
            self.turn += 1
            start = clock()
            call()
            stop = clock()
            taken.append(stop - start)
            if stop >= end and len(taken) >= RUNS_A_BLOCK:
                break
        gc.enable()
        return np.array(taken)

    def memory(self, data: Path) -> int:
        loading, loaded = _peak_resident(), _forget_peak()
        first = itertools.islice(calls(self.signature, Data.load(data), self.batch), RUNS_A_BLOCK)
        feeds = [next(steps) for _, steps in first]
        before = _forget_peak()  # samples, and reading them, are none of the model's
        for feed in feeds:
            self.runner(feed)
        running = loaded + _peak_resident() - before
        return max(0, max(loading, running) - self.empty)


def _first_feeds(signature: Signature, data: Data, batch: int) -> list[Batch]:
    """The first step of the first calls: what is timed."""
    feeds = []
    for _, steps in calls(signature, data, batch):
        feeds.append(next(steps))
        if len(feeds) == DISTINCT:
            break
    return feeds


def _forget_peak() -> int:
    """Let the peak begin anew at what is resident now, so that what was so for a moment before hides nothing after.

    Returns:
        Resident bytes now; where the peak can't be forgotten (Linux can, see proc(5)), the peak so far.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak_resident()


def _peak_resident() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
