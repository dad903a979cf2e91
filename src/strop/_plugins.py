"""What third parties register: entry points, read once, behind the built-in tuple of a room."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import TypeVar

T = TypeVar("T")


def with_plugins(group: str, builtin: Iterable[T]) -> tuple[T, ...]:
    """The built-in members of a room, followed by those of installed packages.

    Args:
        group: Entry-point group, for instance `strop.techniques`.
        builtin: The members that strop ships.
    """
    return (*builtin, *(entry.load() for entry in entry_points(group=group)))
