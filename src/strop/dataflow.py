"""Dataflow: what a model computes, operator by operator, as its format tells it; and how the values in between are
reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Operator:
    """One operator.

    Attributes:
        name: As the model spells it, or made up where it does not: no two have the same.
        kind: The kind of work, in the format's spelling.
        inputs: The values that it reads, stored ones included.
        outputs: The values that it makes.
        precision: What it computes in, as far as the file tells: `f32`, `bf16`, `f16`, `int8`, `dynamic int8` (ranges
            of activations are found in each call), or `int8 weights` (held small, and computed in floats).
        place: Where in the source it came from, as the layers of a PyTorch module; empty where that is not known.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    precision: str = "f32"
    place: str = ""


@dataclass(frozen=True)
class Stored:
    """A constant: a weight, a scale, a shape.

    Attributes:
        dtype: Of its numbers.
        bytes: That the file holds of it.
    """

    dtype: str
    bytes: int


@dataclass(frozen=True)
class Group:
    """Operators that a step which mixes precisions has given one, and what it was chosen by.

    Attributes:
        name: As a person calls it.
        operators: Their names in the model's file.
        precision: What they were given.
        alone: What it does to the outputs in the least exact precision, all others being exact: a share of what all
            groups do so, one by one. None where it was not tried, or left no finite number.
        seconds: By precision, that they take in a call.
    """

    name: str
    operators: tuple[str, ...]
    precision: str
    alone: float | None
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Dataflow:
    """What a model computes.

    Attributes:
        operators: In an order in which they can run.
        stored: Constants, by name.
        inputs: Names of values that a caller gives.
        outputs: Names of values that are results.
        seen_as: For a value that is read through its rounded form only: the name of that form. It is what counts.
        aliases: Further names of values, each with the one that operators have.
        opaque: Operators that hold graphs of their own (loops, branches), which are not looked into, each with the
            bytes that the file has of the constants in these.
    """

    operators: tuple[Operator, ...]
    stored: Mapping[str, Stored]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    seen_as: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    opaque: Mapping[str, int] = field(default_factory=dict)

    def names(self) -> dict[str, str]:
        """All names of what operators make, each with the one that operators have."""
        made = {output for operator in self.operators for output in operator.outputs if output}
        return {
            **{alias: name for alias, name in self.aliases.items() if name in made},
            **{name: name for name in made},
        }
