"""Rounding: weights to integers or bf16 so that a layer's outputs, not its weights, are nearest to what they were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from .._lazy import lazy

lapack = lazy("scipy.linalg.lapack")

Array: TypeAlias = np.ndarray[Any, Any]

Grid: TypeAlias = Callable[[Array, Array], Array]
"""The nearest numbers that weights may be, [groups, outputs, inputs]; and which inputs these are, [groups, inputs]."""

DAMPING = 0.01  # of the mean of the diagonal, added to it, so that inputs that samples never move do no harm
BLOCK = 64  # columns whose errors are handed on to all later ones at once
MOST_HALF = 3.3895e38
"""What bf16 can hold; more, as masks of attention have, would become infinite."""


def integers(steps: Array, most: float) -> Grid:
    """Multiples of steps.

    Args:
        steps: [groups, outputs, inputs], or [groups, outputs, 1] where all weights of an output have one.
        most: The largest integer, and minus the least.
    """

    def nearest(weights: Array, places: Array) -> Array:
        one = steps if steps.shape[2] == 1 else np.take_along_axis(steps, places[:, None], axis=2)
        found: Array = np.clip(np.rint(weights / one), -most, most) * one
        return found

    return nearest


def halves(weights: Array, places: Array) -> Array:
    """Numbers of bf16."""
    return bf16(weights)


def bf16(values: Array) -> Array:
    """The nearest numbers of bf16, as float32; ties to even."""
    bits = np.clip(values, -MOST_HALF, MOST_HALF, dtype=np.float32).view(np.uint32)
    found: Array = ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
    return found


@dataclass(frozen=True)
class Factored:
    """What rounding needs to know of a layer's inputs.

    Attributes:
        order: [groups, inputs], in which their weights are rounded.
        upper: [groups, inputs, inputs], the triangle U of which the inverse of their moment is U'U.
    """

    order: Array
    upper: Array


def factored(moment: Array, lead: int = 0) -> Factored:
    """Take a moment apart, the largest inputs first.

    Args:
        moment: [groups, inputs, inputs], the mean of the products of inputs.
        lead: Inputs that come before all others.

    Raises:
        numpy.linalg.LinAlgError: The moment has no inverse.
    """
    groups, count = moment.shape[:2]
    diagonal, rows = np.einsum("gii->gi", moment), np.arange(groups)[:, None]
    order = np.argsort(np.where(np.arange(count) < lead, -np.inf, -diagonal), axis=1)
    moment = moment[rows[..., None], order[:, :, None], order[:, None, :]].astype(np.float64)
    # Inputs whose products are all 0 would leave nothing to divide by.
    least = DAMPING * np.maximum(diagonal.mean(1), np.finfo(np.float32).tiny)
    moment += least[:, None, None] * np.eye(count)
    return Factored(order, _upper(moment).astype(np.float32))


def rounded(weights: Array, grid: Grid, known: Factored) -> Array:
    """Round column by column, what each loses being made up for by the columns to come.

    GPTQ (Frantar et al. 2022, section 3; Optimal Brain Quantization in a fixed order), the columns with the largest
    inputs first. What is 0 stays so, for it may have been pruned.

    Args:
        weights: [groups, outputs, inputs].
        grid: What they may be.
        known: Of the inputs.

    Returns:
        [groups, outputs, inputs], as float32.
    """
    (groups, outputs, count), order, upper = weights.shape, known.order, known.upper
    rows = np.arange(groups)[:, None]
    left = weights[rows, :, order].transpose(0, 2, 1).astype(np.float32)
    found, pruned = np.empty_like(left), left == 0
    for start in range(0, count, BLOCK):
        end = min(start + BLOCK, count)
        errors = np.empty((groups, outputs, end - start), np.float32)
        for column in range(start, end):
            now = grid(left[..., column : column + 1], order[:, column : column + 1])[..., 0].astype(np.float32)
            now[pruned[..., column]] = 0
            error = (left[..., column] - now) / upper[:, column, column][:, None]
            left[..., column + 1 : end] -= error[..., None] * upper[:, None, column, column + 1 : end]
            found[..., column], errors[..., column - start] = now, error
        left[..., end:] -= errors @ upper[:, start:end, end:]
    result = np.empty_like(found)
    result[rows, :, order] = found.transpose(0, 2, 1)
    return result


def _upper(moment: Array) -> Array:
    """The triangle U of which the inverse is U'U, without inverting more than a triangle."""
    lower = np.linalg.cholesky(moment[:, ::-1, ::-1])
    if len(lower) > 1:
        return np.linalg.inv(lower)[:, ::-1, ::-1]
    inverse, failed = lapack.dtrtri(lower[0], lower=1)
    if failed:
        raise np.linalg.LinAlgError("a triangle with a 0 on its diagonal has no inverse")
    found: Array = np.tril(inverse)[None, ::-1, ::-1]
    return found


def loss(weights: Array, found: Array, moment: Array) -> float:
    """The mean square of what all outputs of a layer are off by, summed over these."""
    off = (weights - found).astype(np.float32)
    return float(np.einsum("goi,goi->", off @ moment, off))
