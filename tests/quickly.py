"""Timing as little as tells a model from one of half its speed; `python -m quickly` is a shell of strop's that does.

What is timed is forked as well, from a job of its own that has imported strop: it begins in a fifth of the time.
Where nothing is told from another by a few percent, it matters little that all are laid out alike in memory.
"""

from __future__ import annotations

import importlib
import os
import socket
from multiprocessing import connection, forkserver
from pathlib import Path

from strop import _forks, server
from strop.jobs import die_with_parent
from strop.timing import Effort

EFFORTS = (
    "trial.SEARCHING", "trial.CONFIRMING", "comparison.CONFIRMING", "verification.CONFIRMING", "profiling.PROFILING",
    "explanation.EXPLAINING",
)  # fmt: skip
"""Where it is said what measuring may take."""


def little(folder: Path) -> Effort:
    """What takes no time; a lock in a folder, so that nobody is waited for who measures elsewhere."""
    lock = folder / "measuring.lock"
    return Effort(pairs=2, blocks=4, seconds=0.01, runs=16, width=1.0, processes=1, lock=lock)


class _Job(_forks._Process):
    def run(self) -> None:
        _fork_from_here()
        server.spawn_context = _forks.Context  # type: ignore[assignment]
        super().run()


class Context(_forks.Context):
    """Starts jobs whose servers are forked."""

    Process = _Job


def _fork_from_here() -> None:
    """Begin a child that forks what this process starts: it has loaded no runtime yet, and is killed with this one."""
    known, parent = forkserver._forkserver, os.getpid()
    with socket.socket(socket.AF_UNIX) as listener:
        known._forkserver_address = connection.arbitrary_address("AF_UNIX")
        listener.bind(known._forkserver_address)
        listener.listen()
        alive, known._forkserver_alive_fd = os.pipe()
        known._forkserver_pid = os.fork()
        if known._forkserver_pid == 0:
            try:
                die_with_parent(parent)
                os.close(known._forkserver_alive_fd)
                forkserver.main(listener.fileno(), alive, None)
            finally:
                os._exit(0)
        os.close(alive)


def environment(*folders: Path) -> dict[str, str]:
    """In which a process finds this file, and what lies in some folders."""
    path = [*folders, Path(__file__).parent, os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(folder) for folder in path if str(folder))}


def begin() -> None:
    """From here on, in a process that is a test's own."""
    for effort in EFFORTS:
        module, name = effort.split(".")
        setattr(importlib.import_module(f"strop.{module}"), name, little(Path.cwd()))
    _forks.Context = Context  # type: ignore[misc]


if __name__ == "__main__":
    from strop.cli import main

    importlib.import_module("quickly").begin()  # jobs know classes of this file, and none of a script
    main()
