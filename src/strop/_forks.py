"""Forks: processes that begin with strop imported, from one that has imported it and done nothing else.

It runs no code but that of the imports, and so has no locks that are held, and no runtime that has begun threads. A
process that imports all by itself takes most of a second for it, which a search spends on every candidate.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Iterator
from multiprocessing import forkserver, popen_forkserver, resource_tracker
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any, NoReturn

from ._ending import end
from .target import pin, usable_cores

IMPORTED = ("strop.trial", "scipy.optimize", "scipy.special", "pydantic")
"""What most jobs need; what a model needs is for them to import."""

LIKEWISE = ("torch", "sklearn.pipeline", "sklearn.ensemble", "skops.io", "lightgbm", "xgboost")
"""What takes a second and computes nothing then: theirs from the start, where the one that starts them has it."""

OUTPUTS = (1, 2)  # the descriptors of standard output and error


class _Popen(popen_forkserver.Popen):
    def _launch(self, process: Any) -> None:
        for output in OUTPUTS:  # the first that are sent: those of the one that forks are as they were when it began
            self.duplicate_for_child(output)
        process.environment, process.cores = dict(os.environ), usable_cores()
        forkserver.set_forkserver_preload([*IMPORTED, *(name for name in LIKEWISE if name in sys.modules)])
        resource_tracker.ensure_running()  # which lets interrupts through again, once it has begun
        with _no_interrupt():  # by Ctrl-C, which all processes of a terminal get, while it still imports
            forkserver.ensure_running()
        super()._launch(process)  # type: ignore[misc]


@contextlib.contextmanager
def _no_interrupt() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Process(ForkServerProcess):
    """Has the environment, the outputs and the cores of the one that starts it, and ends with it."""

    environment: dict[str, str]
    cores: list[int]

    @staticmethod
    def _Popen(process: Any) -> _Popen:
        return _Popen(process)

    def _bootstrap(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._parent_pid = os.getppid()  # the one that forks, which ends with the last that can ask it ...
        os.close(forkserver._forkserver._forkserver_alive_fd)  # type: ignore[attr-defined]  # ... of whom this is none
        for output, given in zip(OUTPUTS, forkserver.get_inherited_fds() or (), strict=False):
            os.dup2(given, output)
            os.close(given)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        os.environ.clear()
        os.environ.update(self.environment)
        pin(self.cores)
        gc.freeze()  # what was imported stays: to look through it at each collection and at the end took most of a job
        end(super()._bootstrap(*args, **kwargs))  # type: ignore[misc]


class Context(ForkServerContext):
    """Starts processes that are fresh but for what they would import first."""

    Process = _Process
