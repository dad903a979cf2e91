"""Timing as little as tells a model from one of half its speed; `python -m quickly` is a shell of strop's that does."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

from strop.timing import Effort

EFFORTS = (
    "trial.SEARCHING", "trial.CONFIRMING", "comparison.CONFIRMING", "verification.CONFIRMING", "profiling.PROFILING",
    "explanation.EXPLAINING",
)  # fmt: skip
"""Where it is said what measuring may take."""


def little(folder: Path) -> Effort:
    """What takes no time; a lock in a folder, so that nobody is waited for who measures elsewhere."""
    lock = folder / "measuring.lock"
    return Effort(pairs=2, blocks=4, seconds=0.02, runs=8, width=1.0, processes=1, lock=lock)


def environment(*folders: Path) -> dict[str, str]:
    """In which a process finds this file, and what lies in some folders."""
    path = [*folders, Path(__file__).parent, os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(folder) for folder in path if str(folder))}


def begin() -> None:
    """From here on, in a process that is a test's own."""
    for effort in EFFORTS:
        module, name = effort.split(".")
        setattr(importlib.import_module(f"strop.{module}"), name, little(Path.cwd()))


if __name__ == "__main__":
    from strop.cli import main

    begin()
    main()
