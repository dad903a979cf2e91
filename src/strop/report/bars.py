"""Bars: figures layer by layer."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from ..rundir import finite
from .parts import figure

MOST = 40  # layers in a chart
HATCHES = ("", "/", "x")  # of the bars of several sides: in grey their colours may be alike


def greatest(values: Sequence[float]) -> list[int]:
    """The places of the most that a chart shows, in their order."""
    order = sorted(range(len(values)), key=lambda at: -values[at])[:MOST]
    return sorted(at for at in order if values[at] > 0)


def bars(
    traces: Sequence[Mapping[str, Any]],
    title: str,
    count: int,
    form: str,
    order: Mapping[str, Any] | None = None,
) -> str:
    """Bars by layer, from above.

    Args:
        title: What they show.
        count: Of layers.
        form: Of the numbers, as Plotly has it.
        order: Of the layers, likewise; by default that of the traces.
    """
    sides = [
        {**trace, "marker": {**trace.get("marker", {}), "pattern": {"shape": hatch}}}
        for trace, hatch in zip(traces, itertools.cycle(HATCHES), strict=False)
    ]
    layout = {
        "xaxis": {"tickformat": form, "rangemode": "tozero"},
        "yaxis": {"autorange": "reversed", "type": "category", "dtick": 1, **(order or {})},
        "barmode": "stack" if order else "group", "showlegend": len(traces) > 1,
    }  # fmt: skip
    about = f"{title}."
    return figure(finite({"data": sides, "layout": layout}), about, rows=count, caption=title)
