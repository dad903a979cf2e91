"""Classifiers' outputs against labels, laid out as one row a decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InvalidData
from ..metric import Metric, Outputs, Probe
from .quality import require_labels, scores, select, without_ones

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Decisions:
    """Outputs of a classifier, one row a decision.

    Outputs [n], [n, 1], [n, classes], and sequences or maps of them ([n, steps, classes], [n, steps],
    [n, classes, height, width]) with a label for each step are flattened; the steps of a sample stay one group.

    Attributes:
        original: [m, classes]; or [m], a score of class 1; or [m] of integers, the predicted classes.
        candidate: The same.
        labels: [m], int64, from 0.
        groups: [m], or None where each decision is a sample of its own.
        classes: How many there are.
        probabilities: Whether scores are probabilities, judged by the original's (in [0, 1]; rows sum to 1), or logits.
        seed: Of resamples.
    """

    original: Array
    candidate: Array
    labels: Array
    groups: Array | None
    classes: int
    probabilities: bool
    seed: int = 0

    @property
    def support(self) -> int:
        """Decisions of the rarest class that occurs."""
        found = np.bincount(self.labels)
        return int(found[found > 0].min())


def check_decisions(metric: Metric, outputs: Outputs, labels: Array | None) -> Decisions:
    """Lay out the original's outputs alone, to see whether they can be judged.

    Raises:
        InvalidData: Labels are missing, not integers, out of range, or don't fit the outputs.
    """
    judged = scores(outputs)
    return _lay_out(metric, judged, judged, require_labels(metric, judged, labels), None, 0)


def decisions(metric: Metric, probe: Probe, rows: Array | None) -> Decisions:
    """Lay out what a probe holds, cut to some rows.

    Raises:
        InvalidData: As `check_decisions`.
    """
    case = select(probe, rows)
    labels = require_labels(metric, case.original, case.labels)
    return _lay_out(metric, case.original, case.candidate, labels, case.groups, case.seed)


def yes_or_no(metric: Metric, probe: Probe) -> tuple[Decisions, Array, Array] | None:
    """Of a binary task with one label a sample: what is judged, and where original and candidate say yes [n].

    NaN counts as the wrong answer. None where the task is another.

    Raises:
        InvalidData: As `check_decisions`.
    """
    case = decisions(metric, probe, None)
    if case.classes != 2 or len(case.labels) != len(scores(probe.original_outputs)):
        return None
    sides = [predicted(values, case.probabilities) for values in (case.original, case.candidate)]
    before, after = (np.where(side < 0, case.labels == 0, side == 1) for side in sides)
    return case, before, after


def predicted(values: Array, probabilities: bool) -> Array:
    """The predicted classes [m], -1 where a score is NaN.

    Args:
        values: [m, classes], [m] scores of class 1, or [m] integers.
        probabilities: Whether a single score is cut at 0.5, or at 0 as a logit.
    """
    if values.dtype.kind != "f":
        return values.astype(np.int64)
    if values.ndim == 1:
        return np.where(np.isnan(values), -1, values > (0.5 if probabilities else 0.0)).astype(np.int64)
    return np.where(np.isnan(values).any(axis=1), -1, values.argmax(axis=1))


def are_probabilities(values: Array) -> bool:
    """Whether scores [m] or [m, classes] lie in [0, 1] and, with classes, sum to 1 (to 0.01: they may be 16 bits)."""
    inside = bool(((values >= 0) & (values <= 1)).all())
    return inside and (values.ndim == 1 or bool((abs(values.sum(axis=1, dtype=np.float64) - 1) < 0.01).all()))


def class_scores(values: Array, labels: Array, probabilities: bool) -> list[tuple[Array, Array]]:
    """One pair (whether the label is this class [m], score of this class [m]) a class; of two classes only the second.

    NaN becomes the worst possible score for its label.
    """
    if values.ndim == 1:
        columns = {1: values}
    elif values.shape[1] == 2:
        columns = {1: values[:, 1] if probabilities else values[:, 1].astype(np.float64) - values[:, 0]}
    else:
        columns = {number: values[:, number] for number in range(values.shape[1])}
    pairs = []
    for number, column in columns.items():
        truth = labels == number
        pairs.append((truth, np.where(np.isnan(column), np.where(truth, -np.inf, np.inf), column)))
    return pairs


def _lay_out(
    metric: Metric, original: Array, candidate: Array, labels: Array, groups: Array | None, seed: int
) -> Decisions:
    if labels.dtype.kind == "U":
        raise InvalidData(
            f"{metric.name} needs labels that are the numbers of the model's classes, from 0, since the model does not "
            f"tell what these are called, and the first is {labels.ravel()[0].item()!r}. Number them as in training."
        )
    if labels.dtype.kind not in "iub":
        raise InvalidData(
            f"{metric.name} needs integer labels, the number of the right class from 0, and these are {labels.dtype} "
            f"(the first is {labels.ravel()[:1].tolist()}). Save them as int64, or choose a metric of regression "
            "such as `mse`."
        )
    labels = without_ones(labels)
    flat = [_flattened(metric, values, labels.shape) for values in (original, candidate)]
    if labels.ndim > 1:
        steps = labels.size // len(labels)
        groups = np.repeat(np.arange(len(labels)) if groups is None else groups, steps)
    truth = labels.reshape(-1).astype(np.int64)
    hard = flat[0].dtype.kind != "f"
    classes = max(int(truth.max()), int(flat[0].max())) + 1 if hard else 2 if flat[0].ndim == 1 else flat[0].shape[1]
    given = labels.reshape(-1)  # as they were: the largest of uint64 turn negative as int64
    wrong = (given < 0) | (given >= classes)
    if wrong.any():
        raise InvalidData(
            f"{metric.name} needs labels from 0 to {classes - 1}, since the model tells {classes} classes apart; "
            f"label {int(given[wrong.argmax()])} of row {int(wrong.argmax())} is outside. "
            "Number the classes as the model does."
        )
    return Decisions(flat[0], flat[1], truth, groups, max(classes, 2), not hard and are_probabilities(flat[0]), seed)


def _flattened(metric: Metric, values: Array, shape: tuple[int, ...]) -> Array:
    """Values as [m] or [m, classes], m being the product of the labels' shape."""
    if values.dtype.kind not in "fiub":
        raise InvalidData(
            f"{metric.name} needs numbers, and the model gives {values.dtype}. Export it with classes as integers, "
            "or with probabilities."
        )
    squeezed = without_ones(values)
    if squeezed.shape == shape:
        return squeezed.reshape(-1)
    if values.dtype.kind == "f":
        if squeezed.shape[:-1] == shape:
            return squeezed.reshape(-1, squeezed.shape[-1])
        if squeezed.shape[:1] + squeezed.shape[2:] == shape:  # classes on axis 1, as image segmentation has them
            return np.moveaxis(squeezed, 1, -1).reshape(-1, squeezed.shape[1])
    raise InvalidData(
        f"{metric.name} needs outputs of the labels' shape {shape}, or with one more axis for the classes; the model "
        f"gives {values.shape}. Check which output comes first, and what the labels stand for."
    )
