"""Profiled: where the time of a call goes, layer by layer, how near each comes to what the machine can do, and how each
bears int8, where that was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from .bars import bars, greatest
from .borne import chart as borne
from .roofline import BOUND
from .roofline import chart as roofline

LONGEST = 28  # characters of a name beside a bar


def profile_figures(found: Mapping[str, Any]) -> str:
    """The figures of what `strop.profiling.profile` gave, as HTML; nothing where no layer has a time of its own."""
    bears = found.get("sensitivity")
    return times(found["layers"]) + roofline(found["layers"], found["peaks"]) + (borne(bears) if bears else "")


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
    return f'<div class="plots">{bars(traces, "Milliseconds a call, by layer", len(kept), "", order)}</div>'


def _named(one: Mapping[str, Any], at: int) -> str:
    """Names may be there twice, and bars of one name would lie on each other; of a long one, the end tells most."""
    name = str(one["name"])
    return escape(f"{at}: {name if len(name) <= LONGEST else f'...{name[-LONGEST:]}'}")
