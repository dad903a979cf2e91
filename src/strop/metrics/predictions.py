"""Predictions: which decisions of a classifier a candidate takes otherwise, one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InvalidData
from ..metric import Outputs
from .classification import Accuracy
from .decisions import are_probabilities, check_decisions, predicted
from .quality import scores

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Predictions:
    """What two classifiers predict, one row a decision; -1 where a score is NaN.

    Attributes:
        original: [m], int64.
        candidate: [m], int64.
        margin: [m], by how much the candidate's score of its own class is above that of the original's class; of a
            single score its distance from the cut; NaN where outputs are classes only.
        labels: [m], int64, or None.
        samples: How many samples the decisions belong to, in order, alike in number.
    """

    original: Array
    candidate: Array
    margin: Array
    labels: Array | None
    samples: int

    @property
    def changed(self) -> Array:
        """[m], whether the prediction is another one, or no more; NaN of both is none that changed."""
        return np.asarray(self.original != self.candidate)

    @property
    def sample(self) -> Array:
        """[m], the position of its sample."""
        return np.arange(len(self.original)) // max(1, len(self.original) // max(1, self.samples))


def predictions(
    original: Outputs, candidate: Outputs, labels: Array | None, classes: bool = False
) -> Predictions | None:
    """The predictions of both, where the outputs are those of a classifier.

    They are where labels are classes that they tell apart; else where they hold integers, or probabilities of classes.

    Args:
        original: Outputs of all samples.
        candidate: The same.
        labels: One, or one row, a sample.
        classes: Whether the greatest of the last axis is a prediction, whatever the numbers look like.
    """
    first, second = scores(original), scores(candidate)
    if first.shape != second.shape or first.dtype.kind not in "fiub" or not first.ndim:
        return None
    known: Array | None = None
    if labels is not None and labels.dtype.kind in "iub":
        try:
            laid = [check_decisions(Accuracy(), outputs, labels) for outputs in (original, candidate)]
        except InvalidData:
            pass
        else:
            (first, second), known = (laid[0].original, laid[1].original), laid[0].labels
    if known is None:
        first, second = _columns(first), _columns(second)
        if first.dtype.kind == "f" and not classes and (first.ndim < 2 or not are_probabilities(first)):
            return None
    likely = are_probabilities(first) if first.dtype.kind == "f" else False
    before, after = predicted(first, likely), predicted(second, likely)
    return Predictions(before, after, _margin(second, before, after, likely), known, len(scores(original)))


def _columns(values: Array) -> Array:
    if values.ndim == 1:
        return values
    if values.dtype.kind != "f" or values.shape[-1] == 1:
        return values.reshape(-1)
    return values.reshape(-1, values.shape[-1])


def _margin(values: Array, before: Array, after: Array, likely: bool) -> Array:
    if values.dtype.kind != "f":
        return np.full(len(values), np.nan)
    if values.ndim == 1:
        return np.asarray(np.abs(values.astype(np.float64) - (0.5 if likely else 0.0)))
    rows = np.arange(len(values))
    margin = values[rows, np.maximum(after, 0)].astype(np.float64) - values[rows, np.maximum(before, 0)]
    return np.where((before < 0) | (after < 0), np.nan, margin)
