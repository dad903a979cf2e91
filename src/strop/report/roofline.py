"""Roofline: what each layer of what is handed over reaches of what this machine can do, and what binds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ..insight.table import ITSELF, LEGEND
from ..rundir import finite
from ..units import quantity
from .parts import bullets, figure, table

BOUND = {
    "compute": "#0072b2",
    "memory": "#e69f00",
    "latency": "#d55e00",
    "conversion": "#cc79a7",
    "overhead": "#8c8c8c",
    None: "#56b4e9",
}
"""What binds a layer, and its colour (after Okabe & Ito 2008)."""
SIGNS = {
    "compute": "circle",
    "memory": "square",
    "latency": "cross",
    "conversion": "diamond",
    "overhead": "x",
    None: "circle-open",
}
ROOF = (
    "Each mark is a layer. The lines are the most that this machine can do with that many operations for each byte "
    "that is read or written: what lies far under them has room."
)
ROOM = 3.0  # on either side of the points, as a factor


def roofline(profile: Mapping[str, Any]) -> str:
    """The chart, where this machine's peaks are known, and the table of layers.

    Args:
        profile: As `strop.profile` tells it, of what is handed over.
    """
    layers = [one for one in profile["layers"] if one["seconds"]]
    binds = [f"{share:.0%} is bound by {what}" for what, share in profile["shares"].items() if share >= 0.005]
    said = "; ".join([f"A call takes {quantity(profile['seconds']['value'], 's')}", *binds])
    return f"<p>{escape(said)}.</p>" + chart(layers, profile["peaks"]) + _table(layers) + bullets(profile["notes"])


def chart(layers: Sequence[Mapping[str, Any]], peaks: Mapping[str, Any] | None) -> str:
    """Operations a second over operations a byte, on logarithmic scales (Williams, Waterman and Patterson 2009)."""
    placed = [one for one in layers if one.get("intensity") and one["operations"] and one["seconds"]]
    if peaks is None or not placed:
        return ""
    traces: list[dict[str, Any]] = []
    for bound, colour in BOUND.items():
        if of := [one for one in placed if one["bound_by"] == bound]:
            traces.append({
                "type": "scatter", "mode": "markers", "name": bound or "layers",
                "x": [one["intensity"] for one in of], "y": [_rate(one) for one in of],
                "text": [escape(one["name"]) for one in of],
                "marker": {"color": colour, "symbol": SIGNS[bound], "size": 9},
                "hovertemplate": "%{text}: %{y:.3s} operations a second<extra></extra>",
            })  # fmt: skip
    ends = [min(one["intensity"] for one in placed) / ROOM, max(one["intensity"] for one in placed) * ROOM]
    for precision in dict.fromkeys(one.get("precision") for one in placed):
        if rate := peaks["rates"].get(precision):
            corner = rate / peaks["memory"]
            along = sorted({*ends, min(max(corner, ends[0]), ends[1])})
            traces.append({
                "type": "scatter", "mode": "lines", "name": escape(f"the most in {precision}"), "x": along,
                "y": [min(rate, peaks["memory"] * at) for at in along], "line": {"width": 1}, "hoverinfo": "name",
            })  # fmt: skip
    layout = {
        "xaxis": {"type": "log", "dtick": 1, "tickformat": "~s", "title": {"text": "operations a byte"}},
        "yaxis": {"type": "log", "dtick": 1, "tickformat": "~s", "title": {"text": "operations a second"}},
        "showlegend": True,
    }  # fmt: skip
    about = "Each layer under the roof that arithmetic and memory of this machine set. The table has the same figures."
    drawn = figure(finite({"data": traces, "layout": layout}), about, caption="Operations a second, by layer")
    return f'<div class="plots">{drawn}</div><p class="note">{ROOF}</p>'


def _rate(one: Mapping[str, Any]) -> float:
    return float(2 * one["operations"] / one["seconds"]["value"])


def _table(layers: Sequence[Mapping[str, Any]]) -> str:
    rows: list[list[Any]] = []
    for number, one in enumerate(layers):
        seconds, share, reached = one["seconds"]["value"], one["share"]["value"], one.get("reached")
        itself = one["operator"] == "overhead" and not one.get("layers")
        if itself and not seconds:
            continue
        rows.append([
            (escape(ITSELF if itself else one["name"]), number), "" if itself else escape(one["operator"]),
            escape(one.get("precision") or ""), (escape(quantity(seconds, "s")), seconds), (f"{share:.1%}", share),
            ("", "") if reached is None else (f"{reached:.0%}", reached), escape(one["bound_by"] or ""),
        ])  # fmt: skip
    if not rows:
        return ""
    heads = ["layer", "operator", "computed in", "time", "share of a call", "reached", "bound by"]
    legend = (
        f'<p class="note">{escape(LEGEND)}</p>' if any(one.get("layers") and one["bound_by"] for one in layers) else ""
    )
    return table("Where the time of a call goes", heads, rows, "wide dense tall", sortable=True) + legend
