"""Server: one model in a process of its own, that runs samples and times calls when asked to.

A crash or a hang in a runtime ends the server; who asked is told so.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import numpy as np

from ._plain import told
from ._quiet import no_telemetry
from .data import Data
from .disturbance import Strain, Watch
from .errors import RunFailed, StropError
from .jobs import die_with_parent, spawn_context
from .model import Batch, Model, Signature
from .outputs import store_outputs
from .rundir import atomic
from .runtime import Runner, Runtime, calls, predict
from .target import Target, pin, usable_cores

Array = np.ndarray[Any, Any]

DISTINCT = 32  # samples that take turns in a timed block
RUNS_A_BLOCK = 2  # at the least
MANY = 512  # samples of a call that is not timed
SPUN = 0.0005  # seconds before an arrival that are not slept, since a sleep may end late


@dataclass(frozen=True)
class Hosted:
    """A model and what runs it: all that a server needs to know."""

    model: Model
    runtime: Runtime
    target: Target


@dataclass(frozen=True)
class Block:
    """Calls that were timed one after another.

    Attributes:
        calls: Seconds of each.
        strain: What befell the process meanwhile.
    """

    calls: Array
    strain: Strain


class Server:
    """A process that holds one loaded model. Loading begins at once, and is waited for on entry.

    Args:
        hosted: What it runs.
        cores: What it is pinned to; empty for no pinning.

    Raises:
        RunFailed: The model can't be loaded or run, or its process died.
    """

    def __init__(self, hosted: Hosted, cores: Sequence[int] = ()):
        context = spawn_context()
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, hosted, tuple(cores)), daemon=True)
        self._process.start()
        theirs.close()
        self.name, self.cores = str(hosted.runtime), tuple(cores)
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

    def predict(self, data: Path, destination: Path, rows: Array | None = None) -> None:
        """Run samples of stored data, all or those at some positions, and store the outputs."""
        self._ask("predict", data, destination, rows)

    def prepare(self, data: Path, batch: int) -> int:
        """Bind a few dozen samples, which then take turns in `block`.

        Returns:
            The samples that each call carries: not those asked for, where the model has a batch of its own or none.
        """
        return self._ask("prepare", data, batch)  # type: ignore[no-any-return]

    def block(self, seconds: float) -> Block:
        """Time calls for so many seconds."""
        return self._ask("block", seconds)  # type: ignore[no-any-return]

    def serve(self, rate: float, seconds: float, seed: int) -> Block:
        """Answer calls that arrive at random times; the seconds of each run from its arrival.

        Args:
            rate: Calls a second that arrive, as a Poisson process.
            seconds: For how long they do.
            seed: Of the times: equal seeds, equal times.
        """
        return self._ask("serve", rate, seconds, seed)  # type: ignore[no-any-return]

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


def _serve(pipe: Connection, hosted: Hosted, cores: tuple[int, ...]) -> None:
    die_with_parent()
    no_telemetry()
    if cores:
        pin(cores)
    try:
        with blaming(hosted.runtime):
            state = Loaded(hosted, cores)
            pipe.send(None)
            while (question := pipe.recv()) is not None:
                verb, *arguments = question
                pipe.send(getattr(state, verb)(*arguments))
    except (EOFError, KeyboardInterrupt):
        return
    except StropError as error:
        pipe.send(error)


@contextlib.contextmanager
def blaming(runtime: Runtime) -> Iterator[None]:
    """What goes wrong in here does so in the runtime, or in a module's own code; who asked is told."""
    try:
        yield
    except (StropError, EOFError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise RunFailed(f"{runtime} failed: {type(error).__name__}: {told(error)}") from error


def together(hosted: Hosted) -> int:
    """Samples of a call that tells quality: the target's batch, or many where no sample depends on another."""
    batch = hosted.target.batch
    return max(batch, MANY) if hosted.model.format in hosted.runtime.apart else batch


class Loaded:
    """A model in this process, that does what a server is asked for."""

    def __init__(self, hosted: Hosted, cores: tuple[int, ...]):
        hosted.runtime.start()
        self.empty = _forget_peak()
        self.signature: Signature = hosted.model.signature
        self.batch = together(hosted)
        self.runner: Runner = hosted.runtime.load(hosted.model, hosted.target)
        self.bound: list[Callable[[], object]] = []
        self.turn = 0
        self.watch = Watch(cores or usable_cores())

    def predict(self, data: Path, destination: Path, rows: Array | None = None) -> None:
        samples = Data.load(data) if rows is None else Data.load(data).take(rows)
        outputs = predict(self.runner, self.signature, samples, self.batch)
        with atomic(destination) as temporary:
            store_outputs(temporary.with_suffix(".npz"), outputs)
            if temporary.suffix != ".npz":
                temporary.with_suffix(".npz").replace(temporary)

    def prepare(self, data: Path, batch: int) -> int:
        carried, feeds = first_feeds(self.signature, Data.load(data), batch)
        self.bound = [self.runner.bind(feed) for feed in feeds]
        return carried

    def block(self, seconds: float) -> Block:
        self.watch.strain()
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
        return Block(np.array(taken), self.watch.strain())

    def serve(self, rate: float, seconds: float, seed: int) -> Block:
        gaps = np.random.default_rng(seed).exponential(1 / rate, max(RUNS_A_BLOCK, round(rate * seconds)))
        self.watch.strain()
        taken: list[float] = []
        gc.disable()
        start = time.perf_counter()
        for arrival in (start + np.cumsum(gaps)).tolist():
            wait_until(arrival)
            self.bound[self.turn % len(self.bound)]()
            self.turn += 1
            taken.append(time.perf_counter() - arrival)
        gc.enable()
        return Block(np.array(taken), self.watch.strain())

    def memory(self, data: Path) -> int:
        loading, loaded = _peak_resident(), _forget_peak()
        first = itertools.islice(calls(self.signature, Data.load(data), self.batch), RUNS_A_BLOCK)
        feeds = [next(steps) for _, steps in first]
        before = _forget_peak()  # samples, and reading them, are none of the model's
        for feed in feeds:
            self.runner(feed)
        running = loaded + _peak_resident() - before
        return max(0, max(loading, running) - self.empty)


def wait_until(moment: float) -> None:
    """Sleep until shortly before a moment on the clock of `time.perf_counter`, then watch it come."""
    while (left := moment - time.perf_counter()) > 0:
        if left > SPUN:
            time.sleep(left - SPUN)


def first_feeds(signature: Signature, data: Data, batch: int) -> tuple[int, list[Batch]]:
    """The first step of the first calls, which is what is timed; and the samples that each of them carries.

    What is left for a last call, where that is less, would take less time.
    """
    first = itertools.islice(calls(signature, data, batch), max(2, DISTINCT // batch))
    sized = [(carried, next(steps)) for carried, steps in first]
    whole = sized[0][0]
    return whole, [feed for carried, feed in sized if carried == whole]


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
