"""Progress: how far a step is, told from a job to the driver through a file."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

Tell: TypeAlias = Callable[[float, str], None]

EVERY = 0.5  # seconds


class Teller:
    """Writes where a step is, and, while it says the same, not more often than is looked."""

    def __init__(self, path: Path):
        self._path, self._last, self._words = path, 0.0, ""

    def __call__(self, share: float, words: str) -> None:
        if words == self._words and time.monotonic() - self._last < EVERY:
            return
        self._last, self._words = time.monotonic(), words
        part = self._path.with_suffix(".new")
        with contextlib.suppress(OSError):  # of a full disk: what is told is not worth failing for
            part.write_text(json.dumps([share, words]))
            part.replace(self._path)


@contextlib.contextmanager
def passed_on(path: Path, tell: Tell) -> Iterator[None]:
    """While a job runs, pass on what its `Teller` writes."""
    done = threading.Event()

    def watch() -> None:
        last = ""
        while not done.wait(EVERY):
            with contextlib.suppress(OSError, ValueError, TypeError):
                if (text := path.read_text()) != last:
                    last = text
                    share, words = json.loads(text)
                    tell(float(share), str(words))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        path.unlink(missing_ok=True)
