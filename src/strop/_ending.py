"""Ending: processes that are gone as soon as they have done what they owe."""

from __future__ import annotations

import atexit
import ctypes
import gc
import io
import os
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, NoReturn

WRITERS = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)


class _Process(SpawnProcess):
    """Ends as multiprocessing lets those end that it forks, not as an interpreter does."""

    def _bootstrap(self, *args: Any, **kwargs: Any) -> NoReturn:
        end(super()._bootstrap(*args, **kwargs))  # type: ignore[misc]


class Context(SpawnContext):
    """Starts processes that are fresh: they inherit no threads, locks or loaded runtimes."""

    Process = _Process


def end(code: int) -> NoReturn:
    """End this process, with all that it owes: what is to be done at exit, such as removing folders, and what was
    written to files and is not there yet.

    After that an interpreter takes all its modules apart, most of a second's work where PyTorch is among them, to give
    back what the system takes back anyway.
    """
    try:
        atexit._run_exitfuncs()
        for thing in gc.get_objects():
            if issubclass(type(thing), WRITERS) and not thing.closed and thing.writable():
                thing.flush()
        ctypes.CDLL(None).fflush(None)  # what compiled code has printed
    finally:
        os._exit(code & 0xFF)
