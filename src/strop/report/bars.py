"""Bars: figures layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..rundir import finite
from .parts import figure

MOST = 40  # layers in a chart


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
    layout = {
        "xaxis": {"tickformat": form, "rangemode": "tozero"},
        "yaxis": {"autorange": "reversed", "type": "category", "dtick": 1, **(order or {})},
        "barmode": "stack" if order else "group", "showlegend": len(traces) > 1,
    }  # fmt: skip
    about = f"{title}."
    return figure(finite({"data": list(traces), "layout": layout}), about, rows=count, caption=title)
