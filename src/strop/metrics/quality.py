"""What quality metrics share: which output they judge, on which samples, and how scores are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InvalidData
from ..metric import Metric, Outputs, Probe
from ..samples import Samples, bounds_of_counts
from ..spelling import option
from ..stats import Binary, Comparison

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """What is judged: the same rows of the same output of original and candidate.

    Attributes:
        original: [n, ...].
        candidate: [n, ...].
        labels: [n, ...], or None.
        groups: [n], or None.
        seed: Of resamples.
    """

    original: Array
    candidate: Array
    labels: Array | None
    groups: Array | None
    seed: int


def scores(outputs: Outputs) -> Array:
    """The output that is judged.

    It is the first one, unless that holds classes (integers, booleans or text) and a later one holds floats, as in a
    scikit-learn classifier exported to ONNX (label, probabilities): then the first of floats.
    """
    return outputs[_judged(outputs)]


def select(probe: Probe, rows: Array | None) -> Case:
    """Cut what is judged to some rows; None for all.

    Raises:
        InvalidData: No rows, or the candidate's output has another shape than the original's.
    """
    name = _judged(probe.original_outputs)
    original, candidate = probe.original_outputs[name], probe.candidate_outputs[name]
    if original.shape != candidate.shape:
        raise InvalidData(
            f"Original and candidate must give outputs of one shape; {name!r} is {original.shape} and "
            f"{candidate.shape}. The candidate can't be judged."
        )
    labels, groups = probe.labels, probe.groups
    if rows is not None:
        original, candidate = original[rows], candidate[rows]
        labels, groups = (None if part is None else part[rows] for part in (labels, groups))
    if len(original) == 0:
        raise InvalidData("A quality metric needs at least one sample, and there is none. Check data and slices.")
    return Case(original, candidate, labels, groups, probe.seed)


def compare(original: Array, candidate: Array, groups: Array | None, seed: int) -> Comparison:
    """Compare the means of scores [n]: as counts where they are 0 or 1 and independent."""
    if not all(np.isin(values, (0, 1)).all() for values in (original, candidate)):
        bounds = bounds_of_counts((original, None), (candidate, None))
        return Samples(original, candidate, groups, bounds=bounds, seed=seed)
    if groups is None:
        return Binary(original, candidate)
    return Samples(original, candidate, groups, bounds=(0, 1), seed=seed)


def require_labels(metric: Metric, outputs: Array, labels: Array | None) -> Array:
    """The labels, if there is one (or one row) a sample.

    Raises:
        InvalidData: They are missing, NaN, or of another length than the outputs.
    """
    if labels is None:
        raise InvalidData(
            f"{metric.name} needs labels, and the data hold none. Add an array `labels` (or name one: "
            f"{option('label', 'NAME')}), or limit `agreement` or `fidelity`, which compare with the original."
        )
    if labels.ndim == 0 or len(labels) != len(outputs):
        raise InvalidData(
            f"{metric.name} needs one label a sample; there are {labels.size if labels.ndim == 0 else len(labels)} "
            f"labels for {len(outputs)} outputs. Check that labels and inputs have the same length."
        )
    if labels.dtype.kind == "f" and (unknown := np.isnan(labels).reshape(len(labels), -1).any(axis=1)).any():
        raise InvalidData(
            f"{metric.name} needs a label for every sample, and {unknown.sum()} of {len(labels)} are NaN, the first in "
            f"row {int(unknown.argmax())}. Drop the samples whose label is missing."
        )
    return labels


def require_finite(metric: Metric, values: Array, whose: str) -> Array:
    """Values [n, ...], if none is NaN or infinite.

    Raises:
        InvalidData: Some are; the message counts them and names the first sample.
    """
    bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if bad.any():
        raise InvalidData(
            f"{metric.name} has no worst value that could stand for NaN or infinity, and {whose} gives them in "
            f"{bad.sum()} of {len(values)} rows, the first being row {int(bad.argmax())}. "
            "Look at that sample, or at the model's numeric range."
        )
    return values


def without_ones(array: Array) -> Array:
    """Drop axes of size 1, except that of samples."""
    return array.reshape(array.shape[0], *(size for size in array.shape[1:] if size != 1))


def _judged(outputs: Outputs) -> str:
    first = next(iter(outputs))
    if outputs[first].dtype.kind == "f":
        return first
    return next((name for name, array in outputs.items() if array.dtype.kind == "f"), first)
