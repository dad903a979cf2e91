"""Paired areas under the ROC curve, and how sure they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from ._numerics import between, midranks, unseen
from .stats import Interval

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Area:
    """An area under the ROC curve: of one class against the rest, or the mean of several.

    Attributes:
        value: The area, NaN where no class has both positives and negatives.
        influence: [n], what each sample adds: the area is their mean, and to first order so is that of other samples
            (DeLong et al. 1988, structural components; with groups Obuchowski 1997).
        placement: [n], the share of the other side that each sample is ranked right against, meaned over classes.
        pairs: Of a positive and a negative; of several classes as many as would tell one area as well as their mean.
    """

    value: float
    influence: Array
    placement: Array
    pairs: float

    @classmethod
    def of(cls, classes: Sequence[tuple[Array, Array]]) -> Area:
        """Of one pair (whether it is this class [n], score of this class [n]) a class, by midranks (Sun & Xu 2014)."""
        n, known, inverse = len(classes[0][0]), 0, 0.0
        influence, placement = np.zeros(n), np.zeros(n)
        for truth, score in classes:
            positives = int(truth.sum())
            if not 0 < positives < n:
                continue
            known += 1
            inverse += 1 / (positives * (n - positives))
            over_all = midranks(score)
            placed = np.empty(n)
            placed[truth] = (over_all[truth] - midranks(score[truth])) / (n - positives)
            placed[~truth] = 1 - (over_all[~truth] - midranks(score[~truth])) / positives
            area = placed[truth].mean()
            influence += area + (placed - area) * n / np.where(truth, positives, n - positives)
            placement += placed
        if not known:
            return cls(math.nan, np.full(n, np.nan), np.full(n, np.nan), 0.0)
        return cls(float((influence / known).mean()), influence / known, placement / known, known**2 / inverse)


class DeLong:
    """Paired areas of independent samples (DeLong, DeLong & Clarke-Pearson 1988).

    Bounds on a contrast are those of Student's t with the degrees of freedom of Brunner & Munzel 2000 (section 3), and
    lean with the skewness of the components (Johnson 1978), where that makes them wider. A single area has the widest
    of three: on the logit scale; as the share of so many independent samples as would have its variance (Korn &
    Graubard 1998), which bounds it well away from 1/2; and towards 1/2 with the variance that an area there would
    have (Newcombe 2006, method 5), since near 1 the samples show too little of it. Where no sample is seen to fall (or
    rise), an unseen change at its worst may still have happened to a share 1 - (1 - confidence)^(1/m) of the m samples
    of the rarest class.

    Args:
        original: Its area.
        candidate: Its area, on the same samples.
        strata: [n], the class of each sample, from 0.
    """

    def __init__(self, original: Area, candidate: Area, strata: Array):
        self._areas = (original, candidate)
        self._sizes = np.bincount(strata)
        self._strata = strata
        self._support = int(self._sizes[self._sizes > 0].min())
        told = self._support > 1  # one sample shows no spread, whatever it does
        self._fell = told and bool((candidate.placement < original.placement).any())
        self._rose = told and bool((candidate.placement > original.placement).any())

    @property
    def n(self) -> int:
        return len(self._strata)

    def original(self, confidence: float = 0.95) -> Interval:
        return self._single(self._areas[0], confidence)

    def candidate(self, confidence: float = 0.95) -> Interval:
        return self._single(self._areas[1], confidence)

    def ratio(self, confidence: float = 0.95) -> Interval:
        """The factors for which `margin(factor, 0)` reaches 0 (Fieller 1954)."""
        original, candidate = (area.value for area in self._areas)
        if not original > 0:
            return Interval(math.nan, -math.inf, math.inf)
        value = candidate / original
        most = 1 / max(self.original(confidence).low, 1e-9)
        low = between(lambda factor: self.margin(factor, 0, confidence).low > 0, 0, value)
        high = between(lambda factor: self.margin(factor, 0, confidence).high > 0, value, max(most, value))
        return Interval(value, low, high)

    def margin(self, factor: float, constant: float, confidence: float = 0.95) -> Interval:
        original, candidate = self._areas
        if factor == 0:
            alone = self.candidate(confidence)
            return Interval(alone.value - constant, alone.low - constant, alone.high - constant)
        value = candidate.value - factor * original.value
        if math.isnan(value):
            return Interval(value, -math.inf, math.inf)
        error, skewness, freedom = self._spread(candidate.influence - factor * original.influence, value)
        below, above = _leaning(error, skewness, freedom, confidence)
        low, high = value - below, value + above
        rare = unseen(self._support, confidence)
        if not self._fell:
            low = min(low, (1 - rare) * value - rare * factor)
        if not self._rose:
            high = max(high, (1 - rare) * value + rare)
        return Interval(value - constant, max(low, -factor) - constant, min(high, 1.0) - constant)

    def _single(self, area: Area, confidence: float) -> Interval:
        from scipy.special import betaincinv, expit, logit, stdtrit

        value = area.value
        if math.isnan(value):
            return Interval(value, -math.inf, math.inf)
        error, _, freedom = self._spread(area.influence, value)
        rare = unseen(self._support, confidence)
        if not 0 < value < 1 or error == 0 or self._support == 1:
            return Interval(value, (1 - rare) * value, rare + (1 - rare) * value)
        half = float(stdtrit(freedom, confidence)) * error / (value * (1 - value))
        samples = value * (1 - value) / error**2
        low = float(betaincinv(samples * value, samples * (1 - value) + 1, 1 - confidence))
        high = float(betaincinv(samples * value + 1, samples * (1 - value), confidence))
        centre, score = float(logit(value)), self._score_bound(max(value, 1 - value), area.pairs, confidence)
        low = min(low, float(expit(centre - half)), score if value > 0.5 else 1.0)
        high = max(high, float(expit(centre + half)), 0.0 if value > 0.5 else 1 - score)
        return Interval(value, low, high)

    def _score_bound(self, value: float, pairs: float, confidence: float) -> float:
        """The least area from which one of `value` is no further off than its standard error there allows."""
        z = NormalDist().inv_cdf(confidence)

        def far(area: float) -> bool:
            shape = 1 + (self.n / 2 - 1) * ((1 - area) / (2 - area) + area / (1 + area))
            return value - area > z * math.sqrt(area * (1 - area) * shape / pairs)

        return between(far, 0.5, value)

    def _spread(self, influence: Array, value: float) -> tuple[float, float, float]:
        """Standard error, skewness and degrees of freedom of a mean of influences."""
        deviation = influence - value
        sizes = self._sizes
        squares = np.bincount(self._strata, deviation**2) * sizes / np.maximum(sizes - 1, 1)
        total = float(squares.sum())
        if total == 0:
            return 0.0, 0.0, math.inf
        cubes = float((deviation**3).sum())
        freedom = total**2 / float((squares**2 / np.maximum(sizes - 1, 1)).sum())
        return math.sqrt(total) / self.n, cubes / total**1.5, freedom


def _leaning(error: float, skewness: float, freedom: float, confidence: float) -> tuple[float, float]:
    """How far the bounds lie below and above the value."""
    from scipy.special import stdtrit

    if error == 0:
        return 0.0, 0.0
    half = float(stdtrit(freedom, confidence))
    lean = skewness * (1 + 2 * NormalDist().inv_cdf(confidence) ** 2) / 6
    return error * (half + max(-lean, 0)), error * (half + max(lean, 0))
