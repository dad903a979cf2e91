"""NMSE, the normalized mean squared error: how far outputs are from those of another model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .model import Batch


def nmse(found: Batch, right: Batch) -> float:
    """The squared error of outputs over the square of the right ones; of several outputs that are floats, the greatest.

    Args:
        found: Outputs of one call, by name.
        right: What they are held to, of the same shapes.

    Returns:
        0 where no output is a float; infinite where a number is not finite any more.
    """
    errors = [_relative(found[name], expected) for name, expected in right.items() if expected.dtype.kind == "f"]
    return max(errors, default=0.0)


def _relative(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    known = np.isfinite(expected)  # a score that is masked may be -inf
    right, got = (np.asarray(side, np.float64)[known] for side in (expected, found))
    if not np.isfinite(got).all():
        return math.inf
    return float(np.square(got - right).sum() / (np.square(right).sum() or 1.0))
