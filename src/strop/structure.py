"""Structure: what a model is made of, as its format tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Layer:
    """One part of a model.

    Attributes:
        name: As the model spells it.
        operator: The kind of work.
        operations: For one sample, in the unit of the operator: multiply-adds, or comparisons of a forest. Where a
            layer holds others (a branch, a loop), theirs. None where that can't be told.
        bytes: Of the weights that it is the first to read, as the file has them; where that packs them, as arrays do.
        parameters: Numbers among them that were learned.
        reads: The values, computed or put in, that go into it.
        writes: Those that it computes.
        weights: Bytes of all the weights that it reads in a call, whoever was the first.
        place: Where in the source it came from, as the layers of a PyTorch module; empty where that is not known.
        waits: Whether what it reads next is told by what it has just read, as in a tree: then each read waits for the
            one before.
    """

    name: str
    operator: str
    operations: float | None
    bytes: int
    parameters: int = 0
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    weights: float = 0.0
    place: str = ""
    waits: bool = False


@dataclass(frozen=True)
class Structure:
    """What a profile tells of a model besides its times.

    Attributes:
        layers: All parts that take time, each after those that it reads from.
        facts: What the format has to tell, as plain data under names of its own. `columns`, where it is there, lists
            the columns of a table that are looked at (`name`, `splits`, and `gain`, a share, or None where the model
            does not tell), and `unused` names the others.
        told: The same for a person: a word, and a sentence under it.
        values: Bytes of the values that layers read and write, for one sample; those of no known size are left out.
        results: The values that are outputs of the model.
        missing: What could not be told, in sentences.
    """

    layers: tuple[Layer, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    told: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    results: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def operations(self) -> float:
        """Of all layers of which they are known."""
        return sum(layer.operations or 0 for layer in self.layers)

    @property
    def bytes(self) -> int:
        """Of all weights."""
        return sum(layer.bytes for layer in self.layers)
