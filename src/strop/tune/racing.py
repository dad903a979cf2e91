"""Racing: which differences of scores on the same folds are more than noise.

Folds share training data, so their differences vary less than those of independent ones would. The corrected resampled
t test (Nadeau & Bengio 2003, section 5) counts a difference's variance (1/k + n_test/n_train) times instead of 1/k.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from ..stats import Interval, quotient, shifted

Array = np.ndarray[Any, Any]

LEVEL = 0.05  # of one-sided tests
FEW = 3  # pairs of candidates from which the noise of a difference is known


def standard_error(differences: Array, ratio: float) -> float:
    """Of the mean of differences on k folds, corrected.

    Args:
        ratio: Test samples over training samples of a fold.
    """
    k = len(differences)
    return float(np.std(differences, ddof=1) * math.sqrt(1 / k + ratio)) if k > 1 else math.inf


def apart(differences: Array, ratio: float) -> bool:
    """Whether a mean difference is above 0, one-sided at 5 %."""
    from scipy.special import stdtr

    mean, error = float(np.mean(differences)), standard_error(differences, ratio)
    if not math.isfinite(error):
        return False
    if error == 0:
        return mean > 0
    return float(1 - stdtr(len(differences) - 1, mean / error)) < LEVEL


class Noise:
    """The spread that the difference of two good candidates has from fold to fold, as far as it was seen.

    With it a candidate can be dropped after its first fold, which alone tells no spread.
    """

    def __init__(self) -> None:
        self._seen: list[float] = []

    def learn(self, differences: Array) -> None:
        """From two candidates of which all folds are known."""
        if len(differences) > 1 and (spread := float(np.std(differences, ddof=1))) > 0:
            self._seen.append(spread)

    def hopeless(self, behind: Array, ratio: float) -> bool:
        """Whether a candidate lags behind by more than noise explains.

        Args:
            behind: How much better the best one was on each fold that was run.
            ratio: Test samples over training samples of a fold.
        """
        if len(self._seen) < FEW:
            return len(behind) > 1 and apart(behind, ratio)
        quantile = NormalDist().inv_cdf(1 - LEVEL)
        return float(np.mean(behind)) > quantile * float(np.median(self._seen)) / math.sqrt(len(behind))


@dataclass(frozen=True, eq=False)
class Folds:
    """A `Comparison` of values on the same folds, by the corrected resampled t test.

    Attributes:
        original_folds: [k].
        candidate_folds: [k].
        ratio_of_sizes: Test samples over training samples.
        n: Samples that were judged in all.
    """

    original_folds: Array
    candidate_folds: Array
    ratio_of_sizes: float
    n: int

    def original(self, confidence: float = 0.95) -> Interval:
        return self._interval(self.original_folds, confidence)

    def candidate(self, confidence: float = 0.95) -> Interval:
        return self._interval(self.candidate_folds, confidence)

    def ratio(self, confidence: float = 0.95) -> Interval:
        """Of the means; the spread of the numerator's share of the denominator (delta method)."""
        base = float(np.mean(self.original_folds))
        value = quotient(float(np.mean(self.candidate_folds)), base)
        if base <= 0:
            return Interval(value, -math.inf, math.inf)
        around = self._interval((self.candidate_folds - value * self.original_folds) / base, confidence)
        return Interval(value, value + around.low, value + around.high)

    def margin(self, factor: float, constant: float, confidence: float = 0.95) -> Interval:
        return shifted(self._interval(self.candidate_folds - factor * self.original_folds, confidence), constant)

    def _interval(self, values: Array, confidence: float) -> Interval:
        from scipy.special import stdtrit

        mean, error = float(np.mean(values)), standard_error(values, self.ratio_of_sizes)
        reach = 0.0 if error == 0 else float(stdtrit(max(1, len(values) - 1), confidence)) * error
        return Interval(mean, mean - reach, mean + reach)


def corrected_for_choice(folds: Sequence[Array], best: int) -> float:
    """By how much a mean over folds flatters the best of several candidates, more being better.

    On each fold another candidate may be the best; how much better it is there than the one that was chosen over all
    folds estimates the bias of choosing (Tibshirani & Tibshirani 2009, section 2).

    Args:
        folds: [k] each, one a candidate.
        best: Which was chosen.
    """
    table = np.array(folds)
    return float(np.mean(table.max(axis=0) - table[best]))
