"""Rounding: weights to integers so that a layer's outputs, not its weights, are nearest to what they were."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]

DAMPING = 0.01  # of the mean of the diagonal, added to it, so that inputs that samples never move do no harm
BLOCK = 64  # columns whose errors are handed on to all later ones at once


def rounded(weights: Array, scales: Array, most: float, moment: Array) -> Array:
    """Round column by column, what each loses being made up for by the columns to come.

    GPTQ (Frantar et al. 2022, section 3; Optimal Brain Quantization in a fixed order), the columns with the largest
    inputs first.

    Args:
        weights: [groups, outputs, inputs].
        scales: [groups, outputs], of one step.
        most: The largest integer, and minus the least.
        moment: [groups, inputs, inputs], the mean of the products of inputs.

    Returns:
        [groups, outputs, inputs], integers as float64.
    """
    groups, _, count = weights.shape
    moment = moment.astype(np.float64)
    diagonal = np.einsum("gii->gi", moment)
    # Inputs whose products are all 0 would leave nothing to divide by.
    diagonal += DAMPING * np.maximum(diagonal.mean(1, keepdims=True), np.finfo(np.float32).tiny)
    order, rows = np.argsort(-diagonal, axis=1), np.arange(groups)[:, None]
    moment = moment[rows[..., None], order[:, :, None], order[:, None, :]]
    upper = np.linalg.cholesky(np.linalg.inv(moment)).transpose(0, 2, 1)
    left = weights[rows, :, order].transpose(0, 2, 1).astype(np.float64)
    found = np.empty_like(left)
    for start in range(0, count, BLOCK):
        end = min(start + BLOCK, count)
        errors = np.empty((groups, weights.shape[1], end - start))
        for column in range(start, end):
            now = np.clip(np.rint(left[..., column] / scales), -most, most)
            error = (left[..., column] - now * scales) / upper[:, column, column][:, None]
            left[..., column + 1 : end] -= error[..., None] * upper[:, None, column, column + 1 : end]
            found[..., column], errors[..., column - start] = now, error
        left[..., end:] -= errors @ upper[:, start:end, end:]
    result = np.empty_like(found)
    result[rows, :, order] = found.transpose(0, 2, 1)
    return result


def nearest(weights: Array, scales: Array, most: float) -> Array:
    """Each weight by itself, as `rounded` tells them."""
    return np.clip(np.rint(weights / scales[..., None]), -most, most)


def loss(weights: Array, integers: Array, scales: Array, moment: Array) -> float:
    """The mean square of what all outputs of a layer are off by, summed over these."""
    off = weights - integers * scales[..., None]
    return float(np.einsum("goi,goi->", off @ moment, off))
