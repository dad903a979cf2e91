"""Means and ratios of sums of paired scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ._numerics import mean_bound, membership, stretch
from .stats import MOST_UNITS, Interval, Unseen, quotient, shifted

Array = np.ndarray[Any, Any]


class Samples:
    """Means of paired scores, or ratios of paired sums, over independent samples or groups of them.

    Bounds are `mean_bound` of what each sample or group adds (its jackknife deviation: Efron & Tibshirani 1993, chapter
    11): one more is reckoned with, that is as bad as the worst seen. So they are of one kind with those of `Binary`,
    and lean with the scores: a bootstrap's, of any kind, fail in up to a tenth of the cases where few of 100 samples
    change. They are stretched for few groups as a t interval is (Hesterberg 2015, section 5.3).

    Where most samples do not change at all, the few that do tell little of how bad one can get: the one more is then as
    bad as the greatest change seen in either direction.

    More than 2,000 groups are merged at random into 2,000, which leaves variance and skewness of the mean as they are.

    Args:
        original: [n] scores, or numerators.
        candidate: [n], the same samples.
        groups: [n], what samples belong together.
        weights_original: [n] denominators of the original; None for 1 each.
        weights_candidate: [n] denominators of the candidate; None for 1 each.
        transform: Applied to the ratio of sums, for instance `np.exp` for perplexity.
        bounds: The least and greatest score, see `Unseen`. Real scores that agree to the last bit on every sample come
            from the same function and need none; those of few values do: `bounds_of_counts`.
        support: See `Unseen`; None for the number of groups.
        seed: Of the merging.
    """

    def __init__(
        self,
        original: Array,
        candidate: Array,
        groups: Array | None = None,
        weights_original: Array | None = None,
        weights_candidate: Array | None = None,
        transform: Callable[[Any], Any] | None = None,
        bounds: tuple[float, float] | None = None,
        support: int | None = None,
        seed: int = 0,
    ):
        self.n = len(original)
        ones = np.ones(self.n)
        columns = [
            ones if column is None else np.asarray(column, np.float64)
            for column in (original, weights_original, candidate, weights_candidate)
        ]
        member, self.units = membership(groups, self.n)
        if self.units > MOST_UNITS:
            member = (np.random.default_rng(seed).permutation(self.units) % MOST_UNITS)[member]
        sums = [np.bincount(member, weights=column) for column in columns]

        def values(left_out: Any) -> list[Any]:
            """Of original and candidate, without some part of each sum."""
            found = []
            for at in (0, 2):
                with np.errstate(divide="ignore", invalid="ignore"):
                    value = (sums[at].sum() - left_out[at]) / (sums[at + 1].sum() - left_out[at + 1])
                found.append(value if transform is None else transform(value))
            return found

        self._values = [float(value) for value in values(np.zeros(4))]
        self._left = values(sums)  # [units], without this unit
        self._settled = bool((sums[0] == sums[2]).mean() > 0.5 and (sums[1] == sums[3]).mean() > 0.5)
        self._unseen = bounds and Unseen(
            *bounds,
            self.units if support is None else support,
            fell=bool((columns[2] < columns[0]).any()),
            rose=bool((columns[2] > columns[0]).any()),
        )

    def original(self, confidence: float = 0.95) -> Interval:
        return self._single(0, confidence)

    def candidate(self, confidence: float = 0.95) -> Interval:
        return self._single(1, confidence)

    def ratio(self, confidence: float = 0.95) -> Interval:
        """On the logarithmic scale where all is positive. Unknown where the original is negative: a greater ratio would
        then be a lesser value."""
        original, candidate = self._values
        if original < 0:
            return Interval(np.nan, -np.inf, np.inf)
        value = quotient(candidate, original)
        if original > 0 and candidate > 0 and all((left > 0).all() for left in self._left):
            found = self._bounded(np.log(value), np.log(self._left[1] / self._left[0]), confidence)
            low, high = np.exp([found.low, found.high])
            found = Interval(value, min(value, float(low)), max(value, float(high)))
        else:
            found = self._bounded(value, np.array([*map(quotient, self._left[1], self._left[0])]), confidence)
        return self._widened(found, quotient, confidence)

    def margin(self, factor: float, constant: float, confidence: float = 0.95) -> Interval:
        if factor == 0:
            return shifted(self.candidate(confidence), constant)

        def contrast(candidate: Any, original: Any) -> Any:
            return candidate - factor * original

        found = self._bounded(contrast(*self._values[::-1]), contrast(*self._left[::-1]), confidence)
        return shifted(self._widened(found, contrast, confidence), constant)

    def _single(self, side: int, confidence: float) -> Interval:
        found = self._bounded(self._values[side], self._left[side], confidence)
        return self._unseen.alone(found, confidence) if self._unseen else found

    def _widened(self, found: Interval, of: Callable[[Any, Any], Any], confidence: float) -> Interval:
        if self._unseen is None:
            return found
        original, candidate = self._values
        return self._unseen.changed(found, of, candidate, original, confidence)

    def _bounded(self, value: float, left: Array, confidence: float) -> Interval:
        """The interval of a value that is `left` [units] without one of the units."""
        with np.errstate(invalid="ignore"):
            deviations = (len(left) - 1) * (value - left)
        if self.units == 1 or not np.isfinite(deviations).all():
            return Interval(value, -np.inf, np.inf)
        deviations -= deviations.mean()
        scale = float(abs(deviations).max())
        if scale == 0:
            return Interval(value, value, value)
        seen, counts = np.unique(deviations / scale, return_counts=True)
        if self._settled:
            seen, counts = np.r_[seen, -1, 1], np.r_[counts, 0, 0]
        below, above = mean_bound(counts, np.stack([seen, -seen]), confidence) * scale * stretch(self.units, confidence)
        return Interval(value, value + min(float(below), 0.0), value - min(float(above), 0.0))


def bounds_of_counts(*scores: tuple[Array, Array | None]) -> tuple[float, float] | None:
    """The least and greatest score seen, one more where all are the same; None where some are not whole numbers.

    Whole numbers, such as edits, may well agree by chance on few samples.

    Args:
        scores: Numerators and denominators, [n] each, of all that is compared.
    """
    columns = [column for pair in scores for column in pair if column is not None]
    if not all((column == np.round(column)).all() for column in columns):
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = np.concatenate([top / (1.0 if below is None else below) for top, below in scores])
    rates = rates[np.isfinite(rates)]
    least, most = (float(rates.min()), float(rates.max())) if len(rates) else (0.0, 0.0)
    return least, most if most > least else least + 1
