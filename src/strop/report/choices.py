"""Choices: every candidate that was measured, as points over two metrics and as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ..goal import Goal
from ..units import duration, named, share, stored
from .frontier import LOOKS, Axis, Tried, chart
from .limits import limit_text, verdict_text
from .parts import badge, table

FAILED = "-"


def measured(tried: Sequence[Tried]) -> list[Tried]:
    """Those that cost a trial: neither refused, nor a longer chain of what had failed before."""
    return [one for one in tried if one["cause"] != "refused" and one["seconds"]]


def choices(tried: Sequence[Tried], found: Mapping[str, Any]) -> str:
    """The frontier and the table, of what was measured on the search split.

    Args:
        tried: All candidates.
        found: As a manifest has it: `goal`, `winner`, `closest` and `confirmed`.
    """
    return frontier(tried, found) + (_table(shown, found) if (shown := measured(tried)) else "")


def frontier(tried: Sequence[Tried], found: Mapping[str, Any]) -> str:
    """The chart of them alone, by the same arguments; nothing where there are no two metrics to draw it by."""
    shown, goal = measured(tried), Goal.of_json(found["goal"])
    axes = _axes(shown, goal)
    told = [_told(one, found) for one in shown]
    return chart(shown, told, axes, goal, _verdicts(found)) if len(axes) > 1 else ""


def _verdicts(found: Mapping[str, Any]) -> dict[str, str]:
    """By candidate, what the confirm split said."""
    return {one["candidate"]: one["verdict"] for one in found["confirmed"]}


def _axes(shown: Sequence[Tried], goal: Goal) -> list[Axis]:
    return [Axis.of(name, shown, goal) for name in _named(shown)]


def _named(tried: Sequence[Tried]) -> list[str]:
    return list(dict.fromkeys(name for one in tried for name in one["report"]["figures"]))


def _told(one: Tried, found: Mapping[str, Any]) -> str:
    """A key of `LOOKS`; why it was not measured, where it was not."""
    if one["cause"] != "done":
        return str(one["cause"])
    for side, look in (("winner", "handed over"), ("closest", "closest")):
        if (made := found[side]) and (one["route"], one["runtime"]) == (made["route"], made["runtime"]):
            return look
    judged = {limit["verdict"] for limit in one["report"]["judged"]}
    return (
        "breaks a limit" if "broken" in judged else "inconclusive" if "inconclusive" in judged else "keeps the limits"
    )


def _table(shown: Sequence[Tried], found: Mapping[str, Any]) -> str:
    axes, verdicts = _axes(shown, Goal.of_json(found["goal"])), _verdicts(found)
    told = [_told(one, found) for one in shown]
    rows: list[list[Any]] = []
    order = [*LOOKS, *dict.fromkeys(look for look in told if look not in LOOKS)]
    ranked = sorted(enumerate(zip(shown, told, strict=True), 1), key=lambda entry: order.index(entry[1][1]))
    for number, (one, look) in ranked:
        colour, _, _, sign = LOOKS.get(look, ("inherit", "", 0, FAILED))
        stopped = [judged["limit"] for judged in one["report"]["judged"] if judged["verdict"] == "broken"]
        why = one["reason"] or (f"broke {', '.join(stopped)}" if stopped else "")
        reason = f'<div class="why">{escape(why)}</div>' if why else ""
        if notes := one["report"]["notes"]:
            reason += f'<details class="why"><summary>notes</summary>{escape("; ".join(notes))}</details>'
        said = f'<span style="color: {colour}" aria-hidden="true">{sign}</span> {escape(look)}'
        ratios = [_ratio(one["report"]["figures"].get(axis.name)) for axis in axes]
        confirmed = verdicts.get(one["candidate"], "")
        rows.append([
            f'<div class="long">{escape(one["candidate"])}</div>',
            (said + reason, order.index(look)),
            *ratios, escape(confirmed), (duration(one["seconds"]), round(one["seconds"], 2)), (str(number), number),
        ])  # fmt: skip
    heads = ["candidate", "outcome", *(axis.label for axis in axes), "confirmed", "took", "number"]
    note = (
        "Ratios to the original, on the search split. First what is handed over, or closest; then by outcome what else "
        "was tried, in that order."
    )
    return f'<p class="note">{note}</p>' + table("Candidates", heads, rows, "wide dense tall", sortable=True)


def _ratio(found: Mapping[str, Any] | None) -> tuple[str, object]:
    if found is None:
        return "", ""
    ratio = stored(found["ratio"])
    return escape(share(ratio)), f"{ratio.value:.6g}" if math.isfinite(ratio.value) else ""


def confirmed_table(found: Sequence[Mapping[str, Any]], metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """What the confirm split said of each finalist."""
    if not found:
        return ""
    rows = []
    for one in found:
        verdict = one["verdict"]
        better = "" if verdict != "met" or one["better"] else ", but no better than the original"
        said = [f'<div class="why">{badge(verdict, better)}</div>']
        said += [f"<div>{limit_text(x)}: {verdict_text(x)}</div>" for x in one["limits"]]
        said += [f"<div>{escape(one['why'])}</div>"] if one["why"] and not one["limits"] else []
        sources = {metric: metrics.get(metric, {}).get("source", "") for metric in one["ratios"]}
        ratios = "".join(
            f'<div class="line">{escape(f"{named(metric, sources[metric])} {share(stored(ratio))}")}</div>'
            for metric, ratio in one["ratios"].items()
        )
        rows.append([f'<div class="why">{escape(one["candidate"])}</div>', "".join(said), ratios])
    heads = ["finalist", "verdict", "ratio to the original (confirm split)"]
    return "<h3>What was confirmed on unseen samples</h3>" + table("What was confirmed", heads, rows)
