"""Choices: every candidate that was measured, as points over two metrics and as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, TypeAlias

from .. import metrics
from ..errors import StropError
from ..goal import Goal
from ..rundir import finite
from ..units import duration, named, share, spread, stored
from .parts import badge, figure, limit_text, table, verdict_text

Tried: TypeAlias = Mapping[str, Any]
"""A candidate: its name, `route` and `runtime` as a manifest has them, and its outcome as plain data."""

LOOKS = {
    "handed over": ("#009e73", "star", 17, "★"),
    "the original": ("#8c8c8c", "pentagon", 13, "⬟"),
    "keeps the limits": ("#3b8fd0", "circle", 10, "●"),
    "inconclusive": ("#cc79a7", "diamond-open", 11, "◇"),
    "breaks a limit": ("#e69f00", "x", 9, "✕"),
}
"""What is to be said of a candidate: a colour (after Okabe & Ito 2008), a shape as Plotly names it, its size in pixels,
and the same as text."""
FAILED = "-"


def measured(tried: Sequence[Tried]) -> list[Tried]:
    """Those that cost a trial: neither refused, nor a longer chain of what had failed before."""
    return [one for one in tried if one["cause"] != "refused" and one["seconds"]]


def choices(
    tried: Sequence[Tried], goal: Goal, content: Mapping[str, Any], confirmed: Sequence[Mapping[str, Any]]
) -> str:
    """The frontier and the table, of what was measured on the search split.

    Args:
        tried: All candidates.
        goal: The limits and the objective.
        content: What is handed over, as a manifest has it.
        confirmed: What the confirm split said of finalists, likewise.
    """
    shown = measured(tried)
    if not shown:
        return ""
    axes = [_Axis.of(name, shown, goal) for name in _named(shown)]
    verdicts = {one["candidate"]: one["verdict"] for one in confirmed}
    told = [_told(one, content) for one in shown]
    chart = _chart(shown, told, axes, goal, verdicts) if len(axes) > 1 else ""
    return chart + _table(shown, told, axes, verdicts)


def _named(tried: Sequence[Tried]) -> list[str]:
    return list(dict.fromkeys(name for one in tried for name in one["report"]["figures"]))


def _told(one: Tried, content: Mapping[str, Any]) -> str:
    """A key of `LOOKS`; why it was not measured, where it was not."""
    if one["cause"] != "done":
        return str(one["cause"])
    if content and (one["route"], one["runtime"]) == (content["route"], content["runtime"]):
        return "handed over"
    found = {judged["verdict"] for judged in one["report"]["judged"]}
    return "breaks a limit" if "broken" in found else "inconclusive" if "inconclusive" in found else "keeps the limits"


@dataclass(frozen=True)
class _Axis:
    """A metric to place candidates by: costs as ratios to the original's, quality as it is.

    Attributes:
        label: Its name, with what it is had from where that must be said.
        original: The original's value, on the same samples.
    """

    name: str
    label: str
    quality: bool
    better: str
    original: float
    limits: tuple[tuple[float, str], ...]

    @classmethod
    def of(cls, name: str, tried: Sequence[Tried], goal: Goal) -> _Axis:
        found = next(one["report"]["figures"][name] for one in tried if name in one["report"]["figures"])
        quality, original = _is_quality(name), stored(found["original"]).value
        better = metrics.better().get(name) or _wanted(name, goal)
        limits = []
        for limit in goal.limits:
            if limit.metric != name or limit.scope == "worst_slice":
                continue
            _, factor, constant = limit.bound("lower" if better == "lower" else "higher")
            at = factor * original + constant
            limits.append((at if quality or not original else at / original, str(limit)))
        return cls(name, named(name, found.get("source", "")), quality, better, original, tuple(limits))

    def place(self, one: Tried) -> tuple[float, float, float]:
        """Value and bounds of a candidate; NaN where it was not measured so far."""
        found = one["report"]["figures"].get(self.name)
        if found is None:
            return math.nan, math.nan, math.nan
        spread = stored(found["candidate" if self.quality else "ratio"])
        low, high = (b if math.isfinite(b) else spread.value for b in (spread.low, spread.high))
        return spread.value, low, high


def _is_quality(name: str) -> bool:
    try:
        return ":" in name or metrics.find(name).quality
    except StropError:  # of a package that is not installed here
        return True


def _wanted(name: str, goal: Goal) -> str:
    """Which way a metric of a user's own is good, as far as the goal tells."""
    if name == goal.objective:
        return "lower" if goal.direction == "minimize" else "higher"
    return "lower" if any(x.metric == name and x.side == "at_most" for x in goal.limits) else "higher"


def _chart(
    shown: Sequence[Tried], told: Sequence[str], axes: Sequence[_Axis], goal: Goal, verdicts: Mapping[str, str]
) -> str:
    groups = []
    for look, (colour, symbol, size, _) in LOOKS.items():
        own = [one for one, said in zip(shown, told, strict=True) if said == look]
        labels = [_label(one, look, verdicts) for one in own]
        places = {axis.name: [axis.place(one) for one in own] for axis in axes}
        if look == "the original":
            labels = ["<b>the original</b>"]
            places = {axis.name: [(axis.original if axis.quality else 1.0,) * 3] for axis in axes}
        if labels:
            sides = {
                key: {name: [place[side] for place in found] for name, found in places.items()}
                for side, key in enumerate(("values", "low", "high"))
            }
            front = look != "breaks a limit"
            looks = {"name": look, "colour": colour, "symbol": symbol, "size": size, "front": front}
            groups.append({**looks, "label": labels, **sides})
    plain = {
        axis.name: {
            "title": escape(axis.label + ("" if axis.quality else ", times the original's")),
            "better": axis.better, "ratio": not axis.quality,
            "limits": [{"at": at, "text": escape(text), "said": text} for at, text in axis.limits if math.isfinite(at)],
        }
        for axis in axes
    }  # fmt: skip
    across, up = _first(axes, goal)
    controls = f'<div class="axes">{_select("across", axes, across)}{_select("up", axes, up)}</div>'
    about = (
        f"Every candidate as a point, with {across} across and {up} up, the limits as dashed lines, and the frontier "
        "of what no other candidate beats as a dotted one. The table below has the same figures."
    )
    away = sum(math.isnan(axis.place(one)[0]) for one in shown for axis in axes if axis.name == across)
    note = (
        "What the search split said. The dotted frontier joins what no other candidate beats in both metrics, of those "
        "that break no limit; dashed lines are limits. Point at a mark to see its route; choose others to be drawn by "
        "the legend and the axes."
    )
    if away:
        note += f" {away} of {len(shown)} are not in it: they failed, or were dropped before {across} was measured."
    drawn = figure(finite({"groups": groups, "metrics": plain}), about, controls)
    return f'{drawn}<p class="note">{escape(note)}</p>'


def _first(axes: Sequence[_Axis], goal: Goal) -> tuple[str, str]:
    """What is drawn at first: the cost that the goal speaks of, and the quality."""
    order = list(dict.fromkeys([goal.objective, *(limit.metric for limit in goal.limits), "latency.p50"]))
    ranked = sorted(axes, key=lambda axis: order.index(axis.name) if axis.name in order else len(order))
    costs, qualities = ([a.name for a in ranked if a.quality == kind] for kind in (False, True))
    across = (costs or qualities)[0]
    return across, next((name for name in (*qualities, *costs) if name != across), across)


def _select(where: str, axes: Sequence[_Axis], chosen: str) -> str:
    options = "".join(
        f'<option value="{escape(axis.name)}"{" selected" if axis.name == chosen else ""}>{escape(axis.label)}</option>'
        for axis in axes
    )
    return f"<label>{where} <select>{options}</select></label>"


def _label(one: Tried, look: str, verdicts: Mapping[str, str]) -> str:
    """What pointing at a mark says, as Plotly takes HTML."""
    lines = [f"<b>{escape(part)}</b>" for part in _lines(one["candidate"].split(" + "))]
    for name, found in one["report"]["figures"].items():
        value = spread(stored(found["candidate"]), found["unit"])
        lines.append(escape(f"{named(name, found.get('source', ''))} {value}, {share(stored(found['ratio']))}"))
    broken = [judged["limit"] for judged in one["report"]["judged"] if judged["verdict"] != "met"]
    lines.append(escape(": ".join([look, *([", ".join(broken)] if broken else [])])))
    if one["candidate"] in verdicts:
        lines.append(escape(f"confirmed on unseen samples: {verdicts[one['candidate']]}"))
    return "<br>".join(lines)


def _lines(parts: Sequence[str], width: int = 60) -> list[str]:
    """Steps of a route, several in a line where they fit."""
    found: list[str] = []
    for part in parts:
        if found and len(found[-1]) + len(part) < width:
            found[-1] += f" + {part}"
        else:
            found.append(f"+ {part}" if found else part)
    return found


def _table(shown: Sequence[Tried], told: Sequence[str], axes: Sequence[_Axis], verdicts: Mapping[str, str]) -> str:
    rows: list[list[Any]] = []
    order = list(LOOKS)
    for number, (one, look) in enumerate(zip(shown, told, strict=True), 1):
        place = order.index(look) if look in order else len(order)
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
            (f'<div class="long">{escape(one["candidate"])}</div>', one["candidate"]),
            (said + reason, place),
            *ratios, escape(confirmed), (duration(one["seconds"]), round(one["seconds"], 2)), (str(number), number),
        ])  # fmt: skip
    heads = [
        "candidate",
        "outcome",
        *(axis.label for axis in axes),
        "confirmed",
        "time",
        "tried",
    ]
    note = "Ratios to the original, on the search split; in the order in which they were tried."
    return f'<p class="note">{note}</p>' + table("Candidates", heads, rows, "wide dense tall", sortable=True)


def _ratio(found: Mapping[str, Any] | None) -> tuple[str, object]:
    if found is None:
        return "", ""
    ratio = stored(found["ratio"])
    return escape(share(ratio)), ratio.value if math.isfinite(ratio.value) else ""


def confirmed_table(found: Sequence[Mapping[str, Any]], metrics_: Mapping[str, Mapping[str, Any]]) -> str:
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
        sources = {metric: metrics_.get(metric, {}).get("source", "") for metric in one["ratios"]}
        ratios = "".join(
            f'<div class="line">{escape(f"{named(metric, sources[metric])} {share(stored(ratio))}")}</div>'
            for metric, ratio in one["ratios"].items()
        )
        rows.append([f'<div class="why">{escape(one["candidate"])}</div>', "".join(said), ratios])
    heads = ["finalist", "verdict", "ratio to the original (confirm split)"]
    return "<h3>What was confirmed on unseen samples</h3>" + table("What was confirmed", heads, rows)
