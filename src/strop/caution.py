"""Caution: how strong a technique that trains may be, with few samples to train with or inputs that are mostly zeros.

The thresholds come from an experiment, `benchmarks/thresholds.md`: a network that is pruned and retrained loses more
the fewer samples there are, and from these on more than twice of what it loses with plenty.
"""

from __future__ import annotations

import numpy as np

from .data import Data
from .units import counted

FEW = ((300, 0.3, "0.05 to 0.09 of accuracy at 50 %"), (1000, 0.5, "0.09 to 0.14 of accuracy at 70 %"))
"""With fewer samples than the first: the greatest strength, and what networks of images lost beyond it."""
MOSTLY, LEAST_ZEROS = 0.5, 0.7
"""The greatest strength where so much of the inputs is zero and they have more axes than one. Bags of words bear more,
though 97 to 100 % of them are zeros: 70 % of the operations for less than 0.01 of accuracy."""
LOOKED_AT = 2000  # samples


def caution(train: Data) -> tuple[float, list[str]]:
    """How strong what trains may be.

    Args:
        train: Samples to train with.

    Returns:
        The greatest strength (1.0 for no bound), and why, as sentences.
    """
    most, why = 1.0, []
    for enough, strength, lost in FEW:
        if len(train) < enough:
            most = strength
            why.append(
                f"With {counted(len(train), 'sample')} to train with, no more than {strength:.0%} is pruned: with so "
                f"few, networks of images lost {lost}. From {FEW[-1][0]:,} samples on there is no such bound."
            )
            break
    if (zeros := share_of_zeros(train)) >= LEAST_ZEROS and most > MOSTLY:
        most = MOSTLY
        why.append(
            f"{zeros:.0%} of the inputs' values are zero, so no more than {MOSTLY:.0%} is pruned: networks of images "
            "that were mostly zeros lost 0.14 to 0.50 of accuracy at 70 %."
        )
    return most, why


def share_of_zeros(train: Data) -> float:
    """Of the first samples' real values that lie on more axes than one, such as images; 0 where there are none."""
    found = [
        (array == 0).ravel()
        for array in train.batch(0, LOOKED_AT).values()
        if array.dtype.kind == "f" and array.ndim > 2
    ]
    return float(np.concatenate(found).mean()) if found else 0.0
