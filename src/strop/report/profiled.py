"""Profiled: where the time of a call goes, layer by layer, and how near each comes to what the machine can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ..rundir import finite
from ..units import quantity
from .parts import figure
from .why import bars, greatest

BOUND = {"compute": "#3b8fd0", "memory": "#e69f00", "conversion": "#cc79a7", "overhead": "#8c8c8c", None: "#56b4e9"}
"""What binds a layer, and its colour (after Okabe & Ito 2008)."""
LONGEST = 28  # characters of a name beside a bar
ROOM = 2.0  # times the points' ends, to which the roofs are drawn


def profile_figures(found: Mapping[str, Any]) -> str:
    """The figures of what `strop.profiling.profile` gave, as HTML; nothing where no layer has a time of its own."""
    parts = [times(found["layers"]), roofline(found["layers"], found["peaks"])]
    return f'<div class="plots">{"".join(parts)}</div>' if any(parts) else ""


def times(layers: Sequence[Mapping[str, Any]]) -> str:
    """The layers that take the most, in their order, by what binds them."""
    seconds = [one["seconds"]["value"] if one["seconds"] else 0.0 for one in layers]
    kept = greatest(seconds)
    if not kept:
        return ""
    traces = [{
        "type": "bar", "orientation": "h", "name": kind or "layers", "marker": {"color": colour},
        "y": [_named(layers[at], at) for at in own], "x": [1e3 * seconds[at] for at in own],
        "text": [escape(layers[at]["name"]) for at in own], "textposition": "none",
        "hovertemplate": "%{text}: %{x:.3g} ms<extra></extra>",
    } for kind, colour in BOUND.items() if (own := [at for at in kept if layers[at]["bound_by"] == kind])]  # fmt: skip
    order = {"categoryorder": "array", "categoryarray": [_named(layers[at], at) for at in kept]}
    return bars(traces, "milliseconds a call", len(kept), "", order)


def roofline(layers: Sequence[Mapping[str, Any]], peaks: Mapping[str, Any] | None) -> str:
    """Operations a second over operations a byte, under the roofs of the machine (Williams et al. 2009)."""
    known = [one for one in layers if one.get("intensity") and one["seconds"] and one["seconds"]["value"]]
    if not known or not peaks:
        return ""
    rates = [2 * one["operations"] / one["seconds"]["value"] for one in known]
    ends = [min(one["intensity"] for one in known) / ROOM, max(one["intensity"] for one in known) * ROOM]
    traces: list[dict[str, Any]] = [{
        "type": "scatter", "mode": "markers", "name": f"bound by {kind}" if kind else "layers",
        "marker": {"color": colour, "size": 9, "opacity": 0.85},
        "x": [known[at]["intensity"] for at in own], "y": [rates[at] for at in own], "hoverinfo": "text",
        "text": [_label(known[at], rates[at]) for at in own],
    } for kind, colour in BOUND.items()
        if (own := [at for at, one in enumerate(known) if one["bound_by"] == kind])]  # fmt: skip
    top = max(peaks["rates"].values())
    lines = {name: (ends, [rate, rate]) for name, rate in peaks["rates"].items()}
    for name in ("memory", "cache"):  # up to where computing is the lower roof
        wide = [ends[0], max(ends[0], min(ends[1], top / peaks[name]))]
        lines[name] = (wide, [peaks[name] * end for end in wide])
    traces += [{
        "type": "scatter", "mode": "lines", "name": escape(name), "x": wide, "y": heights, "hoverinfo": "name",
        "line": {"color": "#888", "width": 1, "dash": "dash" if name in peaks["rates"] else "dot"},
    } for name, (wide, heights) in lines.items()]  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "operations a byte"}, "type": "log"},
        "yaxis": {"title": {"text": "operations a second"}, "type": "log"}, "hovermode": "closest",
    }  # fmt: skip
    about = "Roofline: each layer's operations a second over its operations a byte, and what this machine reaches."
    return figure(finite({"data": traces, "layout": layout}), about, rows=12)


def _named(one: Mapping[str, Any], at: int) -> str:
    """Names may be there twice, and bars of one name would lie on each other; of a long one, the end tells most."""
    name = str(one["name"])
    return escape(f"{at}: {name if len(name) <= LONGEST else f'...{name[-LONGEST:]}'}")


def _label(one: Mapping[str, Any], rate: float) -> str:
    reached = "" if one["reached"] is None else f", {one['reached']:.0%} of what is attainable"
    said = f"{one['operator']}, {quantity(one['seconds']['value'], 's')}{reached}"
    return f"<b>{escape(one['name'])}</b><br>{escape(said)}<br>{rate / 1e9:.3g} billion operations a second"
