"""What the original of a student answers: on the train data, and on rows that are made up of them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import NotApplicable, TechniqueError
from ..formats.sklearn import Called, load
from ..model import Batch, Tensor
from ..technique import Context, remaining
from ..training.trees import FEWEST

Array = np.ndarray[Any, Any]

MOST = 100_000  # rows
TRIED = 50  # rows by which the original's pace is told
SHARE = 0.25  # of the time left, that asking may take
LEAST = 1e-6  # probability: below it, a score would be told by rounding


@dataclass(frozen=True)
class Asked:
    """Rows, and what the original says of them.

    Attributes:
        batch: The rows, as between rooms.
        input: The rows, as scikit-learn takes them.
        scores: [rows, outputs] float64: log-odds of two classes' probabilities, logarithms (less their mean) of several
            classes', and decision values and predictions as they are.
    """

    batch: Batch
    input: Any
    scores: Array


def asked(context: Context, copies: int, swapped: float) -> Asked:
    """Ask the original; a slow one of fewer rows.

    Args:
        copies: Made-up rows for each row of the train data: in them some columns hold the values of other rows (Bucila
            et al. 2006, section 2).
        swapped: The share of columns that do.

    Raises:
        NotApplicable: There are too few samples.
    """
    if context.train is None:
        raise TechniqueError("training needs train data, and none are given")
    if len(context.train) < FEWEST:
        raise NotApplicable(f"training needs {FEWEST} samples at the least, and there are {len(context.train)}")
    called = Called(load(context.original.path), context.original.signature)
    context.progress(0.0, "asking the original")
    start = time.monotonic()
    called(context.train.batch(0, min(TRIED, len(context.train))))
    pace = (time.monotonic() - start) / min(TRIED, len(context.train))
    count = int(min(MOST, SHARE * remaining(context) / max(pace, 1e-9)))
    random = np.random.default_rng([context.seed, 0])
    kept = np.sort(random.permutation(len(context.train))[: max(FEWEST, count // (1 + copies))])
    rows = context.train.take(kept).batch(0, len(kept))
    parts = [rows, *(_mixed(rows, swapped, random) for _ in range(copies))]
    batch = {name: np.concatenate([part[name] for part in parts]) for name in rows}
    return Asked(batch, called.input(batch), scores(called(batch), called.result))


def scores(values: Array, result: Tensor) -> Array:
    """What a student is taught of an output: see `Asked`."""
    values = np.asarray(values, np.float64).reshape(len(values), -1)
    if result.name != "probability":
        return values
    logs = np.log(np.clip(values, LEAST, 1.0))
    return logs[:, 1:] - logs[:, :1] if values.shape[1] == 2 else logs - logs.mean(axis=1, keepdims=True)


def _mixed(rows: Batch, share: float, random: np.random.Generator) -> dict[str, Array]:
    """The rows, in a share of whose columns others' values are; a column alone, as a text is, stays as it is."""
    found = {}
    for name, array in rows.items():
        copy = array.copy()
        columns = copy.T if copy.ndim == 2 else [copy] if len(rows) > 1 else []
        for column in columns:
            changed = np.flatnonzero(random.random(len(column)) < share)
            column[changed] = column[random.integers(len(column), size=len(changed))]
        found[name] = copy
    return found
