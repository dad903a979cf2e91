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
        operations: For one sample, in the unit of the operator: multiply-adds, or comparisons of a forest.
        bytes: On disk.
    """

    name: str
    operator: str
    operations: float
    bytes: int


@dataclass(frozen=True)
class Structure:
    """What a profile tells of a model besides its times.

    Attributes:
        layers: All parts that take time.
        facts: What the format has to tell, as plain data under names of its own. `columns`, where it is there, lists
            the columns of a table that are looked at (`name`, `splits`, and `gain`, a share, or None where the model
            does not tell), and `unused` names the others.
        told: The same for a person: a word, and a sentence under it.
    """

    layers: tuple[Layer, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    told: Mapping[str, str] = field(default_factory=dict)

    @property
    def operations(self) -> float:
        """Of all layers."""
        return sum(layer.operations for layer in self.layers)
