"""Show: a profile as plain text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..units import counted, percent, quantity, spread, stored

WIDTH = 110  # characters of a line
COLUMNS = 10  # of a table, that are listed
UNUSED = 12  # columns, that are named
WORTH = 0.03  # a gain under this is none


def summarize(found: Mapping[str, Any]) -> str:
    """What `strop.profiling.profile` gave, for a person."""
    model, facts = found["model"], found["structure"]
    lines = [_paragraph("model", f"{model['format']}, {quantity(model['size'], 'bytes')} on disk")]
    lines += [_paragraph(name, said) for name, said in found["told"].items()]
    if unused := facts.get("unused"):
        more = f" and {len(unused) - UNUSED:,} more" if len(unused) > UNUSED else ""
        lines.append(_paragraph("", f"not looked at: {', '.join(unused[:UNUSED])}{more}"))
    lines.append(_paragraph("time", _time(found)))
    lines.append(_paragraph("memory", f"{quantity(found['memory'], 'bytes')} at the peak, over that of the runtime"))
    lines += _parts(found["layers"]) + _columns(facts.get("columns", [])) + _advice(found["advice"], found["unfit"])
    lines += ["", *(_paragraph("note", f"{note}.") for note in found["notes"])] if found["notes"] else []
    return "\n".join(lines)


def _time(found: Mapping[str, Any]) -> str:
    model = found["model"]
    said = (
        f"a call of {counted(model['batch'], 'sample')} takes {spread(stored(found['seconds']), 's')} through "
        f"{model['runtime']} on {counted(model['threads'], 'thread')}, the median of {counted(found['calls'], 'call')}"
    )
    bound = {"overhead": "; most of it is spent around the model", "model": "; most of it is spent in the model itself"}
    return said + bound.get(found["bound_by"], "")


def _parts(layers: Sequence[Mapping[str, Any]]) -> list[str]:
    if not any(layer["seconds"] for layer in layers):
        return []
    rows = [["part", "time", "share of a call", "operations", "time of each"]]
    for layer in layers:
        seconds, share = layer["seconds"], layer["share"]
        rows.append([
            layer["name"], _spent(seconds) if seconds else "-", percent(stored(share)) if share else "-",
            f"{layer['operations']:,.0f}" if layer["operations"] else "-",
            quantity(seconds["value"] / layer["operations"], "s") if seconds and layer["operations"] else "-",
        ])  # fmt: skip
    return ["", "Where the time goes", *_table(rows)]


def _spent(seconds: Mapping[str, float]) -> str:
    return spread(stored(seconds), "s") if seconds["value"] else f"under {quantity(seconds['high'], 's')}"


def _columns(columns: Sequence[Mapping[str, Any]]) -> list[str]:
    if not columns:
        return []
    whole = sum(column["splits"] for column in columns)
    rows = [["column", "splits", "share of splits", "share of gain"]]
    for column in columns[:COLUMNS]:
        gain = "-" if column["gain"] is None else f"{column['gain']:.1%}"
        rows.append([column["name"], f"{column['splits']:,}", f"{column['splits'] / whole:.1%}", gain])
    more = [f"  and {counted(len(columns) - COLUMNS, 'column')} more"] if len(columns) > COLUMNS else []
    return ["", "Columns", *_table(rows), *more]


def _advice(advice: Sequence[Mapping[str, Any]], unfit: Mapping[str, str]) -> list[str]:
    worth = [one for one in advice if one["gain"] >= WORTH]
    lines = [
        "",
        "What would help, and how much of a call's time it is expected to take away (strop optimize proves it)",
    ]
    for one in worth:
        lines.append(f"  {one['gain']:>4.0%}  {one['technique']}")
        lines.append(textwrap.fill(f"{one['why']}.", WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8))
    if not worth:
        lines.append("  nothing known: keep the model as it is, or run it on a faster machine")
    if rest := [one["technique"] for one in advice if one["gain"] < WORTH]:
        lines.append(textwrap.fill(f"no faster: {', '.join(rest)}", WIDTH, initial_indent="  ", subsequent_indent="  "))
    for name, why in unfit.items():
        lines.append(textwrap.fill(f"not {name}: {why}", WIDTH, initial_indent="  ", subsequent_indent=" " * 8))
    return lines


def _table(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _paragraph(name: str, text: str) -> str:
    return textwrap.fill(f"{name:<10}{text}", WIDTH, subsequent_indent=" " * 10, break_on_hyphens=False)
