"""Aiming: how much a step may lose, by how much of what the limits allow was lost before."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from . import metrics
from .goal import Goal
from .settings import Span
from .trial import Outcome

AIM = 0.8  # of what is allowed: losses are in proportion about as well as that
CLOSE = 0.92  # of it, where there is a candidate to fall back on: what loses more may not be proven
ENOUGH = 0.87  # of it, that a candidate has made use of: what is left brings little
LEAST_POWER = 0.3  # with which losses go: less would be guessing far from what is known
STEP = 1.1  # between two shares, under which no third is tried


def spent(outcome: Outcome, goal: Goal) -> float:
    """How much of what the limits on quality allow a candidate lost: 1 is all of it, more breaks one.

    It is told by the bound that has to keep the limit, since what is only met by a point estimate is not proven.
    """
    return max([0.0, *(most if lost <= 1 or most > 1 else math.inf for lost, most in losses(outcome, goal))])


def losses(outcome: Outcome, goal: Goal) -> Iterator[tuple[float, float]]:
    """For each limit on quality of which it is known, how much of what it allows was lost: by the estimate, and by the
    bound that has to keep it (by the estimate, too, where there is none)."""
    limits = {str(limit) for limit in goal.limits if metrics.find(limit.metric).quality}
    for judged in outcome.report.judged:
        if judged.limit in limits and judged.lost is not None and judged.most is not None:
            yield judged.lost, judged.most if math.isfinite(judged.most) else judged.lost


def aim(tried: Mapping[float, float], whole: float, domain: Span) -> float | None:
    """The next share to try of what a step may lose.

    Losses are taken to go with a power of the share: the first, until two shares that were tried tell which. Where few
    samples lose much, as where one letter of a line is read differently, it is nearer to the root.

    Args:
        tried: By share, how much of what is allowed it lost (`spent`).
        whole: The same of what loses all of it.
        domain: Of shares.

    Returns:
        None where one that was tried makes good use of what is allowed, or there is none between two of them.
    """
    if whole <= 1 and not tried:
        return domain.high
    known = {**tried, domain.high: whole} if whole > 1 else tried
    kept = max((share for share, used in tried.items() if used <= 1), default=0.0)
    broken = min((share for share, used in known.items() if used > 1), default=math.inf)
    if kept >= domain.high or tried.get(kept, 0.0) >= ENOUGH:
        return None
    nearest = broken if broken < math.inf else kept
    wanted = CLOSE if kept else AIM
    share = nearest * (wanted / max(known[nearest], 1e-9)) ** (1 / _power(known, nearest))
    if not kept * STEP < share < broken / STEP:  # nor with that power: halfway, then
        share = math.sqrt(kept * broken) if kept and broken < math.inf else share
    share = float(f"{min(max(share, domain.low), domain.high):.2g}")
    return share if kept * STEP <= share <= broken / STEP else None


def _power(known: Mapping[float, float], nearest: float) -> float:
    """That with which losses go: by the share that is to be the measure, and the next one that lost more."""
    more = min((share for share, used in known.items() if share > nearest and used < math.inf), default=None)
    if more is None or not 0 < known[nearest] < known[more]:
        return 1.0
    power = math.log(known[more] / known[nearest]) / math.log(more / nearest)
    return min(max(power, LEAST_POWER), 1.0)
