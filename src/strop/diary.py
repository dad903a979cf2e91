"""Diary: what a search tells, line by line in its run directory, so that others can follow it."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import IO, Any

import psutil

from . import events
from ._plain import restore
from .errors import RunFailed
from .events import Event, Listener, Measured, Tried, Working
from .judge import Report
from .rundir import as_written
from .trial import Outcome

KINDS = {kind.__name__: kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)}
WHOLE: dict[type[Event], tuple[str, Callable[[Any], Any]]] = {
    Measured: ("report", Report.of), Tried: ("outcome", Outcome.of),
}  # fmt: skip
NEAR = 10.0  # seconds by which a system's clock may be set anew: a number is not given again so soon
OFTEN = 1.0  # seconds between two lines on where a step is


class Diary:
    """Listens to a search and writes down what it tells, for as long as it is entered.

    Args:
        path: The file; a search that goes on goes on in it.
        listener: Is told the same.
    """

    def __init__(self, path: Path, listener: Listener):
        self.path, self.listener = path, listener
        self._file: IO[str] | None = None
        self._worked = 0.0

    def __enter__(self) -> Diary:
        self._file = self.path.open("a", encoding="utf-8")
        self._write({"begun": {"pid": os.getpid(), "since": psutil.Process().create_time()}})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        with contextlib.suppress(OSError):  # of a full disk, which may be what it ended in
            self._write({"ended": (str(error) or type(error).__name__) if error else ""})
        if self._file:
            self._file.close()

    def __call__(self, event: Event) -> None:
        if not isinstance(event, Working) or time.monotonic() - self._worked >= OFTEN:
            self._worked = time.monotonic() if isinstance(event, Working) else self._worked
            told = {field.name: getattr(event, field.name) for field in fields(event)}
            plain = {
                name: value.to_json() if isinstance(value, (Report, Outcome)) else value for name, value in told.items()
            }
            self._write({"event": type(event).__name__, "told": plain})
        self.listener(event)

    def _write(self, entry: dict[str, Any]) -> None:
        if self._file:
            self._file.write(json.dumps({"at": time.time(), **entry}) + "\n")
            self._file.flush()


@dataclass(frozen=True)
class Entry:
    """A line of a diary.

    Attributes:
        at: Seconds since 1970.
        event: What was told; None at the ends of a process that searches.
        begun: The process, by its number and the time when it was started.
        ended: The error that it ended in, or empty; None where it did not end here.
    """

    at: float
    event: Event | None = None
    begun: tuple[int, float] | None = None
    ended: str | None = None

    @property
    def alive(self) -> bool:
        """Whether the process that began here still runs."""
        try:
            return self.begun is not None and abs(psutil.Process(self.begun[0]).create_time() - self.begun[1]) < NEAR
        except psutil.Error:
            return False


class Reader:
    """Reads a diary as it grows.

    Raises:
        RunFailed: There is none.
    """

    def __init__(self, path: Path):
        try:
            there = stat.S_ISREG(path.stat().st_mode)  # a pipe would never end
        except OSError:
            there = False
        if not there:
            raise RunFailed(
                f"{path.parent} holds no search that can be followed (no {path.name}). Name the run directory of "
                "strop optimize, which is told in its first line, or that of strop tune --run."
            )
        self.path, self._read = path, 0

    def new(self) -> list[Entry]:
        """What was written since the last time, whole lines only.

        Raises:
            RunFailed: It is not what strop wrote.
        """
        with self.path.open("rb") as stream:
            stream.seek(self._read)
            whole, line_end, _ = stream.read().rpartition(b"\n")
        self._read += len(whole) + len(line_end)
        with as_written(self.path):
            return [_entry(json.loads(line)) for line in whole.splitlines() if line]


def _entry(plain: Any) -> Entry:
    if "event" not in plain:
        begun = plain.get("begun")
        return Entry(float(plain["at"]), None, (begun["pid"], begun["since"]) if begun else None, plain.get("ended"))
    event = restore(KINDS[plain["event"]], plain["told"])
    if isinstance(event, (Measured, Tried)):
        name, of = WHOLE[type(event)]
        event = replace(event, **{name: of(getattr(event, name))})
    return Entry(float(plain["at"]), event)
