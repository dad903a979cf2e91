"""Compared: what a candidate's metrics are, times the original's, with their spread."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from ..rundir import finite
from ..units import named, share, spread, stored
from .parts import figure

ROOM = 1.2  # on either side of what is drawn, as a factor


def comparison_figures(found: Mapping[str, Any]) -> str:
    """The figure of what `strop.comparison.compare` gave, as HTML: ratios by metric, and by slice where there are any.

    Nothing where no ratio is known.
    """
    rows = [(name, ratio, found["candidate"]["metrics"][name]) for name, ratio in found["ratios"].items()]
    rows += [
        (f"{name} in {part}", one["ratio"], {**one["candidate"], "unit": one["unit"]})
        for part, told in found["slices"].items() for name, one in told["metrics"].items()
    ]  # fmt: skip
    known = [(name, stored(ratio), side) for name, ratio, side in rows if _drawable(ratio)]
    if not known:
        return ""
    bars = {
        "type": "data", "symmetric": False, "thickness": 1.5,
        "array": [max(0.0, ratio.high - ratio.value) if math.isfinite(ratio.high) else 0.0 for _, ratio, _ in known],
        "arrayminus": [max(0.0, ratio.value - ratio.low) if ratio.low > 0 else 0.0 for _, ratio, _ in known],
    }  # fmt: skip
    trace = {
        "type": "scatter", "mode": "markers", "x": [ratio.value for _, ratio, _ in known], "error_x": bars,
        "y": [escape(named(name, side.get("source", ""))) for name, _, side in known], "hoverinfo": "text",
        "text": [
            f"<b>{escape(name)}</b><br>{escape(spread(stored(side), side['unit']))}, {escape(share(ratio))}"
            for name, ratio, side in known
        ],
        "marker": {"color": "#3b8fd0", "size": 10},
    }  # fmt: skip
    ends = [at for _, ratio, _ in known for at in (ratio.low, ratio.value, ratio.high) if math.isfinite(at) and at > 0]
    layout = {
        "xaxis": {
            "title": {"text": "times the original's"}, "type": "log",
            "range": [math.log10(min(ends) / ROOM), math.log10(max(ends) * ROOM)],
        },
        "yaxis": {"autorange": "reversed", "type": "category"}, "showlegend": False, "hovermode": "closest",
        "shapes": [{"type": "line", "x0": 1, "x1": 1, "y0": 0, "y1": 1, "yref": "paper",
                    "line": {"color": "#888", "width": 1, "dash": "dot"}}],
    }  # fmt: skip
    return figure(finite({"data": [trace], "layout": layout}), "Metrics, times the original's.", rows=len(known))


def _drawable(ratio: Mapping[str, Any]) -> bool:
    return ratio["value"] is not None and math.isfinite(ratio["value"]) and ratio["value"] > 0
