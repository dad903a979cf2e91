"""Aiming: how much a step may lose, by how much of what the limits allow was lost before."""

from __future__ import annotations

import math
from collections.abc import Mapping

from . import metrics
from .goal import Goal
from .settings import Span
from .trial import Outcome

AIM = 0.8  # of what is allowed: losses are in proportion about as well as that
ENOUGH = 0.6  # of it, that a candidate has made use of: what is left brings little
STEP = 1.2  # between two shares, under which no third is tried


def spent(outcome: Outcome, goal: Goal) -> float:
    """How much of what the limits on quality allow a candidate lost: 1 is all of it, more breaks one.

    It is told by the bound that has to keep the limit, since what is only met by a point estimate is not proven.
    """
    found = [0.0]
    for limit in goal.limits:
        metric = metrics.find(limit.metric)
        judged = next((judged for judged in outcome.report.judged if judged.limit == str(limit)), None)
        figure = outcome.report.figures.get(limit.metric)
        if not metric.quality or judged is None or figure is None:
            continue
        right, drop = figure.original.value, limit.scope == "drop"
        bound = judged.low if metric.better == "higher" and not drop else judged.high
        seen = bound if math.isfinite(bound) else judged.value
        lost = seen if drop else right - seen
        allowed = limit.value if drop else right - limit.value * (right if limit.relative else 1.0)
        known = lost / allowed if allowed else math.copysign(math.inf, lost) if lost else 0.0
        found.append(known if judged.violation <= 0 or known > 1 else math.inf)
    return max(found)


def aim(tried: Mapping[float, float], whole: float, domain: Span) -> float | None:
    """The next share to try of what a step may lose, which losses are taken to be in proportion to.

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
    share = nearest * AIM / max(known[nearest], 1e-9)
    if not kept * STEP < share < broken / STEP:  # not in proportion: halfway, then
        share = math.sqrt(kept * broken) if kept and broken < math.inf else share
    share = float(f"{min(max(share, domain.low), domain.high):.2g}")
    return share if kept * STEP <= share <= broken / STEP else None
