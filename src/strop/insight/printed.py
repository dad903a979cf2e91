"""Printed: an explanation as plain text for a terminal."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..units import counted, quantity
from .spare import lines
from .story import share
from .table import one_line, shortened, table

WIDEST = 110  # characters of a line, at the most
FEW = 24  # layers up to which all are listed
LISTED = 16  # of more than that
LONGEST = 34  # characters of a name
COLUMNS = 5  # of a forest, whose splits changed, that are listed
REASONS = 6  # for floats, that are listed
LEGEND = (
    "layer: what lies between two values that both models know, by its main operator. before -> after. precision: what "
    "the candidate computes in (int8: integers of 8 bits; int8 and int4 weights: the weights alone in 8 or 4; bf16, "
    "f16: floats of 16; f32: floats of 32). bytes: of weights and scales. share: of what the layers, one by one, do to "
    "the output. here: "
    "how far off it is by itself, fed with the original's values; of a layer in floats, that its inputs are rounded. "
    "so far: how far off it is in the candidate, with all layers before it; this falls again where later layers even "
    "errors out. Both as root mean square of the differences over that of the values; as that in dB, signal over noise "
    "(1 % is 40 dB, 10 % is 20 dB); and as cosine: 1 is the same direction, 0 none in common."
)
TOGETHER = "A layer without a time is computed with another one, which has the time of both."


def printed(found: Mapping[str, Any], width: int = WIDEST, whole: bool = False) -> str:
    """What `strop.explanation.explain` gave, for a person.

    Args:
        found: It.
        width: Characters that a line may have.
        whole: Whether to list all layers and reasons, not only those that matter most.
    """
    width = max(60, min(WIDEST, width))
    text = [*_filled(" ".join(found["said"]), width), "", *_sizes(found, width)]
    if found["layers"]:
        text += ["", *_layers(found, width, whole)]
    if found["forest"]:
        text += ["", *_trees(found["forest"], width)]
        text += _columns(found["forest"]["by_column"])
    text += _floats(found["floats"], width, whole) + _samples(found["samples"])
    for note in found["notes"]:
        text += _filled(f"note: {note}", width, 6)
    return "\n".join(text)


def _sizes(found: Mapping[str, Any], width: int) -> Iterator[str]:
    for name in ("original", "candidate"):
        side = found[name]
        size = f"{quantity(side['size'], 'bytes')} on disk"
        if rest := found["rest"].get(name):
            size += f", {quantity(rest, 'bytes')} of it not in any layer (the graph itself)"
        yield from _filled(f"{name:<11}{side['format']} on {side['runtime']}, {size}", width, 11)


def _layers(found: Mapping[str, Any], width: int, whole: bool) -> Iterator[str]:
    layers = found["layers"]
    shown, rest = list(layers), []
    if len(layers) > FEW and not whole:
        order = sorted(
            range(len(layers)), key=lambda at: (-(layers[at]["share"] or 0), -layers[at]["introduced"]["error"])
        )
        chosen = set(order[:LISTED])
        shown = [layer for at, layer in enumerate(layers) if at in chosen]
        rest = [layer for at, layer in enumerate(layers) if at not in chosen]
    timed = any(seconds is not None for one in layers for seconds in one["seconds"].values())
    many = f"the {len(shown)} that matter most of " if rest else ""
    yield f"Layer by layer ({many}{counted(len(layers), 'layer')}, by {counted(found['looked_at'], 'sample')})"
    heads = ["layer", "precision", "bytes", *(["time"] if timed else [])]
    changes = [[one["name"], one["precision"], _change(one["bytes"], "bytes"),
                *([_change(one["seconds"], "s")] if timed else [])] for one in shown]  # fmt: skip
    yield from _named([heads, *changes], width)
    yield ""
    yield "What each does to the numbers"
    heads = ["layer", "share", "here", "dB", "cosine", "so far", "dB", "cosine"]
    errors = [
        [one["name"], "-" if one["share"] is None else share(one["share"]),
         *_apart(one["introduced"]), *_apart(one["accumulated"])] for one in shown
    ]  # fmt: skip
    yield from _named([heads, *errors], width)
    if rest:
        known = [layer["share"] for layer in rest if layer["share"] is not None]
        more = f", {share(sum(known))} of the error together" if known else ""
        yield f"  and {counted(len(rest), 'layer')} more{more}; --json has all of them"
    together = f" {TOGETHER}" if timed and fused(layers) else ""
    yield from _filled(LEGEND + together, width, 2, "  ")


def _apart(found: Mapping[str, Any]) -> list[str]:
    """How far off a value is: as a share, in decibels, and by its direction."""
    return [share(found["error"]), decibels(found), f"{found['cosine']:.4f}"]


def decibels(found: Mapping[str, Any]) -> str:
    """Signal over noise of a value; `exact` where nothing differs, `-` where nothing is left to tell."""
    sqnr = found["sqnr"]
    if sqnr is None and not found["error"] and not found["lost"]:
        return "exact"
    return "-" if sqnr is None or math.isinf(sqnr) else f"{sqnr:.1f}"


def fused(layers: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a runtime that tells what layers take has no time of its own for one."""
    sides = [[one["seconds"][side] for one in layers] for side in ("original", "candidate")]
    return any(None in times and any(one is not None for one in times) for times in sides)


def _trees(forest: Mapping[str, Any], width: int) -> Iterator[str]:
    ranked = sorted((one for one in forest["by_tree"] if one["share"]), key=lambda one: -one["share"])
    shown = sorted(ranked[:LISTED], key=lambda one: (one["original"] is None, one["original"] or one["candidate"]))
    if forest["anew"] or not shown:
        return
    rows = [["tree", "of scores", "so far", "of all", "what changed"]]
    for one in shown:
        number = one["candidate"] if one["original"] is None else one["original"]
        rows.append([f"{number:,}", share(one["error"]), share(one["accumulated"]), share(one["share"]), one["what"]])
    yield f"Trees that matter most, {len(shown)} of {len(ranked):,} that changed (by {forest['samples']:,} samples)"
    yield from table(rows)


def _columns(columns: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns whose splits changed most, in how many there are."""
    changed = sorted(
        (one for one in columns if one["original"] != one["candidate"]),
        key=lambda one: -abs(one["original"] - one["candidate"]),
    )
    if not changed:
        return []
    rows = [["column", "splits before", "after", "change"]]
    for one in changed[:COLUMNS]:
        before, after = one["original"], one["candidate"]
        rows.append([one_line(one["name"]), f"{before:,}", f"{after:,}", f"{after - before:+,}"])
    shown = f"{len(changed[:COLUMNS])} of {len(changed):,} that changed"
    return ["", f"Columns that changed most, {shown}, by how often trees split by them", *table(rows)]


def _change(both: Mapping[str, float | None], unit: str) -> str:
    """Before and after, the unit once where it is the same."""
    before, after = ("-" if not (value := both[side]) else quantity(value, unit) for side in ("original", "candidate"))
    if before == after:
        return before
    number, _, name = before.partition(" ")
    return f"{number if name and after.endswith(f' {name}') else before} -> {after}"


def _floats(kept: Sequence[Mapping[str, Any]], width: int, whole: bool) -> list[str]:
    if not kept:
        return []
    said = lines(kept, whole)
    shown = said if whole else said[:REASONS]
    text = ["", f"Stayed in floats: {counted(len(kept), 'layer')}"]
    for line in shown:
        text += _filled(line, width, 4, "  ")
    if left := len(said) - len(shown):
        text.append(f"  and {counted(left, 'reason')} more; --json has all of them")
    return text


def _samples(found: Mapping[str, Any]) -> list[str]:
    if not found["worst"]:
        return []
    if found["changed"] is None:
        rows = [["row", "off by", "cosine"]]
        rows += [[str(one["row"]), share(one["error"]), f"{one['cosine']:.4f}"] for one in found["worst"][:5]]
        return ["", "The samples that are farthest off", *table(rows)]
    steps = any(one["step"] is not None for one in found["worst"])
    labelled = any(one["label"] is not None for one in found["worst"])
    sides = [*(["label"] if labelled else []), "original", "candidate"]
    rows = [["row", *(["step"] if steps else []), *sides, "margin"]]
    for one in found["worst"]:
        cells = [one[side] for side in sides]
        margin = "-" if one["margin"] is None else f"{one['margin']:.3g}"
        place = [f"{one['row']:,}", *([str(one["step"])] if steps else [])]
        rows.append([*place, *("-" if cell is None else one_line(str(cell))[:20] for cell in cells), margin])
    title = f"Predictions that changed, {len(found['worst'])} of {found['changed']:,}, those by the widest margin first"
    legend = ["  margin: by how much the candidate puts its own prediction above the original's"]
    legend += ["  step: the place in the sample's output that changed"] if steps else []
    return ["", title, *table(rows), *legend]


def _named(rows: Sequence[Sequence[str]], width: int) -> Iterable[str]:
    """Rows whose first column, of names, is cut to what is left of a line."""
    others = sum(max(map(len, column)) + 2 for column in list(zip(*rows, strict=True))[1:])
    room = max(12, min(LONGEST, width - 2 - others))
    return table([[shortened(one_line(name), room), *rest] for name, *rest in rows])


def _filled(text: str, width: int, indent: int = 0, first: str = "") -> list[str]:
    bound = one_line(text).replace(" %", "\u00a0%")  # a number and its sign stay on one line
    lines = textwrap.wrap(bound, width, initial_indent=first, subsequent_indent=" " * indent, break_on_hyphens=False)
    return [line.replace("\u00a0", " ") for line in lines]
