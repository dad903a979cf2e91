"""What the statistics compute, on plain numbers and arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from statistics import NormalDist
from typing import Any, cast

import numpy as np

Array = np.ndarray[Any, Any]


def unseen(n: int, confidence: float) -> float:
    """The greatest rate at which an event stays unseen in n trials with probability 1 - confidence."""
    return -math.expm1(math.log1p(-confidence) / max(n, 1))


def score_bound(cells: tuple[int, ...], values: tuple[float, ...], confidence: float) -> float:
    """The lower bound on the mean of `values` over a multinomial, by inverting its score test.

    With mean m observed, delta tested and the restricted estimate p_k = n_k / (n (1 + l (d_k - delta))), the test
    statistic obeys Z^2 = n l (m - delta); so at the bound l = z^2 / (n (m - delta)), and delta is where the p_k sum
    to 1. An unseen worst cell u takes the rest of the mass once 1 + l (d_u - delta) = 0, which is at
    delta = (n m + z^2 d_u) / (n + z^2), above which there is no solution.
    """
    n = sum(cells)
    mean = sum(count * value for count, value in zip(cells, values, strict=True)) / n
    square = NormalDist().inv_cdf(confidence) ** 2
    worst = min(values)
    seen = any(count and value == worst for count, value in zip(cells, values, strict=True))
    if seen and mean == worst:
        return worst
    most = (n * mean + square * worst) / (n + square)

    def mass(delta: float) -> float:
        weight = square / (n * (mean - delta))
        return sum(
            count / (n * (1 + weight * (value - delta))) for count, value in zip(cells, values, strict=True) if count
        )

    inside = seen or (square > 0 and mass(most) > 1)
    bound = _bisect(lambda delta: mass(delta) < 1, worst, most) if inside else most
    if not seen:
        rare = unseen(n, confidence)
        bound = min(bound, (1 - rare) * mean + rare * worst)
    return bound


def least_ratio(cells: tuple[int, ...], confidence: float) -> float:
    """The greatest factor f for which mean(candidate - f original) is bounded above 0; cells as in `Binary`."""
    right = cells[1] + cells[3]
    if right == 0:
        return 0.0
    most = right / (cells[2] + cells[3] + NormalDist().inv_cdf(confidence) ** 2)
    return _bisect(lambda f: score_bound(cells, (0, 1, -f, 1 - f), confidence) > 0, 0.0, most)


def _bisect(below: Callable[[float], bool], low: float, high: float) -> float:
    """The point up to which `below` holds."""
    for _ in range(100):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if below(middle) else (low, middle)
    return low


def stretch(units: int, confidence: float) -> float:
    """By how much bounds from `units` resampled units must be stretched to be as wide as a t interval."""
    from scipy.special import stdtrit

    student = float(stdtrit(units - 1, confidence))
    return student / NormalDist().inv_cdf(confidence) * math.sqrt(units / (units - 1))


def membership(groups: Array | None, n: int) -> tuple[Array, int]:
    """For each sample the number of its group, and how many groups there are."""
    if groups is None:
        return np.arange(n), n
    names, member = np.unique(groups, return_inverse=True)
    return member, len(names)


def counts(rng: np.random.Generator, resamples: int, units: int) -> Iterator[Array]:
    """How often each unit is drawn in each resample, in pieces of at most about a million numbers: [piece, units]."""
    step = max(1, 1_000_000 // units)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = rng.integers(0, units, (size, units)) + units * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * units).reshape(size, units).astype(np.float64)


def timing_mean(blocks: list[Array], counts: Array) -> Array:
    """The mean over blocks [runs], pooled as often as `counts` [resamples, blocks] says."""
    sums = np.array([block.sum() for block in blocks])
    lengths = np.array([float(len(block)) for block in blocks])
    return cast(Array, counts @ sums / (counts @ lengths))


def timing_quantile(share: float) -> Callable[[list[Array], Array], Array]:
    """As `timing_mean`, for the smallest time that a share of the pooled runs does not exceed.

    It is looked up among at most 4,000 of all times, evenly spaced by rank: three places in 10,000 at most.
    """

    def quantile(blocks: list[Array], counts: Array) -> Array:
        pooled = np.sort(np.concatenate(blocks))
        ranks = np.unique(np.linspace(0, len(pooled) - 1, 4000).round().astype(np.intp))
        below = np.stack([np.searchsorted(np.sort(block), pooled[ranks], side="right") for block in blocks])
        reached = counts @ below.astype(np.float64)
        wanted = share * (counts @ np.array([float(len(block)) for block in blocks]))
        return cast(Array, pooled[ranks[np.argmax(reached >= wanted[:, None] - 1e-9, axis=1)]])

    return quantile
