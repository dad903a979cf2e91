"""Limits: what was found of each, in the terms that it is written in, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ..advice import would_decide
from ..errors import StropError
from ..goal import Limit
from ..metrics import better
from ..stats import Interval
from ..units import named, share, spread, stored
from .parts import badge, table

UNJUDGED = "not judged"


def limits_table(
    limits: Sequence[Mapping[str, Any]], before: Mapping[str, Any], after: Mapping[str, Any], ratios: Mapping[str, Any],
    slices: Mapping[str, Any], asked: Sequence[str] = (),
) -> str:  # fmt: skip
    """Limit by limit: what was found, the verdict, and what would decide an open one.

    Args:
        limits: As a manifest has them.
        before: Metrics of the original, likewise.
        after: Those of what is judged.
        ratios: Its metrics over the original's.
        slices: What was found of each.
        asked: All limits of the goal: what is not among `limits` was not looked at, since another was broken first.
    """
    rows = [
        [limit_text(found), escape(_found(found, before, after, ratios, slices)), verdict_text(found)]
        for found in limits
    ]
    left = [limit for limit in asked if limit not in {found["limit"] for found in limits}] if limits else []
    rows += [[escape(limit), "", escape(f"{UNJUDGED}: another was broken first")] for limit in left]
    return table("Limits", ["limit", "found", "verdict"], rows)


def limit_text(found: Mapping[str, Any]) -> str:
    """A limit, and the slice that decides it."""
    where = f" ({found['slice']})" if found.get("slice") else ""
    return escape(named(found["limit"], found.get("source", "")) + where)


def verdict_text(found: Mapping[str, Any]) -> str:
    """A verdict, in its colour."""
    verdict = found["verdict"]
    open_ = verdict == "inconclusive" and not found.get("why")
    needed = f", {would_decide(found['limit'], found.get('needed'))}" if open_ else ""
    why = f": {found['why']}" if found.get("why") else ""
    return badge(verdict, f"{needed}{why}")


def _found(
    found: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any], ratios: Mapping[str, Any],
    slices: Mapping[str, Any],
) -> str:  # fmt: skip
    """A value for a value, times the original's for a share of it, a drop for a drop; with bounds."""
    try:
        limit = Limit.parse(found["limit"])
    except StropError:  # a metric of a package that is not installed here
        return ""
    name, part = limit.metric, slices.get(found.get("slice") or "", {}).get("metrics", {})
    ratio = part[name]["ratio"] if name in part else ratios.get(name)
    unit = after.get(name, {}).get("unit", limit.unit)
    if limit.scope == "drop" and not limit.relative:
        if ratio is None or name not in before or before[name]["value"] is None:
            return ""
        return f"a drop of {spread(_drop(stored(ratio), before[name]['value'], better().get(name)), unit)}"
    if limit.relative:
        return "" if ratio is None else f"{share(stored(ratio))} of the original's"
    return spread(stored(found), unit)


def _drop(ratio: Interval, original: float, way: str | None) -> Interval:
    """How much worse than the original's value one is that has this ratio to it."""
    sign = -original if way == "lower" else original
    ends = sorted((sign * (1 - ratio.low), sign * (1 - ratio.high)))
    return Interval(sign * (1 - ratio.value), *ends)
