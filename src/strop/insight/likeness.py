"""Likeness: how far values of one model are from those of another, added up batch by batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass
class Likeness:
    """Sums over pairs of arrays; nothing of the arrays is kept.

    Where the original is not finite, nothing is compared (masks of attention hold minus infinity).

    Attributes:
        signal: Of the original's squares.
        noise: Of the squared differences.
        other: Of the candidate's squares.
        both: Of the products.
        cells: Numbers compared.
        lost: Numbers that are finite in the original only.
    """

    signal: float = 0.0
    noise: float = 0.0
    other: float = 0.0
    both: float = 0.0
    cells: int = 0
    lost: int = 0

    def add(self, original: Array, candidate: Array) -> None:
        """Add a pair of one shape."""
        first, second = (side.reshape(-1).astype(np.float64) for side in (original, candidate))
        judged = np.isfinite(first)
        lost = judged & ~np.isfinite(second)
        if not judged.all() or lost.any():
            self.lost += int(lost.sum())
            first, second = first[judged & ~lost], second[judged & ~lost]
        apart = first - second
        self.signal += float(first @ first)
        self.noise += float(apart @ apart)
        self.other += float(second @ second)
        self.both += float(first @ second)
        self.cells += len(first)

    @property
    def sqnr(self) -> float:
        """Signal over noise in decibels: 10 log10 of the ratio of powers; infinite where nothing differs."""
        if not self.noise:
            return -math.inf if self.lost else math.inf
        return 10 * math.log10(self.signal / self.noise) if self.signal else -math.inf

    @property
    def cosine(self) -> float:
        """Of the angle between the two, all samples as one vector; 1 where both are zero."""
        if not self.signal or not self.other:
            return 1.0 if self.signal == self.other else 0.0
        return max(-1.0, min(1.0, self.both / math.sqrt(self.signal * self.other)))

    @property
    def share(self) -> float:
        """Power of the differences over that of the original."""
        return self.noise / self.signal if self.signal else (math.inf if self.noise else 0.0)
