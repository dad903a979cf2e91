"""What is measured of a model: quality and cost."""

from __future__ import annotations

import difflib
import functools
from typing import Any, Literal

import numpy as np

from .._plugins import with_plugins
from ..errors import InvalidData, InvalidGoal, NotMeasurable
from ..metric import Metric, Outputs, Probe
from ..target import Target
from .classification import F1, Accuracy, Auroc, AveragePrecision, LogLoss, Perplexity, TopK
from .cost import CompressedSize, Cost, Latency, Memory, Size, Throughput
from .custom import Custom
from .decisions import Decisions, are_probabilities
from .decisions import yes_or_no as _yes_or_no
from .energy import Energy, Power
from .likeness import Agreement, Fidelity, churn
from .numbering import misnumbered
from .predictions import Predictions, predictions
from .quality import scores
from .regression import R2, Mae, Mse, Spearman
from .serving import ServerP99, ServerRate

__all__ = [
    "METRICS", "Predictions", "are_probabilities", "better", "called_for", "churn", "classifies", "default_quality",
    "find", "misnumbered", "predictions", "scores", "units", "unmeasurable", "yes_or_no",
]  # fmt: skip

Array = np.ndarray[Any, Any]

METRICS: tuple[Metric, ...] = with_plugins(
    "strop.metrics",
    (
        Accuracy(),
        *(TopK(k) for k in range(2, 11)),
        F1(),
        Auroc(),
        AveragePrecision(),
        LogLoss(),
        Perplexity(),
        Mse(),
        Mae(),
        R2(),
        Spearman(),
        Agreement(),
        Fidelity(),
        *(Latency(statistic) for statistic in ("p50", "p95", "p99", "mean")),
        Throughput(),
        ServerP99(),
        ServerRate(),
        Cost(),
        Size(),
        CompressedSize(),
        Memory(),
        Energy(),
        Power(),
    ),
)


@functools.cache
def find(name: str) -> Metric:
    """The metric of a name, or the user's own of `module:function`.

    Raises:
        InvalidGoal: There is none; the message suggests the nearest.
    """
    if ":" in name:
        return Custom(name)
    known = {metric.name: metric for metric in METRICS}
    if name not in known:
        near = difflib.get_close_matches(name, known, 3, 0.5)
        guess = f" Did you mean {' or '.join(near)}?" if near else ""
        raise InvalidGoal(
            f"There is no metric {name!r}.{guess} Known are {', '.join(sorted(known))}, and module:function."
        )
    return known[name]


def called_for(target: Target) -> tuple[str, ...]:
    """The metrics that tell what a target's own fields ask."""
    asked = {"server.p99": target.rate, "server.rate": target.p99, "cost": target.price}
    given = tuple(name for name, given in asked.items() if given is not None)
    return (*given, "size.compressed") if target.mobile else given  # as an app is downloaded


def unmeasurable(name: str, target: Target) -> str:
    """Why a metric can't be told here, and the next step; empty where it can.

    Raises:
        InvalidPlan: It could be, and the target lacks what the user can give.
    """
    try:
        find(name).requires(target)
    except NotMeasurable as error:
        return str(error)
    return ""


def better() -> dict[str, Literal["lower", "higher"]]:
    """Name of every metric, and which way it is good."""
    return {metric.name: metric.better for metric in METRICS}


def units() -> dict[str, str]:
    """Name of every metric, and what its numbers are in (`s`, `bytes`, `1/s`; empty for a plain number)."""
    return {metric.name: metric.unit for metric in METRICS}


def default_quality(outputs: Outputs, labels: Array | None) -> str:
    """The quality metric to judge by where none is named.

    `accuracy` where labels are classes that the output tells apart, `mse` for other numbers; without labels
    `fidelity`, or `agreement` where outputs are classes only.
    """
    if labels is None:
        return "fidelity" if any(array.dtype.kind == "f" for array in outputs.values()) else "agreement"
    if labels.dtype.kind == "f":
        return "mse"
    if labels.dtype.kind in "iu" and scores(outputs).shape == labels.shape and scores(outputs).dtype.kind == "f":
        try:
            find("accuracy").check(outputs, labels)
        except InvalidData:
            return "mse"  # one number a sample, and labels beyond 0 and 1: a count, not a class
    return "accuracy"


def classifies(outputs: Outputs, labels: Array | None) -> bool:
    """Whether the outputs, with the labels where there are some, are those of a classifier."""
    name = default_quality(outputs, labels)
    try:
        find(name).check(outputs, labels)
    except InvalidData:
        return False
    return name in ("accuracy", "agreement")


def yes_or_no(probe: Probe) -> tuple[Decisions, Array, Array] | None:
    """Of a binary classifier with one label a sample: what is judged, and where original and candidate say yes [n].

    NaN counts as the wrong answer. None where the task is another.
    """
    if probe.labels is None or not classifies(probe.original_outputs, probe.labels):
        return None
    return _yes_or_no(find("accuracy"), probe)
