"""Table: the parts of a call, those that take most first, as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..units import counted, percent, quantity, spread, stored, visible

MOST = 12  # layers that are listed
ITSELF = "the call itself"  # in the place of a layer's name
KINDS = 6  # of operators, whose shares are told
ESCAPED = str.maketrans({"\n": "\\n", "\t": "\\t"})
LEGEND = (
    "reached: the least time that this machine could take for it, over the time that it takes. bound by: compute, its "
    "arithmetic; memory, what it reads and writes; conversion, it only changes types or layouts; overhead, it has so "
    "little to do that starting it takes longer."
)
ROWS = (
    "A row is what the runtime runs at once, named by its main layer: +1, one more layer is computed with it. --json "
    "has all rows, and the layers in each."
)


def one_line(text: str) -> str:
    """Text in which nothing moves the cursor: names of layers may hold anything."""
    return visible(text.translate(ESCAPED))


def layer_table(layers: Sequence[Mapping[str, Any]], width: int) -> list[str]:
    """The parts of a call, those that take most first; nothing where no times are known.

    Args:
        layers: As a profile has them.
        width: Characters of a line.
    """
    timed = [layer for layer in layers if layer["seconds"]]
    if not timed:
        return []
    if any(layer.get("attainable") is not None or layer.get("layers") for layer in timed):
        return _profiled(timed, width)
    rows = [["part", "time", "share of a call", "operations", "time of each"]]
    for layer in layers:
        seconds, share = layer["seconds"], layer["share"]
        rows.append([
            one_line(layer["name"]), _spent(seconds) if seconds else "-", percent(stored(share)) if share else "-",
            f"{layer['operations']:,.0f}" if layer["operations"] else "-",
            quantity(seconds["value"] / layer["operations"], "s") if seconds and layer["operations"] else "-",
        ])  # fmt: skip
    return ["", "Where the time goes", *table(rows)]


def _profiled(timed: Sequence[Mapping[str, Any]], width: int) -> list[str]:
    ordered = sorted(timed, key=lambda layer: -layer["seconds"]["value"])
    shown = ordered[:MOST]
    rows = [["layer", "operator", "time", "share", "reached", "bound by"], *map(_row, shown)]
    if left := ordered[MOST:]:
        seconds, share = (sum(layer[key]["value"] for layer in left) for key in ("seconds", "share"))
        rows.append([f"and {counted(len(left), 'more')[:-1]}", "", quantity(seconds, "s"), f"{share:.1%}", "", ""])
    room = width - 2 - sum(2 + max(map(len, column)) for column in list(zip(*rows, strict=True))[1:])
    for row in rows:
        row[0] = shortened(row[0], max(12, room))
    known = any(layer["bound_by"] for layer in timed if layer["layers"])
    legend = textwrap.wrap(f"{LEGEND} {ROWS}", width, initial_indent="  ", subsequent_indent="  ") if known else []
    kinds = textwrap.wrap(_by_operator(timed), width, initial_indent="  ", subsequent_indent="  ") if left else []
    return ["", "Where the time goes", *table(rows, right=(2, 3, 4)), *kinds, *legend]


def _by_operator(timed: Sequence[Mapping[str, Any]]) -> str:
    """The shares of the kinds of rows that take most, so that no time is without a name."""
    shares: dict[str, list[float]] = {}
    for layer in timed:
        if layer["layers"]:
            shares.setdefault(one_line(layer["operator"]), []).append(layer["share"]["value"])
    most = sorted(shares.items(), key=lambda item: -sum(item[1]))[:KINDS]
    return f"by operator: {', '.join(f'{len(all_)} {kind} {sum(all_):.0%}' for kind, all_ in most)}"


def _row(layer: Mapping[str, Any]) -> list[str]:
    if layer["operator"] == "overhead" and not layer["layers"]:
        name, operator = ITSELF, ""
    else:
        more = len(layer["layers"]) - 1
        name, operator = one_line(layer["name"]) + (f" +{more}" if more > 0 else ""), one_line(layer["operator"])
    reached = layer.get("reached")
    return [
        name, operator, quantity(layer["seconds"]["value"], "s"), f"{layer['share']['value']:.1%}",
        "" if reached is None else f"{reached:.0%}", layer["bound_by"] or "",
    ]  # fmt: skip


def shortened(name: str, width: int) -> str:
    """The end of a name tells more than its beginning."""
    return name if len(name) <= width else f"{name[: width // 3 - 1]}..{name[-(width - width // 3 - 1) :]}"


def _spent(seconds: Mapping[str, float]) -> str:
    return spread(stored(seconds), "s") if seconds["value"] else f"under {quantity(seconds['high'], 's')}"


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> Iterable[str]:
    """Rows in columns, the first being their heads.

    Args:
        right: Places of columns of numbers.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if at in right else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  " + "  ".join(cells).rstrip()
