"""Rooms: what strop ships of a kind, and behind it what third parties register; each imported when it is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Room(Generic[T]):
    """The members of a room, of which a process that strop starts needs few, and would take longest to import all.

    Args:
        name: Of the room's package, which is also the group of entry points: `strop.techniques`.
        members: `file:name` of those that strop ships, in their order.
    """

    def __init__(self, name: str, members: Iterable[str]):
        self._name, self._own = name, tuple(member.partition(":")[::2] for member in members)

    def member(self, name: str) -> Any:
        """A member by its name, as the package's `__getattr__` gives it."""
        for file, member in self._own:
            if member == name:
                return getattr(import_module(f"{self._name}.{file}"), name)
        raise AttributeError(f"module {self._name!r} has no attribute {name!r}", name=name)

    def own(self) -> tuple[T, ...]:
        """What strop ships."""
        return tuple(self.member(member) for _, member in self._own)


def with_plugins(group: str, builtin: Iterable[T]) -> tuple[T, ...]:
    """The built-in members of a room, followed by those of installed packages.

    Args:
        group: Entry-point group, for instance `strop.techniques`.
        builtin: The members that strop ships.
    """
    from importlib.metadata import entry_points  # with packages of its own, which no server needs

    return (*builtin, *(entry.load() for entry in entry_points(group=group)))
