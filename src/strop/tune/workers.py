"""Workers: processes that outlive a fit, one thread each; or none, where one core is given."""

from __future__ import annotations

import functools
import os
import re
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .._plain import told
from ..errors import InvalidPlan
from ..jobs import die_with_parent

T = TypeVar("T")

IDLE = 60.0  # seconds after which a worker without work ends
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True, eq=False)
class _Job:
    function: Callable[..., Any]
    args: tuple[Any, ...]
    future: Future[Any] = field(default_factory=Future)


class Workers:
    """Runs functions, on at most as many cores as were given.

    With more than one, in processes of joblib's loky, which are reused by later searches: what is defined in a notebook
    or in `__main__` goes to them by value, no script is run again, and the data lie in memory once. They are strop's
    own: joblib takes the reusable executor of loky for its own, and fails on one that somebody else began.

    A process that dies takes the others with it. What ran in them is run again, one by one: what dies then, alone, is
    to blame, and its future ends in BrokenExecutor.
    """

    def __init__(self, count: int):
        self.count = count
        self._executor: Any = None
        self._flying: dict[Future[Any], _Job] = {}
        self._suspects: deque[_Job] = deque()
        self._alone = False

    def check(self, given: object) -> None:
        """Refuse what other processes can't be given.

        Raises:
            InvalidPlan: It can't be pickled.
        """
        import cloudpickle

        try:
            if self.count > 1:
                cloudpickle.dumps(given)
        except Exception as error:  # of whatever it holds
            raise InvalidPlan(
                f"What is fitted side by side must be something that other processes can be given, and it can't be "
                f"pickled: {told(error)}. Give threads=1, or take out of it what belongs to this process."
            ) from error

    def submit(self, function: Callable[..., T], *args: Any) -> Future[T]:
        """Begin, or run where there is one worker only."""
        job = _Job(function, args)
        self._fly(job)
        return job.future

    def done(self, timeout: float | None = None) -> set[Future[Any]]:
        """What has ended since, waiting for one at least; nothing where none does within `timeout` seconds."""
        until = None if timeout is None else time.monotonic() + timeout
        found: set[Future[Any]] = set()
        while not found:
            if self._suspects and not self._flying:
                self._alone = True
                self._fly(self._suspects.popleft())
            bound = None if until is None else min(max(0.0, until - time.monotonic()), threading.TIMEOUT_MAX)
            ended, _ = wait(self._flying, bound, FIRST_COMPLETED)
            if not ended:
                break
            found = self._taken(ended)
        return found

    @property
    def free(self) -> int:
        return 0 if self._suspects or self._alone else self.count - len(self._flying)

    def stop(self) -> None:
        """End what still runs, and the processes with it."""
        if self._flying:
            self._end()

    def _fly(self, job: _Job) -> None:
        flown: Future[Any]
        if self.count == 1:
            import threadpoolctl

            flown = Future()
            with threadpoolctl.threadpool_limits(1):
                flown.set_result(job.function(*job.args))
        else:
            try:
                flown = self._pool().submit(job.function, *job.args)
            except BrokenExecutor:  # a process died that had nothing to do
                self._end()
                flown = self._pool().submit(job.function, *job.args)
        self._flying[flown] = job

    def _taken(self, ended: set[Future[Any]]) -> set[Future[Any]]:
        """The futures of what ended; what a dying process took with it comes again."""
        broken = {flown for flown in ended if isinstance(flown.exception(), BrokenExecutor)}
        found = {self._told(flown) for flown in ended - (set() if self._alone else broken)}
        if broken:
            self._suspects.extend(self._flying.values())
            self._flying = {}
            self._end()
        self._alone = False
        return found

    def _told(self, flown: Future[Any]) -> Future[Any]:
        future = self._flying.pop(flown).future
        if (error := flown.exception()) is None:
            future.set_result(flown.result())
        else:
            future.set_exception(error)
        return future

    def _end(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(kill_workers=True)
            self._executor = None
            _executor.cache_clear()

    def _pool(self) -> Any:
        if self._executor is None:
            self._executor = _executor(self.count, os.getcwd(), tuple(sys.path))
        return self._executor


def died(error: BrokenExecutor) -> str:
    """Why there is no result of what took its process with it."""
    codes = re.search(r"exit codes of the workers are \{(.*?)\}", str(error))
    how = f" with {codes[1]}" if codes else ""
    return f"its process died{how}, also when it ran alone: a crash, or too little memory"


@functools.lru_cache(maxsize=1)
def _executor(count: int, folder: str, path: tuple[str, ...]) -> Any:
    """Processes that find modules where this one does now: a folder and a path they have from their beginning."""
    from joblib.externals.loky.process_executor import ProcessPoolExecutor

    return ProcessPoolExecutor(
        count, timeout=IDLE, initializer=_begin, initargs=(os.getpid(),), env=dict.fromkeys(THREADS, "1")
    )


def _begin(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
    os.dup2(2, 1)  # what a user's own functions print; standard output is for results
    die_with_parent(parent)
