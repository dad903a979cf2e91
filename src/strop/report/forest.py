"""Forest: what became of an ensemble of trees: how far off each tree puts the scores, and what it splits by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ..rundir import finite
from .bars import bars
from .parts import figure, table

KINDS = {"removed": "#d55e00", "new": "#cc79a7", "changed": "#3b8fd0"}
"""What became of a tree, and its colour (after Okabe & Ito 2008)."""
COLUMNS = 12  # in the chart
LISTED = 40  # trees in the table
NOTE = (
    "Off by itself: what this tree's change alone does to the scores, the sums of leaves before they become results. "
    "So far: with the trees before it. Root mean square of the differences, over that of the scores."
)


def forest(found: Mapping[str, Any]) -> str:
    """The charts, and the trees that matter most.

    Args:
        found: As `strop.explain` tells of trees.
    """
    return forest_charts(found) + _table(found)


def forest_charts(found: Mapping[str, Any]) -> str:
    """How far the scores are off, tree by tree, where trees can be told apart; and splits by column."""
    parts = [] if found["anew"] or not any(one["error"] for one in found["by_tree"]) else [_trees(found["by_tree"])]
    columns = sorted(found["by_column"], key=lambda one: -max(one["original"], one["candidate"]))[:COLUMNS]
    if columns:
        drawn = [{
            "type": "bar", "orientation": "h", "name": side, "marker": {"color": colour},
            "y": [escape(one["name"]) for one in columns], "x": [one[side] for one in columns],
            "hovertemplate": "%{y}: %{x:,} splits<extra></extra>",
        } for side, colour in (("original", "#8c8c8c"), ("candidate", "#3b8fd0"))]  # fmt: skip
        more = f", the {COLUMNS} with most of {len(found['by_column'])}" if found["by_column"][COLUMNS:] else ""
        parts.append(bars(drawn, f"Splits by column{more}", len(columns), ""))
    return f'<div class="plots">{"".join(parts)}</div>' if parts else ""


def _trees(by_tree: Sequence[Mapping[str, Any]]) -> str:
    traces: list[dict[str, Any]] = []
    for kind, colour in KINDS.items():
        own = [at for at, one in enumerate(by_tree) if one["error"] and _kind(one) == kind]
        if own:
            traces.append({
                "type": "bar", "name": f"{kind} tree", "x": own, "y": [by_tree[at]["error"] for at in own],
                "text": [_said(by_tree[at]) for at in own], "textposition": "none", "marker": {"color": colour},
                "hovertemplate": "%{text}<extra></extra>",
            })  # fmt: skip
    traces.append({
        "type": "scatter", "mode": "lines", "name": "all trees so far", "x": list(range(len(by_tree))),
        "y": [one["accumulated"] for one in by_tree], "line": {"color": "#8c8c8c", "width": 2},
        "hovertemplate": "up to here: %{y:.2%}<extra></extra>",
    })  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "tree, in the original's order"}, "rangemode": "tozero"},
        "yaxis": {"tickformat": ".1%", "rangemode": "tozero"}, "barmode": "overlay", "showlegend": True,
    }  # fmt: skip
    title = "How far the scores are off, by tree"
    return figure(
        finite({"data": traces, "layout": layout}), f"{title}. The table has the most of them.", caption=title
    )


def _kind(one: Mapping[str, Any]) -> str:
    return str(one["what"]) if one["what"] in KINDS else "changed"


def _said(one: Mapping[str, Any]) -> str:
    return escape(f"tree {_number(one)}: {one['what']}, {one['error']:.2%}")


def _number(one: Mapping[str, Any]) -> int:
    return int(one["candidate"] if one["original"] is None else one["original"])


def _table(found: Mapping[str, Any]) -> str:
    """The trees whose change does most."""
    ranked = sorted((one for one in found["by_tree"] if one["share"]), key=lambda one: -one["share"])
    if found["anew"] or not ranked:
        return ""
    rows: list[list[Any]] = [
        [
            (f"{_number(one):,}", _number(one)), escape(one["what"]), (f"{one['error']:.2%}", one["error"]),
            (f"{one['accumulated']:.2%}", one["accumulated"]), (f"{one['share']:.1%}", one["share"]),
        ]
        for one in ranked[:LISTED]
    ]  # fmt: skip
    heads = ["tree", "what became of it", "off by itself", "off so far", "share of all"]
    some = f"The {LISTED} trees, of {len(ranked):,} that changed, whose change does most. " if ranked[LISTED:] else ""
    note = f'<p class="note">{some}{NOTE} By {found["samples"]:,} samples.</p>'
    return table("Trees", heads, rows, "wide dense tall", sortable=True) + note
