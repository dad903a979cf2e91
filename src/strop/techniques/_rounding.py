"""Rounding: weights to integers so that a layer's outputs, not its weights, are nearest to what they were."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from .._lazy import lazy

lapack = lazy("scipy.linalg.lapack")

Array: TypeAlias = np.ndarray[Any, Any]

DAMPING = 0.01  # of the mean of the diagonal, added to it, so that inputs that samples never move do no harm
BLOCK = 64  # columns whose errors are handed on to all later ones at once


def rounded(weights: Array, scales: Array, most: float, moment: Array) -> Array:
    """Round column by column, what each loses being made up for by the columns to come.

    GPTQ (Frantar et al. 2022, section 3; Optimal Brain Quantization in a fixed order), the columns with the largest
    inputs first. What is 0 stays so, for it may have been pruned.

    Args:
        weights: [groups, outputs, inputs].
        scales: [groups, outputs], of one step.
        most: The largest integer, and minus the least.
        moment: [groups, inputs, inputs], the mean of the products of inputs.

    Returns:
        [groups, outputs, inputs], integers as floats.

    Raises:
        numpy.linalg.LinAlgError: The moment has no inverse.
    """
    groups, outputs, count = weights.shape
    diagonal = np.einsum("gii->gi", moment)
    order, rows = np.argsort(-diagonal, axis=1), np.arange(groups)[:, None]
    moment = moment[rows[..., None], order[:, :, None], order[:, None, :]].astype(np.float64)
    # Inputs whose products are all 0 would leave nothing to divide by.
    least = DAMPING * np.maximum(diagonal.mean(1), np.finfo(np.float32).tiny)
    moment += least[:, None, None] * np.eye(count)
    upper = _upper(moment).astype(np.float32)
    left = weights[rows, :, order].transpose(0, 2, 1).astype(np.float32)
    steps, found, pruned = scales.astype(np.float32), np.empty_like(left), left == 0
    for start in range(0, count, BLOCK):
        end = min(start + BLOCK, count)
        errors = np.empty((groups, outputs, end - start), np.float32)
        for column in range(start, end):
            now = np.clip(np.rint(left[..., column] / steps), -most, most)
            now[pruned[..., column]] = 0
            error = (left[..., column] - now * steps) / upper[:, column, column][:, None]
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


def nearest(weights: Array, scales: Array, most: float) -> Array:
    """Each weight by itself, as `rounded` tells them."""
    return np.clip(np.rint(weights / scales[..., None]), -most, most)


def loss(weights: Array, integers: Array, scales: Array, moment: Array) -> float:
    """The mean square of what all outputs of a layer are off by, summed over these."""
    off = (weights - integers * scales[..., None]).astype(np.float32)
    return float(np.einsum("goi,goi->", off @ moment, off))
