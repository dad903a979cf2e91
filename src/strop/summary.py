"""Summary: a file that `verify` writes besides what it says, such as JUnit XML: whole, or a named error."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from .errors import InvalidPlan
from .rundir import atomic


def check(flag: str, path: Path) -> None:
    """Refuse a path that can't be written, before anything is measured.

    Args:
        flag: That named it.

    Raises:
        InvalidPlan: Why not.
    """
    folder = path.parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        why = "is a folder" if path.is_dir() else "can't be written" if folder.is_dir() else "does not exist"
        which = path if path.is_dir() else folder
        raise InvalidPlan(f"{flag} names a file in a folder that can be written, and {which} {why}. Name another.")


def write(flag: str, path: Path, fill: Callable[[Path], object]) -> None:
    """Write a whole file or none; one that is there is replaced.

    Args:
        fill: Writes what it is to hold.

    Raises:
        InvalidPlan: It can't be written.
    """
    try:
        with atomic(path) as temporary:
            fill(temporary)
    except OSError as error:
        raise InvalidPlan(f"{flag} can't write {path} ({error.strerror}). Make room, or name another file.") from error
