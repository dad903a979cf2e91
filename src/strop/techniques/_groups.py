"""Models whose operators are in groups: what mixing needs of them, whatever their format."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Generic, Protocol, Self, TypeVar

from ..model import Model
from ..target import Target
from ..technique import Parts


class Grouped(Protocol):
    """A graph whose operators are in groups, and the same one in floats."""

    @property
    def members(self) -> Mapping[str, Sequence[str]]: ...
    def borders(self) -> Sequence[tuple[str, str, Sequence[str]]]: ...
    def passing(self, group: str) -> Sequence[str]: ...
    def telling(self, values: Iterable[str]) -> Self: ...
    def since(self, group: str) -> Self: ...
    @property
    def ranged(self) -> Collection[str]: ...
    @property
    def weights(self) -> Mapping[str, Collection[str]]: ...
    def widened(self, widths: Mapping[str, float]) -> Self: ...


G = TypeVar("G", bound=Grouped)


class InGroups(Parts, Generic[G]):
    """A model by its grouped graph: whatever is cut off it is a graph of that kind again."""

    def __init__(self, grouped: G, model: Model, target: Target):
        self.grouped, self.model, self.target = grouped, model, target
        self.members, self.borders, self.ranged = grouped.members, grouped.borders(), grouped.ranged
        self.weights = grouped.weights

    def passing(self, group: str) -> Sequence[str]:
        return self.grouped.passing(group)

    def telling(self, values: Iterable[str]) -> Self:
        return type(self)(self.grouped.telling(values), self.model, self.target)

    def widened(self, widths: Mapping[str, float]) -> Self:
        return type(self)(self.grouped.widened(widths), self.model, self.target)

    def since(self, group: str) -> Self:
        return type(self)(self.grouped.since(group), self.model, self.target)
