"""Borne: how each layer of the original bears int8, as a chart and a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from ..units import counted
from .bars import bars, greatest
from .parts import table

SIDES = {"alone": ("only this in int8", "#d55e00"), "spared": ("all but this in int8", "#8c8c8c")}


def borne(found: Mapping[str, Any]) -> str:
    """What int8 does to the outputs, layer by layer, in the order of harm.

    Args:
        found: As `strop.profile` tells it, asked for sensitivity.
    """
    groups = found["groups"]
    said = (
        f"Measured on {counted(found['samples'], 'sample')}, with layers of the original in int8 as "
        f"{found['technique']} has them: how far the outputs are off, as their mean squared error over their square. "
        f"With all layers in int8 it is {_cell(found['whole']['error'])[0]}. A layer stands for itself and what is "
        "computed with it; where one alone does most of the harm, it is the one to leave in floats."
    )
    if found["left"]:
        said += f" The time was too short for {counted(found['left'], 'more layer')}."
    return f"<p>{escape(said)}</p>{chart(found)}" + table(
        "How each layer bears int8",
        ["layer", *(head for head, _ in SIDES.values())],
        [[escape(one["name"]), *map(_cell, (one[side]["error"] for side in SIDES))] for one in groups],
        "wide dense tall",
        sortable=True,
    )


def chart(found: Mapping[str, Any]) -> str:
    """The layers that do most harm."""
    groups = found["groups"]
    kept = greatest([one["alone"]["error"] or 0.0 for one in groups])
    if not kept:
        return ""
    traces = [{
        "type": "bar", "orientation": "h", "name": head, "marker": {"color": colour},
        "y": [escape(groups[at]["name"]) for at in kept], "x": [groups[at][side]["error"] for at in kept],
        "hovertemplate": "%{y}: %{x:.2e}<extra></extra>",
    } for side, (head, colour) in SIDES.items()]  # fmt: skip
    return f'<div class="plots">{bars(traces, "Error of the outputs, by layer", len(kept), "~g")}</div>'


def _cell(error: float | None) -> tuple[str, float]:
    """An error, and what to sort it by; a file has no number for one that is infinite."""
    return (f"{error:.2e}", error) if error is not None and math.isfinite(error) else ("not finite", math.inf)
