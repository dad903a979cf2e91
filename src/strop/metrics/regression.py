"""Metrics of numbers against numbers: mse, mae, r2, spearman.

They are computed in NumPy, since a bootstrap calls some of them a thousand times, and tested against scikit-learn.
None has a worst score that could stand for NaN; an output that holds it is refused.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from .._numerics import midranks
from ..errors import InvalidData
from ..metric import Metric, Outputs, Probe, Scores
from ..samples import Samples
from ..stats import Comparison, Statistic
from .quality import Case, require_finite, require_labels, scores, select, without_ones

Array = np.ndarray[Any, Any]


class _Regression(Metric):
    rank = 10
    needs_labels = True
    varied = False
    """Whether it needs labels that differ."""

    def check(self, outputs: Outputs, labels: Array | None) -> None:
        judged = scores(outputs)
        _, truth = self._aligned(judged, labels, "the original")
        if self.varied and (truth == truth[0]).all():
            raise InvalidData(
                f"{self.name} needs labels that differ, and all are {truth.ravel()[0]}. Choose `mse` or `mae`."
            )

    def case(self, probe: Probe, rows: Array | None) -> tuple[Case, Array]:
        """Original and candidate as float64 of the labels' shape, and these labels."""
        case = select(probe, rows)
        original, truth = self._aligned(case.original, case.labels, "the original")
        candidate, _ = self._aligned(case.candidate, case.labels, "the candidate")
        return Case(original, candidate, truth, case.groups, case.seed), truth

    def _aligned(self, outputs: Array, labels: Array | None, whose: str) -> tuple[Array, Array]:
        labels = require_labels(self, outputs, labels)
        for what, array in (("outputs", outputs), ("labels", labels)):
            if array.dtype.kind not in "fiub":
                raise InvalidData(f"{self.name} needs numbers, and the {what} are {array.dtype}. Convert them first.")
        values, truth = without_ones(outputs), without_ones(labels)
        if values.shape != truth.shape:
            raise InvalidData(
                f"{self.name} needs labels of the output's shape; outputs are {outputs.shape} and labels "
                f"{labels.shape}. Check which output comes first, and what the labels stand for."
            )
        require_finite(self, truth, "the array of labels")
        return require_finite(self, values.astype(np.float64), whose), truth.astype(np.float64)


class _Error(_Regression):
    """The mean of an error that is 0 at best."""

    better = "lower"

    def by_sample(self, probe: Probe) -> Scores | None:
        case, original, candidate = self._errors(probe, None)
        return Scores(original, candidate, case.groups, 0.0, np.inf)

    def measure(self, probe: Probe, rows: Array | None = None) -> Comparison:
        case, original, candidate = self._errors(probe, rows)
        return Samples(original, candidate, case.groups, seed=case.seed)

    def _errors(self, probe: Probe, rows: Array | None) -> tuple[Case, Array, Array]:
        case, truth = self.case(probe, rows)
        original, candidate = (_per_sample(self._error(side - truth)) for side in (case.original, case.candidate))
        return case, original, candidate

    @abstractmethod
    def _error(self, off: Array) -> Array:
        """Of what an output is off by."""


class Mse(_Error):
    """Mean squared error."""

    name = "mse"

    def _error(self, off: Array) -> Array:
        return off**2


class Mae(_Error):
    """Mean absolute error."""

    name = "mae"

    def _error(self, off: Array) -> Array:
        return np.abs(off)


class R2(_Regression):
    """Coefficient of determination; of several outputs the mean."""

    name = "r2"
    better = "higher"
    varied = True

    def measure(self, probe: Probe, rows: Array | None = None) -> Comparison:
        case, truth = self.case(probe, rows)
        return Statistic(_r2, case.original, case.candidate, truth, case.groups, seed=case.seed)


class Spearman(_Regression):
    """Rank correlation; 0 where all outputs are equal."""

    name = "spearman"
    better = "higher"
    varied = True

    def measure(self, probe: Probe, rows: Array | None = None) -> Comparison:
        case, truth = self.case(probe, rows)
        return Statistic(_spearman, case.original, case.candidate, truth, case.groups, seed=case.seed)


def _per_sample(errors: Array) -> Array:
    mean: Array = errors.reshape(len(errors), -1).mean(axis=1)
    return mean


def _r2(values: Array, truth: Array) -> float:
    missed = ((values - truth) ** 2).sum(axis=0)
    spread = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
    known = spread > 0
    return float(np.mean(1 - missed[known] / spread[known])) if known.any() else np.nan


def _spearman(values: Array, truth: Array) -> float:
    ranks = [midranks(side) - (side.size + 1) / 2 for side in (values.ravel(), truth.ravel())]
    norms = [float(np.sqrt(side @ side)) for side in ranks]
    if norms[1] == 0:
        return np.nan
    return float(ranks[0] @ ranks[1] / (norms[0] * norms[1])) if norms[0] > 0 else 0.0
