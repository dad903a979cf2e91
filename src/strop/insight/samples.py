"""Samples: which of them are answered otherwise, and the worst."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import metrics
from ..model import Value
from .likeness import Likeness

Array = np.ndarray[Any, Any]
Outputs = dict[str, Array]

LISTED = 10  # of those that changed


def samples(
    original: Outputs, candidate: Outputs, labels: Array | None, classes: Sequence[Value], forced: bool
) -> dict[str, Any]:
    """Which samples are answered otherwise, and the worst of them.

    Of a classifier they are those whose prediction changed, those by the widest margin first; else those whose outputs
    are farthest off.

    Args:
        original: Outputs of all samples.
        candidate: The same.
        labels: One, or one row, a sample.
        classes: What the classes are called, where the model tells.
        forced: Whether the greatest of the last axis is a prediction, whatever the numbers look like.

    Returns:
        Plain data; see `strop.explanation.explain`.
    """
    found = metrics.predictions(original, candidate, labels, forced)
    if found is None:
        return {
            "decisions": None, "changed": None, "to_wrong": None, "to_right": None, "rows": None,
            "worst": _farthest(original, candidate),
        }  # fmt: skip
    changed = np.flatnonzero(found.changed)
    margin = np.nan_to_num(found.margin[changed], nan=np.inf)
    order = changed[np.argsort(-margin, kind="stable")]
    rights: list[int | None] = [None, None]
    if found.labels is not None:
        before, after = found.original == found.labels, found.candidate == found.labels
        rights = [int((before & ~after).sum()), int((~before & after).sum())]
    sample = found.sample

    def called(number: int) -> Value | None:
        return None if number < 0 else classes[number] if number < len(classes) else number

    worst = [
        {
            "row": int(sample[place]),
            "step": int(place - np.searchsorted(sample, sample[place])) if len(sample) > found.samples else None,
            "label": None if found.labels is None else called(int(found.labels[place])),
            "original": called(int(found.original[place])),
            "candidate": called(int(found.candidate[place])),
            "margin": None if math.isnan(found.margin[place]) else float(found.margin[place]),
        }
        for place in order[:LISTED].tolist()
    ]  # fmt: skip
    return {
        "decisions": len(found.original), "changed": len(changed), "to_wrong": rights[0], "to_right": rights[1],
        "rows": sorted(set(sample[changed].tolist())), "worst": worst,
    }  # fmt: skip


def _farthest(original: Outputs, candidate: Outputs) -> list[dict[str, Any]]:
    """The samples whose outputs are farthest off: `error` as root mean square of the differences over the outputs."""
    floats = [name for name, array in original.items() if array.dtype.kind == "f" and array.ndim]
    alike = [name for name in floats if candidate[name].shape == original[name].shape]
    rows = []
    for row in range(len(original[alike[0]]) if alike else 0):
        both = Likeness()
        for name in alike:
            both.add(original[name][row], candidate[name][row])
        rows.append({"row": row, "error": math.inf if both.lost else math.sqrt(both.share), "cosine": both.cosine})
    return sorted(rows, key=lambda one: -one["error"])[:LISTED]
