"""Why: what each step gave, and, where it was looked into, time and error of each layer before and after."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from .. import details
from ..insight.printed import TOGETHER, decibels, fused
from ..insight.spare import lines
from ..units import quantity
from .bars import bars, greatest
from .borne import borne
from .forest import forest
from .parts import bullets, part, table
from .roofline import roofline

EXPLAINED = "where the error comes from"
"""What begins the reason why that is not told."""
SENSITIVITY = "strop profile --sensitivity"
EXPLAIN = (
    "<code>strop report</code> tells with <code>--original MODEL --data DATA</code>, and "
    "<code>strop explain</code> on a terminal."
)
WITHOUT = "The best that was tried without a step, on the search split."


def why(manifest: Mapping[str, Any], anatomy: Mapping[str, Any]) -> str:
    """What brought the result about.

    Args:
        anatomy: What was found layer by layer: `explained`, `profile`, `sensitivity`, `why_not`; each may be missing,
            or an older strop's.
    """
    parts = [part("What each step gave", _steps, manifest)]
    if not anatomy:
        made = manifest["winner"]
        unchanged = made and not made["route"] and made["runtime"] == manifest["original"]["runtime"]
        looked = "nothing was changed." if unchanged else EXPLAIN
        parts.append(f"<p>Where the error comes from, and where the time goes, before and after: {looked}</p>")
    explained = anatomy.get("explained")
    parts += [
        part("Where the error comes from", _said, explained),
        part("Layer by layer", _layers, explained),
        part("Tree by tree", lambda found: forest(found["forest"]) if found["forest"] else "", explained),
        part("What stayed in floats", lambda found: bullets(lines(found["floats"])), explained),
        part("Where the time of a call goes", roofline, anatomy.get("profile")),
        part("How each layer bears int8", borne, anatomy.get("sensitivity")),
    ]
    return "".join([*parts, part("What was not told", bullets, anatomy.get("why_not"))])


def _steps(manifest: Mapping[str, Any]) -> str:
    gave = details.without(manifest["without"], manifest["goal"]["objective"])
    return f'<p class="note">{WITHOUT}</p>{bullets(gave)}' if gave else ""


def _said(explained: Mapping[str, Any]) -> str:
    return f"<p>{escape(' '.join(explained['said']))}</p>{bullets(explained['notes'])}"


def _layers(explained: Mapping[str, Any]) -> str:
    layers = explained["layers"]
    return layer_charts(layers) + _table(layers) if layers else ""


def layer_charts(layers: Sequence[Mapping[str, Any]]) -> str:
    """Share of the error, and time before and after, of the layers that matter most, in the model's order."""
    names = [f"{escape(one['name'])}" for one in layers]
    harm = [one["share"] or 0.0 for one in layers]
    times = {side: [one["seconds"][side] for one in layers] for side in ("original", "candidate")}
    parts = []
    if any(harm):
        kept = greatest(harm)
        drawn = [{
            "type": "bar", "orientation": "h", "y": [names[at] for at in kept], "x": [harm[at] for at in kept],
            "marker": {"color": "#d55e00"}, "hovertemplate": "%{y}: %{x:.1%}<extra></extra>",
        }]  # fmt: skip
        parts.append(bars(drawn, "Share of the error at the output, by layer", len(kept), ".0%"))
    if any(second for side in times.values() for second in side):
        longest = [max(sides[0] or 0.0, sides[1] or 0.0) for sides in zip(*times.values(), strict=True)]
        kept = greatest(longest)
        drawn = [{
            "type": "bar", "orientation": "h", "name": side, "y": [names[at] for at in kept],
            "x": [None if taken[at] is None else 1e3 * taken[at] for at in kept], "marker": {"color": colour},
            "hovertemplate": "%{y}: %{x:.3g} ms<extra></extra>",
        } for (side, taken), colour in zip(times.items(), ("#8c8c8c", "#3b8fd0"), strict=True)]  # fmt: skip
        parts.append(bars(drawn, "Milliseconds a call, by layer", len(kept), ""))
    return f'<div class="plots">{"".join(parts)}</div>'


def _table(layers: Sequence[Mapping[str, Any]]) -> str:
    rows: list[list[Any]] = []
    for number, one in enumerate(layers):
        times = [_cell(one["seconds"][side], "s") for side in ("original", "candidate")]
        sizes = [_cell(one["bytes"][side], "bytes") for side in ("original", "candidate")]
        errors = [_percent(one["share"]), *_apart(one["introduced"]), *_apart(one["accumulated"])]
        place = (escape(one["name"]), number)
        rows.append([place, escape(one["operator"]), escape(one["precision"]), *errors, *times, *sizes])
    heads = [
        "layer", "operator", "computed in", "share of the error", "off by itself", "dB", "cosine", "off so far", "dB",
        "cosine", "time before", "after", "bytes before", "after",
    ]  # fmt: skip
    note = (
        "Off by itself: given what the original's layer is given. So far: with all that came before. Root mean square "
        "of the differences, over that of the values; the same as signal over noise in dB (1 % is 40 dB, 10 % is "
        "20 dB); and by the cosine, which is 1 where the direction is the same."
    ) + (f" {TOGETHER}" if fused(layers) else "")
    return table("Layers", heads, rows, "wide dense tall", sortable=True) + f'<p class="note">{note}</p>'


def _cell(value: float | None, unit: str) -> tuple[str, object]:
    return ("", "") if value is None else (escape(quantity(value, unit)), value)


def _apart(found: Mapping[str, Any]) -> list[tuple[str, object]]:
    """How far off a value is: as a share, in dB, by its direction."""
    cosine = found["cosine"]
    sqnr = (decibels(found), math.inf if found["sqnr"] is None else found["sqnr"])
    return [_percent(found["error"]), sqnr, (f"{cosine:.4f}", cosine)]


def _percent(value: float | None) -> tuple[str, object]:
    return ("", "") if value is None else (f"{100 * value:.3g} %", value)
