"""Seen: what is found where two models are held to each other, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..dataflow import Operator
from .likeness import Likeness
from .parts import Part

Array = np.ndarray[Any, Any]

STEPS = 127  # of integers of 8 bits, from 0 to the largest number


@dataclass
class Seen:
    """What was found at one layer.

    Attributes:
        part: The layer.
        place: Its number, in the original's order.
        own: Error introduced there: the candidate's layer is given what the original's is given.
        all: Error accumulated up to there.
        harm: Power of the change of the outputs over their own, where this layer alone is as in the candidate; None
            where that was not tried.
        seconds: That it takes in a call of the original and of the candidate; None where their runtimes don't tell.
        ran: What the candidate computed it in, as its runtime tells; empty where it does not.
        reach: The largest absolute number of the original's value that it ends in.
        small: How many of its numbers, 0 left out, are less than one step of 8 bits from 0 to the largest of a call.
        whole: Of how many.
    """

    part: Part
    place: int
    own: Likeness = field(default_factory=Likeness)
    all: Likeness = field(default_factory=Likeness)
    harm: float | None = None
    seconds: list[float | None] = field(default_factory=lambda: [None, None])
    ran: str = ""
    reach: float = 0.0
    small: int = 0
    whole: int = 0

    def measure(self, value: Array) -> None:
        """Note how wide the numbers of the original's value are, of one call."""
        sizes = np.abs(value[np.isfinite(value) & (value != 0)])
        if sizes.size:
            most = float(sizes.max())
            self.reach = max(self.reach, most)
            self.small += int((sizes < most / STEPS).sum())
            self.whole += sizes.size

    @property
    def precision(self) -> str:
        """What the candidate computes it in."""
        told = self.part.precision
        return self.ran if self.ran and " " not in told else told  # `int8 weights` says more than what they are used in


@dataclass
class Inside:
    """What was found between inputs and outputs of two models.

    Attributes:
        layers: In the original's order.
        outputs: Error of each result that is a float, over the same samples.
        samples: That were looked into.
        tried: That were used to tell the harm of single layers; 0 where it could not be told.
        rest: Bytes of both models that belong to no layer: the graph itself, names, what no float comes from.
        outside: Products of the original whose layer ends in none of the values compared.
        notes: What to know of it, in sentences.
    """

    layers: list[Seen]
    outputs: dict[str, Likeness]
    samples: int
    tried: int
    rest: tuple[int, int]
    outside: tuple[Operator, ...]
    notes: list[str]
