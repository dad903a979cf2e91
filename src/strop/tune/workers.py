"""Workers: processes that outlive a fit, one thread each; or none, where one core is given."""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, TypeVar

from .._plain import told
from ..errors import InvalidPlan
from ..jobs import die_with_parent

T = TypeVar("T")

IDLE = 60.0  # seconds after which a worker without work ends
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class Workers:
    """Runs functions, on at most as many cores as were given.

    With more than one, in processes of joblib's loky, which are reused by later searches: what is defined in a notebook
    or in `__main__` goes to them by value, no script is run again, and the data lie in memory once. They are strop's
    own: joblib takes the reusable executor of loky for its own, and fails on one that somebody else began.
    """

    def __init__(self, count: int):
        self.count = count
        self._executor: Any = None
        self._flying: set[Future[Any]] = set()

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
        future: Future[T]
        if self.count == 1:
            future = Future()
            future.set_result(self._alone(function, *args))
        else:
            future = self._pool().submit(function, *args)
        self._flying.add(future)
        return future

    def done(self, timeout: float | None = None) -> set[Future[Any]]:
        """What has ended since, waiting for one at least; nothing where none does within `timeout` seconds."""
        bound = None if timeout is None else min(max(0.0, timeout), threading.TIMEOUT_MAX)
        ended, self._flying = wait(self._flying, bound, FIRST_COMPLETED)
        return ended

    @property
    def free(self) -> int:
        return self.count - len(self._flying)

    def renew(self) -> None:
        """After a process died, which takes the others with it."""
        self.stop()
        self._flying = set()

    def stop(self) -> None:
        """End what still runs, and the processes with it."""
        if self._executor is not None and self._flying:
            self._executor.shutdown(kill_workers=True)
            self._executor = None
            _executor.cache_clear()

    def _alone(self, function: Callable[..., T], *args: Any) -> T:
        import threadpoolctl

        with threadpoolctl.threadpool_limits(1):
            return function(*args)

    def _pool(self) -> Any:
        if self._executor is None:
            self._executor = _executor(self.count)
        return self._executor


@functools.cache
def _executor(count: int) -> Any:
    from joblib.externals.loky.process_executor import ProcessPoolExecutor

    return ProcessPoolExecutor(
        count, timeout=IDLE, initializer=_begin, initargs=(os.getpid(),), env=dict.fromkeys(THREADS, "1")
    )


def _begin(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
    die_with_parent(parent)
