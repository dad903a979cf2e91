"""Caution: what may be trained, with few samples to train with or inputs that are mostly zeros.

The thresholds come from two experiments. `benchmarks/thresholds.md`: a network that is pruned and retrained loses more
the fewer samples there are, and from these on more than twice of what it loses with plenty. `benchmarks/few_rows.md`: a
forest that is trained anew on few rows loses what the others had taught, however much of it is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .data import Data
from .model import NETWORKS, Model
from .technique import Needs, Technique
from .units import counted

SOURCE = "benchmarks/thresholds.md"
FEW = ((300, 0.3, "0.05 to 0.09 of accuracy at 50%"), (1000, 0.5, "0.09 to 0.14 of accuracy at 70%"))
"""With fewer samples than the first: the greatest strength, and what networks of images lost beyond it."""
MOSTLY, LEAST_ZEROS = 0.5, 0.7
"""The greatest strength where so much of the inputs is zero and they have more axes than one. Bags of words bear more,
though 97 to 100 % of them are zeros: 70 % of the operations for less than 0.01 of accuracy."""
LOOKED_AT = 2000  # samples
ROWS_SOURCE = "benchmarks/few_rows.md"
FEW_ROWS = 10_000
"""With fewer rows than these, what trains a forest anew comes last."""
UNTRAINED = "Leaving out half of the rounds (truncate-rounds), which needs no data, lost less than 0.001 there."
LOST_ROWS = "0.041 of AUROC with 1,000, and 0.013 where its own scores taught another (distill-forest)"


@dataclass(frozen=True)
class Caution:
    """What may be trained.

    Attributes:
        most: The greatest strength of what trains (1.0 for no bound).
        doubts: Why what trains is tried last; empty where it is not.
        why: The same for a person, as sentences.
    """

    most: float = 1.0
    doubts: str = ""
    why: tuple[str, ...] = ()

    def of(self, technique: type[Technique]) -> str:
        """The doubts where they are about a technique: it trains, and not only mends what another has made."""
        return self.doubts if Needs.TRAINING in technique.needs and not technique.mends else ""


NONE = Caution()


def caution(train: Data, model: Model) -> Caution:
    """What may be trained of a model, with so many samples.

    Args:
        train: Samples to train with.
        model: As given.
    """
    if "trees" in model.counts:
        return _of_trees(len(train))
    return _of_network(train) if model.format in NETWORKS else NONE


def _of_trees(rows: int) -> Caution:
    if rows >= FEW_ROWS:
        return NONE
    said = (
        f"with {counted(rows, 'row')} what trains a forest anew is likely to lose much: one that 199,523 had trained "
        f"lost {LOST_ROWS} ({ROWS_SOURCE})"
    )
    return Caution(doubts=said, why=(f"{said[0].upper()}{said[1:]}. It is tried last.",))


def _of_network(train: Data) -> Caution:
    most, why = 1.0, []
    for enough, strength, lost in FEW:
        if len(train) < enough:
            most = strength
            why.append(
                f"With {counted(len(train), 'sample')} to train with, no more than {strength:.0%} is pruned: with so "
                f"few, networks of images lost {lost} ({SOURCE}). From {FEW[-1][0]:,} samples on there is "
                "no such bound."
            )
            break
    if (zeros := share_of_zeros(train, images=True)) >= LEAST_ZEROS and most > MOSTLY:
        most = MOSTLY
        why.append(
            f"{zeros:.0%} of the inputs' values are zero, so no more than {MOSTLY:.0%} is pruned: networks of images "
            f"that were mostly zeros lost 0.14 to 0.50 of accuracy at 70% ({SOURCE})."
        )
    return Caution(most, why=tuple(why))


def share_of_zeros(data: Data, images: bool = False) -> float:
    """Of the first samples' numbers; 0 where there are none. Integers are numbers in a table's columns alone: in rows
    of many they may be tokens, of which zero says nothing.

    Args:
        images: Only real numbers that lie on more axes than one.
    """
    found = [zeros.ravel() for zeros in _zeros(data) if zeros.ndim > 2 or not images]
    return float(np.concatenate(found).mean()) if found else 0.0


def always_zero(data: Data) -> tuple[int, int]:
    """How many of a sample's numbers are zero in all the first samples, and of how many."""
    found = [zeros.all(axis=0) for zeros in _zeros(data)]
    return sum(int(zeros.sum()) for zeros in found), sum(zeros.size for zeros in found)


def _zeros(data: Data) -> list[np.ndarray[Any, np.dtype[np.bool_]]]:
    arrays = data.batch(0, LOOKED_AT).values()
    return [array == 0 for array in arrays if array.dtype.kind == "f" or (array.dtype.kind in "iu" and array.ndim == 1)]
