"""Jobs: work done in another process, within a time and a memory limit. A crash there costs that job only."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, Generic, TypeVar

from . import _forks
from ._ending import Context
from ._lazy import lazy
from ._plain import told
from ._quiet import no_telemetry
from .errors import NotApplicable, RunFailed, StropError

psutil = lazy("psutil")

T = TypeVar("T")

NUMBERS = itertools.count(1)  # tell the jobs of this process apart
POLL = 0.25  # seconds between two looks at what a job uses
PATIENCE = 0.5  # seconds of waiting, after which it is said
ENDING = 2.0  # seconds that a job may take to end, once it has told what came of it


@dataclass(frozen=True)
class Limits:
    """What one job may use.

    Attributes:
        seconds: Of wall time, without what it waits for other jobs of this host (`waiting`).
        memory: Resident bytes of all its processes together.
        waiting: Seconds that it may wait; what goes beyond counts as its own time.
    """

    seconds: float
    memory: int
    waiting: float = 600.0


@dataclass(frozen=True)
class Ended(Generic[T]):
    """How a job ended: with a value, or a cause.

    Attributes:
        value: What the function returned.
        cause: `done`, `refused`, `failed`, `crashed`, `timeout` or `memory`.
        reason: For a person, where there is no value.
        peak: The most resident bytes seen of all its processes together.
        waited: Seconds that it waited for other jobs of this host.
    """

    cause: str
    value: T | None = None
    reason: str = ""
    error: BaseException | None = None
    peak: int = 0
    waited: float = 0.0

    def raise_unless_done(self, what: str = "the model could not be run") -> None:
        """Raise where there is no value.

        Args:
            what: What it was that could not be done, for the message.

        Raises:
            StropError: The one that ended the job, or RunFailed with the reason.
        """
        if isinstance(self.error, StropError):
            raise self.error
        if self.cause != "done":
            raise RunFailed(f"{what}: {self.reason}.") from self.error


def spawn_context() -> Context:
    """How strop starts what it measures, and all else but jobs: fresh, laid out in memory like no other."""
    return Context()


@contextlib.contextmanager
def without_main() -> Iterator[None]:
    """Keep a spawned process from running the caller's script again: jobs are never functions of `__main__`."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    # A process inherits what is blocked: Ctrl-C is the driver's to handle, from the first line on.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    held: list[int] = []  # another thread may be told of it, and a process half started would die with a traceback
    first = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, lambda number, frame: held.append(number)) if first else None
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        if first:
            signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if held:
        raise KeyboardInterrupt


def die_with_parent(parent: int | None = None) -> None:
    """End this process when its parent ends, however that happens (Linux; prctl(2), PR_SET_PDEATHSIG).

    Args:
        parent: Its process id; None where multiprocessing knows it.
    """
    if parent is None and (known := multiprocessing.parent_process()):
        parent = known.pid
    if sys.platform == "linux" and parent:
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before this one was ready to be told
            os._exit(1)


_driver: Connection | None = None
"""In a job: what tells its driver when it begins and when it ends to wait."""


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """While this process waits for other jobs of this host: of a job that is no time of its own."""
    _note_time()
    try:
        yield
    finally:
        _note_time()


def _note_time() -> None:
    if _driver is not None:
        _driver.send(time.monotonic())  # one clock for all processes of a host


def run(function: Callable[..., T], *args: Any, limits: Limits, waits: Callable[[], None] = lambda: None) -> Ended[T]:
    """Run a module-level function in a process of its own, which inherits no threads, locks or loaded runtimes.

    Never raises for what happens in there; a KeyboardInterrupt in here ends the job and is passed on.

    Args:
        waits: Called once, from a thread, when the job turns out to wait for others.
    """
    name, fresh = f"strop job {next(NUMBERS)}", _forks.Context()
    (heard, driver), (found, answer) = fresh.Pipe(duplex=False), fresh.Pipe(duplex=False)
    process = fresh.Process(name=name, target=_work, args=(driver, answer, function, args))
    try:
        with without_main():
            process.start()
    except KeyboardInterrupt:
        _kill_family(name)
        raise
    driver.close()
    answer.close()
    watch = _Watch(name, limits, heard, waits)
    try:
        status, value = _told(process, found)
        watch.stop()
        process.join(ENDING)
        # where it was to end, one of its processes was killed, and another may have lived to tell
        ended = watch.ended or _ended(status, value, process.exitcode)
        return replace(ended, peak=watch.peak, waited=watch.waited)
    finally:
        watch.stop()
        _kill_family(name)
        process.join()
        process.close()
        found.close()


def _told(process: BaseProcess, found: Connection) -> tuple[str, Any]:
    """What a job says that came of it; of one that says nothing, that it has crashed."""
    wait([found, process.sentinel])  # not for the pipe alone, of which another process may hold the other end
    try:
        return found.recv() if found.poll() else ("crashed", None)
    except (EOFError, OSError):  # it was cut off
        return "crashed", None
    except Exception as error:  # what it returned, which can't be brought here
        return "failed", _failure(error)


def _ended(status: str, value: Any, code: int | None) -> Ended[Any]:
    if status == "done":
        return Ended(status, value=value)
    if status == "crashed":
        return Ended(status, reason=f"its process {_death(code)}")
    return Ended(status, reason=str(value), error=value if isinstance(value, BaseException) else None)


def _kill_family(name: str | None = None) -> None:
    for process in _family(name):
        with contextlib.suppress(psutil.Error):
            process.suspend()  # or it starts another while its children are killed
    for process in _family(name):
        with contextlib.suppress(psutil.Error):
            process.kill()


def _family(name: str | None = None) -> list[Any]:
    """The processes started here and all below them; of one name, so that a caller's own are left alone.

    (Not simply all children: Python's resource tracker is one.)
    """
    family = []
    for child in multiprocessing.active_children():
        if name is not None and child.name != name:
            continue
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(child.pid)
            family += [*process.children(recursive=True), process]
    return family


def _work(driver: Connection, answer: Connection, function: Callable[..., T], args: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as do the processes that are started here
    outcome = _guarded(driver, function, args)
    try:
        answer.send(outcome)
    except Exception as error:  # what it returned, which can't be brought home
        answer.send(("failed", _failure(error)))


def _guarded(driver: Connection, function: Callable[..., T], args: tuple[Any, ...]) -> tuple[str, Any]:
    global _driver
    _driver = driver
    die_with_parent()
    no_telemetry()
    os.dup2(2, 1)  # libraries print; standard output belongs to the driver
    try:
        return "done", function(*args)
    except NotApplicable as error:
        return "refused", error
    except StropError as error:
        return "failed", error
    except MemoryError as error:
        return "memory", f"ran out of memory{f': {error}' if str(error) else ''}"
    except TimeoutError as error:
        return "timeout", str(error)
    except OSError as error:
        return "failed", _said(error)
    except BaseException as error:  # a bug, or code of the user's own that means to end the process: it ends the job
        return "failed", _failure(error)
    finally:
        _kill_family()


def _failure(error: BaseException) -> RuntimeError:
    """What stands for an error that is being handled, and may not survive the way to the driver."""
    failure = RuntimeError(_said(error))
    failure.add_note(traceback.format_exc())
    return failure


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {told(error)}"


class _Watch:
    """Looks at the time and at the memory that a job uses, all of its processes, and kills them over a limit."""

    def __init__(self, name: str, limits: Limits, heard: Connection, waits: Callable[[], None]):
        self.name, self.limits, self.peak = name, limits, 0
        self.ended: Ended[Any] | None = None
        self._heard, self._waits, self._times = (
            heard,
            waits,
            [time.monotonic()],
        )  # start, and what each wait lies between
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    @property
    def waited(self) -> float:
        """Seconds until now."""
        times = [*self._times[1:], time.monotonic()]
        return sum(end - begin for begin, end in zip(times[::2], times[1::2], strict=False))

    def _look(self) -> None:
        said = False
        while not self._done.wait(POLL):
            self._listen()
            if self.waited > PATIENCE and not said:
                said = True
                self._waits()
            used = 0
            for process in _family(self.name):
                with contextlib.suppress(psutil.Error):
                    used += process.memory_info().rss
            self.peak = max(self.peak, used)
            self.ended = self._over(used)
            if self.ended:
                _kill_family(self.name)
                return

    def _listen(self) -> None:
        with contextlib.suppress(EOFError, OSError):  # it has ended
            while self._heard.poll():
                self._times.append(self._heard.recv())

    def _over(self, used: int) -> Ended[Any] | None:
        seconds, memory = self.limits.seconds, self.limits.memory
        if used > memory:
            return Ended("memory", reason=f"used {used / 1e6:,.0f} MB, more than the limit of {memory / 1e6:,.0f} MB")
        allowed = min(self.waited, self.limits.waiting)
        if time.monotonic() - self._times[0] <= seconds + allowed:
            return None
        beside = (
            f", besides {allowed:.0f} s of waiting for another strop to end measuring" if allowed > PATIENCE else ""
        )
        return Ended("timeout", reason=f"took longer than {seconds:.0f} s{beside}")

    def stop(self) -> None:
        self._done.set()
        self._thread.join()
        self._listen()
        self._heard.close()


def _death(code: int | None) -> str:
    if code is None:
        return "ended without a word"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
