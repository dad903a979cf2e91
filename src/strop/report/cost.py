"""Cost: what a candidate takes from somebody: slices that lose, predictions that change, differences between groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from .. import details
from ..slices import SMALLEST_SLICE
from ..spelling import option
from ..units import spread, stored
from .parts import table


def cost(manifest: Mapping[str, Any]) -> str:
    """Churn, slices and fairness, as far as they were asked for."""
    side = "handed over" if manifest["winner"] else "closest"
    return (
        _churn(manifest["churn"])
        + _slices(manifest["slices"], manifest["worst_drops"], side)
        + _fairness(manifest["fairness"], side)
        or f"<p>No slice was named ({escape(option('slice'))}), and the outputs are not known to be a classifier's, "
        "whose predictions would be compared.</p>"
    )


def _churn(found: Mapping[str, Any] | None) -> str:
    said = "".join(f"<p>{escape(line)}.</p>" for line in details.churn(found))
    return f"<h3>Predictions that changed (churn)</h3>{said}" if said else ""


def _slices(slices: Mapping[str, Mapping[str, Any]], drops: Sequence[Mapping[str, Any]], side: str) -> str:
    """One table of all slices and metrics, what stands out in a sentence above it."""
    if not slices:
        return ""
    rows = [row for name, found in slices.items() if found["n"] >= SMALLEST_SLICE for row in _slice(name, found)]
    heads = ["slice", "samples", "metric", "original", side, "difference", "flag"]
    said = [f"{line}." for line in (*details.drops(drops), *details.unjudged(slices))]
    return (
        "<h3>Slices of the data</h3>"
        + "".join(f"<p>{escape(line[0].upper() + line[1:])}</p>" for line in said)
        + (table("Slices", heads, rows, "wide dense tall") if rows else "")
        + f'<p class="note">Differences are {side} - original, on the same samples. A slice is flagged where it is '
        "proven to lose more than the whole does, at 95 % for all slices together (Holm's correction).</p>"
    )


def _slice(name: str, found: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for metric, one in found["metrics"].items():
        flag = '<span class="broken">flagged</span>' if one["flagged"] else ""
        sides = [escape(spread(stored(one[side]), one["unit"])) for side in ("original", "candidate", "difference")]
        rows.append([escape(metric), *sides, flag])
    rows += [[escape(metric), f"undefined here: {escape(why)}"] for metric, why in found["undefined"].items()]
    return [[escape(name), f"{found['n']:,}", *row] for row in rows]


def _fairness(columns: Mapping[str, Mapping[str, Any]], side: str) -> str:
    if not columns:
        return ""
    parts = [f"<p>{escape(line)}.</p>" for line in details.fairness({c: r for c, r in columns.items() if not r})]
    for column, rates in columns.items():
        rows = [row for rate, found in rates.items() for row in _rate(rate, found)]
        heads = ["rate", "value", "samples", "original", side, "change"]
        parts.append(table(f"Fairness between values of {column}", heads, rows, "wide dense") if rows else "")
    note = (
        "Selection rate: the share that is predicted positive. True and false positive rate: of the samples that are "
        f"positive, and that are not, the share that is predicted positive. Undecidable: fewer than {SMALLEST_SLICE} "
        "samples; left out of the difference."
    )
    return f'<h3>Fairness</h3>{"".join(parts)}<p class="note">{note}</p>'


def _rate(name: str, found: Mapping[str, Any]) -> list[list[str]]:
    rate = escape(name.replace("_", " "))
    rows = []
    for value, one in found["values"].items():
        sides = [one["original"], one["candidate"]]
        told = ["undecidable" if side is None else escape(spread(stored(side), "")) for side in sides]
        rows.append([rate, escape(value), f"{one['n']:,}", *told, ""])
    if gap := found["gap"]:
        told = [escape(spread(stored(gap[key]), "")) for key in ("original", "candidate", "change")]
        rows.append([rate, "<em>largest difference</em>", "", *told])
    return rows
