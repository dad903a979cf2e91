"""Table: the parts of a call, those that take most first, as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..units import quantity, visible

ITSELF = "the call itself"  # in the place of a layer's name
ENOUGH = 0.8  # of the layers' time, that those take that are listed
FEWEST, MOST = 12, 40  # layers that are listed, where there are so many
NAMED = 26  # characters that a name should have, before there is room for more columns
KINDS = 6  # of operators, whose shares are told
ESCAPED = str.maketrans({"\n": "\\n", "\t": "\\t"})
LEGEND = (
    "reached: the least time that this machine could take for it, over the time that it takes. bound by: compute, its "
    "arithmetic; memory, what it reads and writes; conversion, it only changes types or layouts; overhead, it has so "
    "little to do that starting it takes longer."
)
WAITS = (
    "latency: each split of a tree tells what is read next, so that reads wait for each other; work is the splits that "
    "are passed."
)
ROWS = (
    "A row is what the runtime runs at once, named by its main layer: +1, one more layer is computed with it; after "
    "x, what the runtime put in behind x, to change layouts or types. --json has all rows, and the layers in each."
)
MORE = {
    "work": "work: multiply-adds",
    "bytes": "bytes: of its weights",
    "type": "type: what it computes in",
    "per byte": "per byte: operations, a multiply-add being two, for each byte that it moves",
}
"""What columns say that not every width has room for."""


def one_line(text: str) -> str:
    """Text in which nothing moves the cursor: names of layers may hold anything."""
    return visible(text.translate(ESCAPED))


def layer_table(layers: Sequence[Mapping[str, Any]], width: int, whole: bool = False) -> list[str]:
    """The parts of a call, those that take most first; where no times are known, what each is made of.

    Args:
        layers: As a profile has them.
        width: Characters of a line.
        whole: Whether to list them all.
    """
    timed = [layer for layer in layers if layer["seconds"]]
    if not timed:
        return _untimed(layers, width, whole) if len(layers) > 1 else []
    return _profiled(timed, width, whole)


def _profiled(timed: Sequence[Mapping[str, Any]], width: int, whole: bool) -> list[str]:
    ordered = sorted(timed, key=lambda layer: -layer["seconds"]["value"])
    shown = ordered if whole else ordered[: _listed([layer["seconds"]["value"] for layer in ordered])]
    rows = [["layer", "operator", "time", "share", "reached", "bound by"], *map(_row, shown)]
    more = [list(MORE), *map(_more, shown)]
    if left := ordered[len(shown) :]:
        seconds, share = (sum(layer[key]["value"] for layer in left) for key in ("seconds", "share"))
        rows.append([f"and {len(left):,} more", "", quantity(seconds, "s"), f"{share:.1%}", "", ""])
        more.append([""] * len(MORE))
    added = _room(rows, more, width)
    known = any(layer["bound_by"] for layer in timed if layer["layers"])
    waits = [WAITS] if any(layer["bound_by"] == "latency" for layer in timed) else []
    legend = " ".join([LEGEND, *waits, ROWS, *(f"{MORE[name]}." for name in added)])
    kinds = _filled(_by_operator(timed), width) if len(ordered) > FEWEST else []
    return [
        "", "Where the time goes", *table(rows, right=(2, 3, 4, *range(6, 6 + len(added)))), *kinds,
        *(_filled(legend, width) if known else []),
    ]  # fmt: skip


def _untimed(layers: Sequence[Mapping[str, Any]], width: int, whole: bool) -> list[str]:
    """What layers are made of, those that compute most first; where none computes, those that hold most."""
    size = "operations" if any(layer["operations"] for layer in layers) else "bytes"
    ordered = sorted(layers, key=lambda layer: (-(layer[size] or 0), -layer["bytes"]))
    shown = ordered if whole else ordered[: _listed([layer[size] or 0 for layer in ordered])]
    rows = [["layer", "operator", "parameters", "work", "share", "bytes"]]
    most = sum(layer[size] or 0 for layer in layers) or 1.0
    for name, operator, some in (
        *((one_line(layer["name"]), one_line(layer["operator"]), [layer]) for layer in shown),
        *(
            [(f"and {len(ordered) - len(shown):,} more", "", ordered[len(shown) :])]
            if len(ordered) > len(shown)
            else []
        ),
    ):
        parameters, work, held = (
            sum(layer[key] or 0 for layer in some) for key in ("parameters", "operations", "bytes")
        )
        share = sum(layer[size] or 0 for layer in some) / most
        rows.append([name, operator, f"{parameters:,}", brief(work), f"{share:.1%}", quantity(held, "bytes")])
    _room(rows, [[] for _ in rows], width)
    said = f"{MORE['work']} of a call. share: of all {'work' if size == 'operations' else 'bytes'}. {MORE['bytes']}."
    return ["", "What it is made of, without times", *table(rows, right=(2, 3, 4, 5)), *_filled(said, width)]


def _listed(values: Sequence[float]) -> int:
    """How many of some numbers, the greatest first, make up most of their sum."""
    whole, so_far, count = sum(values), 0.0, 0
    while count < min(MOST, len(values)) and (count < FEWEST or so_far < ENOUGH * whole):
        so_far += values[count]
        count += 1
    return count


def _room(rows: list[list[str]], more: list[list[str]], width: int) -> list[str]:
    """Put what there is room for into the rows, and shorten their names to what is left.

    Returns:
        The heads of the columns that were added.
    """

    def left() -> int:
        return width - 2 - sum(2 + max(map(len, column)) for column in list(zip(*rows, strict=True))[1:])

    added, wanted = [], min(NAMED, max(len(row[0]) for row in rows))
    for place, head in enumerate(more[0]):
        column = [row[place] for row in more]
        if any(column[1:]) and left() - 2 - max(map(len, column)) >= wanted:
            added.append(head)
            for row, cell in zip(rows, column, strict=True):
                row.append(cell)
    for row in rows:
        row[0] = shortened(row[0], max(12, left()))
    return added


def _filled(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def _by_operator(timed: Sequence[Mapping[str, Any]]) -> str:
    """The shares of the kinds of rows that take most, of the time of all rows, so that no time is without a name."""
    seconds: dict[str, list[float]] = {}
    for layer in timed:
        if layer["layers"]:
            seconds.setdefault(one_line(layer["operator"]), []).append(layer["seconds"]["value"])
    whole = sum(map(sum, seconds.values()))
    most = sorted(seconds.items(), key=lambda item: -sum(item[1]))[:KINDS]
    told = ", ".join(f"{len(all_):,} {kind} {sum(all_) / whole:.0%}" for kind, all_ in most)
    return f"by operator, of the layers' time: {told}"


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


def _more(layer: Mapping[str, Any]) -> list[str]:
    """The columns of `MORE`."""
    intensity = layer.get("intensity")
    return [
        brief(layer["operations"]) if layer["operations"] else "",
        quantity(layer["bytes"], "bytes") if layer["bytes"] else "",
        layer.get("precision") or "", f"{intensity:.3g}" if intensity else "",
    ]  # fmt: skip


def brief(number: float) -> str:
    """A count in three digits: `25.7 M`."""
    scale, name = next(((s, n) for s, n in ((1e9, " G"), (1e6, " M"), (1e3, " k")) if number >= s), (1.0, ""))
    return f"{number / scale:.3g}{name}"


def shortened(name: str, width: int) -> str:
    """The end of a name tells more than its beginning."""
    return name if len(name) <= width else f"{name[: width // 3 - 1]}..{name[-(width - width // 3 - 1) :]}"


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
