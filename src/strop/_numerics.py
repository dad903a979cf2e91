"""What the statistics compute, on plain numbers and arrays."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any, cast

import numpy as np

Array = np.ndarray[Any, Any]

BISECTIONS = 6  # after which the end is near enough for a secant
NEAR = 1e-8  # of the logarithm of b


def unseen(n: int, confidence: float) -> float:
    """The greatest rate at which an event stays unseen in n trials with probability 1 - confidence."""
    return -math.expm1(math.log1p(-confidence) / max(n, 1))


def mean_bound(counts: Array, values: Array, confidence: float) -> Array:
    """The lower bound on the mean of `values` over a multinomial, of which `counts` were seen.

    Gaffke's bound (Gaffke 2005; Learned-Miller & Thomas 2020, section 3): one sample more is reckoned with, which
    scored the worst; the bound is the quantile 1 - confidence of the mean under weights that are Dirichlet of these
    counts. Of two values it is the exact bound of Clopper & Pearson 1934, so that no event in n trials leaves
    1 - (1 - confidence)^(1/n). For more values its validity is a conjecture that nobody has seen fail; score bounds
    (Tango 1998) are a tenth narrower and cover 91 % instead of 95 % where events are few.

    The quantile is found on the path of Dirichlet weights p_k = c_k / (1 + b v_k) / sum: each b > 0 is the saddlepoint
    of one mean t, and P(mean < t) follows from Lugannani & Rice 1980, equation 15, good to 2 % of itself.

    Args:
        counts: [..., k].
        values: [..., k], broadcast against the counts.
        confidence: Above 0.5.

    Returns:
        [...].
    """
    from scipy.special import betaincinv, ndtr

    counts, values = np.broadcast_arrays(np.asarray(counts, np.float64), np.asarray(values, np.float64))
    worst = values.min(axis=-1)
    excess = values - worst[..., None]
    better = np.where(counts > 0, excess, 0).max(axis=-1)
    above = np.where(excess > 0, counts, 0).sum(axis=-1)
    two_values = (counts * excess * (excess - better[..., None]) == 0).all(axis=-1)
    weights = counts + (np.arange(values.shape[-1]) == excess.argmin(axis=-1)[..., None])
    total = weights.sum(axis=-1)
    exact = worst + better * np.where(above > 0, betaincinv(np.maximum(above, 1), total - above, 1 - confidence), 0)
    if two_values.all():
        return cast(Array, exact)

    def path(b: Array) -> tuple[Array, Array]:
        """Means t, and the probability of a lower one."""
        tilt = 1 / (1 + b[..., None] * excess)
        scale = total / np.einsum("...k,...k", weights, tilt)
        tilt *= scale[..., None]  # p_k = weights * tilt / total
        mean = np.einsum("...k,...k,...k", weights, tilt, excess) / total
        far = np.einsum("...k,...k", weights, np.log(tilt))
        root = -np.sqrt(np.maximum(-2 * far, 0))
        tilt *= excess - mean[..., None]
        steep = -b / (1 + b * mean) * np.sqrt(np.einsum("...k,...k,...k", weights, tilt, tilt))
        with np.errstate(divide="ignore", invalid="ignore"):
            below = ndtr(root) + np.exp(-(root**2) / 2) / math.sqrt(2 * math.pi) * (1 / root - 1 / steep)
        return mean, below

    # Bisection, then regula falsi: an end that stays twice counts half (Dowell & Jarratt 1971, "Illinois").
    low, high, last = np.full(total.shape, -20.0), np.full(total.shape, 25.0), np.zeros(total.shape)
    above, below, middle = np.ones(total.shape), np.full(total.shape, -1.0), high
    for step in range(64):
        before, share = middle, 0.5 if step < BISECTIONS else above / (above - below)
        middle = low + share * (high - low)
        mean, less = path(np.exp(middle))
        likely = ~(less <= 1 - confidence)  # NaN where b is 0 for the computer
        off = np.where(np.isnan(less), 1.0, less - (1 - confidence))
        again = np.where(likely == last, 0.5, 1.0)
        low, high = np.where(likely, middle, low), np.where(likely, high, middle)
        above, below, last = np.where(likely, off, above * again), np.where(likely, below * again, off), likely
        if (two_values | (np.abs(middle - before) < NEAR)).all():
            break
    return cast(Array, np.where(two_values, exact, worst + mean))


def least_ratio(cells: Array, confidence: float) -> float:
    """The greatest factor f for which mean(candidate - f original) is bounded above 0; cells as in `Binary`."""
    right = cells[1] + cells[3]
    if right == 0:
        return 0.0
    low, high = 0.0, float(right / max(cells[2] + cells[3], 0.5))
    for _ in range(8):
        f = np.linspace(low, high, 33)
        contrast = np.stack([np.zeros(33), np.ones(33), -f, 1 - f], axis=1)
        kept = int((mean_bound(cells, contrast, confidence) > 0)[:-1].sum())
        low, high = (f[max(kept - 1, 0)], f[max(kept, 1)])
    return float(low)


def between(kept: Callable[[float], bool], low: float, high: float) -> float:
    """The point between two up to which `kept` holds."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if kept(middle) else (low, middle)
    return low


def stretch(units: int, confidence: float) -> float:
    """By how much bounds from `units` resampled units must be stretched to be as wide as a t interval."""
    from scipy.special import stdtrit

    student = float(stdtrit(units - 1, confidence))
    return student / NormalDist().inv_cdf(confidence) * math.sqrt(units / (units - 1))


def midranks(values: Array) -> Array:
    """The rank of each of [n] values, from 1: equal ones share the mean of theirs; with a NaN among them, all are NaN.

    As scipy.stats has it, which takes every process most of a second to import.
    """
    if np.isnan(values).any():
        return np.full(len(values), np.nan)
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return cast(Array, (np.cumsum(count) - (count - 1) / 2)[place])


def skewness(values: Array) -> float:
    """Third standardized moment; 0 where there is no finite spread."""
    if not np.isfinite(values).all() or values.max() == values.min():
        return 0.0
    deviation = (values - values.mean()) / values.std()
    return float((deviation**3).mean())


def leaning(confidence: float, acceleration: float) -> float:
    """The percentile for a bound on the side where the tail is longer; never less than without acceleration.

    The other side is left as it is: what a long tail would take from it, a sample that missed the tail can't tell.
    """
    if acceleration <= 0:
        return confidence
    z = acceleration + NormalDist().inv_cdf(confidence)
    return NormalDist().cdf(acceleration + z / (1 - acceleration * z)) if acceleration * z < 1 else 1.0


def membership(groups: Array | None, n: int) -> tuple[Array, int]:
    """For each sample the number of its group, and how many groups there are."""
    if groups is None:
        return np.arange(n), n
    names, member = np.unique(groups, return_inverse=True)
    return member, len(names)


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
