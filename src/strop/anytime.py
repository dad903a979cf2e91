"""Anytime: bounds on a mean that hold at every look while samples come in, so that one may stop at any of them.

A race looks again and again at a limit, candidate >= factor * original + constant, on more and more samples. What it
bounds is the mean of one contrast a sample, candidate - factor * original - constant. That serves a ratio of sums over
the same denominators (numerators less constant * denominator: character error rate), and a perplexity (losses, with
log(factor) as the constant). What only a whole set has (AUROC, F1, R2) is no mean: it can't be raced by these.
"""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np

from .stats import Interval

Array = np.ndarray[Any, Any]

BOLDEST = 0.75  # share of the capital that a bet may lose
FIRST_LOOK = 100  # samples before which the asymptotic bounds are infinite
TIGHTEST = 500  # samples at which the asymptotic bounds are narrowest for what they must hold


def bounds(values: Array, low: float, high: float, confidence: float = 0.95) -> Interval:
    """Bound the mean of independent values of known range by betting on them.

    The bounds are the means against which a gambler has not yet made 1 / (1 - confidence) of 1 (Waudby-Smith & Ramdas
    2024, section 4, each side by itself; bets of equation 26 for one side). Over all prefixes of an endless stream
    together, each fails with probability 1 - confidence at the most, whatever the distribution.

    Args:
        values: [n], in the order in which they came. That order must not depend on the values.
        low: The least value possible.
        high: The greatest.
        confidence: Of each bound, over all looks.
    """
    scaled = (np.asarray(values, np.float64) - low) / (high - low)
    mean = float(scaled.mean())
    bets = _bets(scaled, confidence)
    least = _least_mean(scaled, bets, confidence)
    most = 1 - _least_mean(1 - scaled, bets, confidence)
    return Interval(low + (high - low) * mean, low + (high - low) * least, low + (high - low) * most)


def asymptotic_bounds(values: Array, confidence: float = 0.95) -> Interval:
    """Bound the mean of independent values without known range, such as errors of regression.

    It is the one-sided asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024 (sec. 2):
    what the law of the iterated logarithm allows a mean of finite variance. Unlike `bounds` it holds for many samples
    only, and says nothing before a hundred. Of 2,000 exponential values the bound towards the long tail fails at some
    look in 9 % of cases instead of 5 %: a race may drop a candidate by it, a proof may not use it.

    Args:
        values: [n], in the order in which they came.
        confidence: Of each bound, over all looks.
    """
    n = len(values)
    mean = float(np.mean(values))
    half = float(np.std(values)) * _half_width(n, confidence) if n >= FIRST_LOOK else math.inf
    return Interval(mean, mean - half, mean + half)


def log_capital(scaled: Array, mean: float, bets: Array) -> Array:
    """What a gambler has after each value, in logarithms, who bets that their mean is above `mean`.

    Args:
        scaled: [..., n], in [0, 1].
        mean: In (0, 1].
        bets: [..., n], stakes, each settled before its value is seen; cut so that ruin is impossible.

    Returns:
        [..., n]; falling in `mean`.
    """
    return cast(Array, np.cumsum(np.log1p(np.minimum(bets, BOLDEST / mean) * (scaled - mean)), axis=-1))


def _bets(scaled: Array, confidence: float) -> Array:
    """Stakes [..., n] that suit the variance seen before each value."""
    count = np.arange(1, scaled.shape[-1] + 1)
    mean = (0.5 + np.cumsum(scaled, axis=-1)) / (count + 1)
    variance = (0.25 + np.cumsum((scaled - mean) ** 2, axis=-1)) / (count + 1)
    before = np.concatenate([np.full((*scaled.shape[:-1], 1), 0.25), variance[..., :-1]], axis=-1)
    return cast(Array, np.sqrt(-2 * math.log1p(-confidence) / (before * count * np.log1p(count))))


def _least_mean(scaled: Array, bets: Array, confidence: float) -> float:
    from scipy.optimize import brentq

    enough = -math.log1p(-confidence)

    def gained(mean: float) -> float:
        return float(np.log1p(np.minimum(bets, BOLDEST / mean) * (scaled - mean)).sum()) - enough

    return float(brentq(gained, 1e-12, 1.0, xtol=1e-9)) if gained(1e-12) > 0 else 0.0


def _half_width(n: int, confidence: float) -> float:
    """Of the asymptotic sequence after n values, in standard deviations."""
    error = 1 - confidence
    square = (-2 * math.log(error) + math.log(-2 * math.log(error)) + 1) / TIGHTEST
    spent = n * square + 1
    return math.sqrt(2 * spent / (n * n * square) * math.log(1 + math.sqrt(spent) / (2 * error)))
