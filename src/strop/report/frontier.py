"""Frontier: every candidate as a point over two metrics, which a person chooses, with the limits as lines."""

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
from ..units import named, share, spread, stored
from .parts import figure

Tried: TypeAlias = Mapping[str, Any]
"""A candidate: its name, `route` and `runtime` as a manifest has them, and its outcome as plain data."""

Place: TypeAlias = tuple[float, float, float]
"""A value and its bounds on an axis."""

LOOKS = {
    "handed over": ("#009e73", "star", 17, "★"),
    "closest": ("#d55e00", "star", 17, "★"),
    "the original": ("#8c8c8c", "pentagon", 13, "⬟"),
    "keeps the limits": ("#3b8fd0", "circle", 10, "●"),
    "inconclusive": ("#cc79a7", "diamond-open", 11, "◇"),
    "breaks a limit": ("#e69f00", "x", 9, "✕"),
}
"""What is to be said of a candidate: a colour (after Okabe & Ito 2008), a shape as Plotly names it, its size in pixels,
and the same as text."""

OF_SLICES = (
    "That of a limit on the worst slice is where the whole would break it: what lies on its good side may still have a "
    "slice that does."
)


@dataclass(frozen=True)
class Axis:
    """A metric to place candidates by: costs as ratios to the original's, quality as it is.

    Attributes:
        name: The metric's.
        label: Its name, with what it is had from where that must be said.
        quality: Whether it is one of quality.
        better: Which way it is good.
        original: The original's value, on all of the samples.
        limits: Where they lie on the axis, and what they say; one on the worst slice where the whole would break it.
    """

    name: str
    label: str
    quality: bool
    better: str
    original: float
    limits: tuple[tuple[float, str], ...]

    @classmethod
    def of(cls, name: str, tried: Sequence[Tried], goal: Goal) -> Axis:
        known = [one["report"]["figures"][name] for one in tried if name in one["report"]["figures"]]
        found = max(known, key=lambda one: one["n"])  # one that was dropped early has seen few of the samples
        quality, original = _is_quality(name), stored(found["original"]).value
        better = metrics.better().get(name) or _wanted(name, goal)
        limits = []
        for limit in goal.limits:
            if limit.metric != name:
                continue
            _, factor, constant = limit.bound("lower" if better == "lower" else "higher")
            at = factor * original + constant
            limits.append((at if quality or not original else at / original, str(limit)))
        return cls(name, named(name, found.get("source", "")), quality, better, original, tuple(limits))

    @property
    def of_original(self) -> Place:
        """Where the original lies."""
        return (self.original if self.quality else 1.0,) * 3

    def to_json(self) -> dict[str, Any]:
        """What the page's script has to know of it. Titles are HTML, as Plotly takes them."""
        limits = [{"at": at, "text": escape(said), "said": said} for at, said in self.limits if math.isfinite(at)]
        way = "← better" if self.better == "lower" else "better →"
        title = escape(self.label + (" " if self.quality else ", times the original's ") + f"({way})")
        return {"title": title, "better": self.better, "ratio": not self.quality, "limits": limits}

    def place(self, one: Tried) -> Place:
        """Value and bounds of a candidate; NaN where it was not measured so far. Of quality they follow from its ratio:
        against the original, by the samples that both have seen, as limits are judged."""
        found = one["report"]["figures"].get(self.name)
        if found is None:
            return math.nan, math.nan, math.nan
        ratio, value = stored(found["ratio"]), stored(found["candidate"]).value
        scale = self.original if self.quality else 1.0
        value = ratio.value * scale if math.isfinite(ratio.value * scale) or not self.quality else value
        low, high = sorted(
            bound * scale if math.isfinite(bound * scale) else value for bound in (ratio.low, ratio.high)
        )
        value, low, high = (float(f"{number:.6g}") for number in (value, low, high))  # finer than a pixel
        return value, low, high


def _is_quality(name: str) -> bool:
    try:
        return ":" in name or metrics.find(name).quality
    except StropError:  # of a package that is not installed here
        return True


def _wanted(name: str, goal: Goal) -> str:
    """Which way a metric of a user's own is good, as far as the goal tells."""
    if name == goal.objective:
        return "lower" if goal.direction == "minimize" else "higher"
    own = [limit for limit in goal.limits if limit.metric == name and limit.scope != "drop"]
    return "lower" if any(limit.side == "at_most" for limit in own) else "higher"


def chart(
    shown: Sequence[Tried], told: Sequence[str], axes: Sequence[Axis], goal: Goal, verdicts: Mapping[str, str]
) -> str:
    """The figure, and how to read it.

    Args:
        shown: Candidates that were measured.
        told: What is to be said of each: a key of `LOOKS`, or why it was not measured.
        axes: What there is to place them by.
        goal: What the first two axes are chosen by.
        verdicts: By candidate, what the confirm split said.
    """
    across, up = _first(axes, goal)
    controls = f'<div class="axes">{_select("across", axes, across)}{_select("up", axes, up)}</div>'
    about = (
        f"Every candidate as a point, with {across} across and {up} up, the limits as dashed lines, and the frontier "
        "of what no other candidate beats as a dotted one. The table below has the same figures."
    )
    note = (
        "Measured on the search split: samples that the search looks at. Bars, where marks are few, are the spread; of "
        "quality, that against the original. The dotted line is the frontier: what no other candidate beats in both "
        "metrics, of those that break no limit. Dashed lines are limits. Point at a mark to see its route; the legend "
        "and the axes choose what is drawn."
    )
    if any(limit.scope == "worst_slice" for limit in goal.limits):
        note += f" {OF_SLICES}"
    away = sum(math.isnan(axis.place(one)[0]) for one in shown for axis in axes if axis.name == across)
    if away:
        note += f" {away} of {len(shown)} are not in it: they failed, or were dropped before {across} was measured."
    groups = []
    for look in LOOKS:
        own = [one for one, said in zip(shown, told, strict=True) if said == look]
        if look == "the original":
            groups.append(_group(look, ["<b>the original</b>"], [[axis.of_original for axis in axes]], axes, True))
        elif own:
            labels = [_label(one, look, verdicts) for one in own]
            broken = any(judged["verdict"] == "broken" for one in own for judged in one["report"]["judged"])
            groups.append(_group(look, labels, [[axis.place(one) for axis in axes] for one in own], axes, not broken))
    data = {"groups": groups, "metrics": {axis.name: axis.to_json() for axis in axes}}
    return f'{figure(finite(data), about, controls)}<p class="note">{escape(note)}</p>'


def _group(
    look: str, labels: Sequence[str], places: Sequence[Sequence[Place]], axes: Sequence[Axis], front: bool
) -> dict[str, Any]:
    """Marks of one look; by metric their values and bounds.

    Args:
        places: Of each mark, by axis.
        front: Whether they may be of the frontier.
    """
    colour, symbol, size, _ = LOOKS[look]
    looks = {"name": look, "colour": colour, "symbol": symbol, "size": size, "front": front, "label": list(labels)}
    sides = {
        key: {axis.name: [place[number][side] for place in places] for number, axis in enumerate(axes)}
        for side, key in enumerate(("values", "low", "high"))
    }
    return {**looks, **sides}


def _first(axes: Sequence[Axis], goal: Goal) -> tuple[str, str]:
    """What is drawn at first: the cost that the goal speaks of, and the quality."""
    order = list(dict.fromkeys([goal.objective, *(limit.metric for limit in goal.limits), "latency.p50"]))
    ranked = sorted(axes, key=lambda axis: order.index(axis.name) if axis.name in order else len(order))
    costs, qualities = ([a.name for a in ranked if a.quality == kind] for kind in (False, True))
    across = (costs or qualities)[0]
    return across, next((name for name in (*qualities, *costs) if name != across), across)


def _select(where: str, axes: Sequence[Axis], chosen: str) -> str:
    options = "".join(
        f'<option value="{escape(axis.name)}"{" selected" if axis.name == chosen else ""}>{escape(axis.label)}</option>'
        for axis in axes
    )
    return f"<label>{where} <select>{options}</select></label>"


def _label(one: Tried, look: str, verdicts: Mapping[str, str]) -> str:
    """What pointing at a mark says, as Plotly takes HTML but for the ends of lines: of hundreds, tags weigh much."""
    lines = [f"<b>{escape(chr(10).join(_lines(one['candidate'].split(' + '))))}</b>"]
    for name, found in one["report"]["figures"].items():
        value = spread(stored(found["candidate"]), found["unit"])
        lines.append(escape(f"{named(name, found.get('source', ''))} {value}, {share(stored(found['ratio']))}"))
    broken = [judged["limit"] for judged in one["report"]["judged"] if judged["verdict"] != "met"]
    lines.append(escape(": ".join([look, *([", ".join(broken)] if broken else [])])))
    if one["candidate"] in verdicts:
        lines.append(escape(f"confirmed on unseen samples: {verdicts[one['candidate']]}"))
    return "\n".join(lines)


def _lines(parts: Sequence[str], width: int = 60) -> list[str]:
    """Steps of a route, several in a line where they fit."""
    found: list[str] = []
    for part in parts:
        if found and len(found[-1]) + len(part) < width:
            found[-1] += f" + {part}"
        else:
            found.append(f"+ {part}" if found else part)
    return found
