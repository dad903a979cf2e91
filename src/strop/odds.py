"""Odds: how likely candidates are to be proven, by what the search saw of them, and what that is worth."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import NormalDist

from .aiming import losses
from .goal import Goal
from .judge import score
from .trial import Outcome

SEARCHED = NormalDist().inv_cdf(0.95)  # standard errors of the bounds that the search has
WIDER = 1.5
"""Times the spread that the search tells of: of few samples, those that lose most are rarely among them."""
EVENS = 0.5  # of a limit that the search leaves open, at the most
LEAST = 1e-9  # that a candidate is worth


def odds(outcome: Outcome, goal: Goal, narrower: float, confidence: float) -> float:
    """The probability that all limits are proven on samples that nothing has seen.

    What is lost there is taken to be normal, as what was lost in the search is, about the same mean.

    Args:
        narrower: Bounds there over bounds in the search, for there are more samples, as a rule.
        confidence: Of each bound there.
    """
    wide, found = NormalDist().inv_cdf(confidence), [1.0]
    found += [EVENS for judged in outcome.report.judged if judged.verdict == "inconclusive"]
    for lost, most in losses(outcome, goal):
        spread = WIDER * max(0.0, most - lost) / SEARCHED if math.isfinite(lost) else 0.0
        room, apart = 1 - lost - wide * spread * narrower, spread * math.hypot(1, narrower)
        found.append(NormalDist().cdf(room / apart) if apart else float(room >= 0))
    return min(found)


def gain(outcome: Outcome, goal: Goal) -> float:
    """The logarithm of how many times as good as the original's the objective is; next to nothing where that can't be
    told."""
    less = goal.direction == "minimize"
    ratio = score(outcome.report, goal) * (1 if less else -1)
    if not 0 < ratio < math.inf:
        return LEAST
    return max(LEAST, -math.log(ratio) if less else math.log(ratio))


def worth(looks: Iterable[tuple[float, float]]) -> float:
    """What is to be expected of looks, the first that is proven ending them.

    Args:
        looks: For each, in turn, the odds and the gain.
    """
    expected, left = 0.0, 1.0
    for likely, gained in looks:
        expected, left = expected + left * likely * gained, left * (1 - likely)
    return expected
