"""Which weights are the smallest, told from arrays alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

SMALL = 1024  # numbers in a weight, under which it is left alone


def largest(weights: Sequence[Array], amount: float) -> list[Array]:
    """Where the weights of a model are not among the share of all that is smallest: a mask for each of its arrays.

    Each array is measured by its own spread.
    """
    sizes = [np.abs(weight) / max(float(weight.std()), 1e-12) for weight in weights]
    flat = np.concatenate([size.ravel() for size in sizes])
    place = max(1, round(amount * len(flat))) - 1
    limit = np.partition(flat, place)[place]
    return [size > limit for size in sizes]
