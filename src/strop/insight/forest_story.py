"""Forest story: what changed from an ensemble of trees to another, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..units import counted
from .story import HALF, NEGLIGIBLE, share

NAMED = 5  # columns that a sentence names


def tell(found: Mapping[str, Any]) -> list[str]:
    """What `forests.compare` found, for a person.

    Args:
        found: It, `scores` as plain data.
    """
    return [
        *_scores(found["scores"]),
        _counts(found),
        *_changes(found),
        *_splits(found),
        *_columns(found),
        *_origin(found),
    ]


def _scores(scores: Mapping[str, Any]) -> Iterator[str]:
    if scores["error"] ** 2 <= NEGLIGIBLE:
        yield "The scores are the original's, up to rounding."
    else:
        off = f"{share(scores['error'])} of their size ({scores['sqnr']:.1f} dB)"
        yield f"The sums of leaves, before they become results, are off by {off}."


def _counts(found: Mapping[str, Any]) -> str:
    counts = []
    for name in ("trees", "splits", "leaves", "columns"):
        before, after = found[name]["original"], found[name]["candidate"]
        counts.append(f"{after:,} {name}" + (f" (of {before:,})" if before != after else ""))
    return f"The candidate has {', '.join(counts)}."


def _changes(found: Mapping[str, Any]) -> Iterator[str]:
    if found["anew"]:
        yield "Its trees are not the original's: they were trained anew, so nothing can be told tree by tree."
        return
    splits, leaves = found["splits"], found["leaves"]
    told = [
        (len(found["trees"]["removed"]), "tree", "left out"),
        (len(found["trees"]["added"]), "tree", "new"),
        (splits["removed"], "split", "taken out"),
        (splits["other"], "split", "new"),
        (splits["moved"], "threshold", f"moved (by {splits['largest_move']:.3g} at the most)"),
        (leaves["merged"], "leaf", "merged"),
        (leaves["changed"], "leaf", f"of another value (by {leaves['largest_change']:.3g} at the most)"),
    ]
    happened = [f"{_counted(count, noun)} {what}" for count, noun, what in told if count]
    yield f"{'; '.join(happened)}." if happened else "No tree has changed."


def _splits(found: Mapping[str, Any]) -> Iterator[str]:
    """The splits themselves, where few changed."""
    told = []
    for one in found["splits"]["named"]:
        before, after = one["original"], one["candidate"]
        known = (
            f"{before} became {after}"
            if before and after
            else f"{before} was taken out"
            if before
            else f"{after} is new"
        )
        told.append(f"in tree {one['tree']}, {known}")
    if told:
        yield f"Splits: {'; '.join(told)}."


def _columns(found: Mapping[str, Any]) -> Iterator[str]:
    columns = found["columns"]
    if columns["dropped"]:
        yield f"It does not look at {_listed(columns['dropped'])} any more."
    if columns["added"]:
        yield f"It looks at {_listed(columns['added'])}, which the original does not."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED:,} more" if len(names) > NAMED else "")


def _origin(found: Mapping[str, Any]) -> Iterator[str]:
    ranked = sorted((one["share"] for one in found["by_tree"] if one["share"]), reverse=True)
    if not ranked or found["anew"]:
        return
    total, count = 0.0, 0
    while total < HALF and count < len(ranked):
        total, count = total + ranked[count], count + 1
    where = f"{counted(count, 'tree')} of {len(found['by_tree']):,}"
    yield f"{share(total)} of what single trees change comes from {where}."


def _counted(number: int, noun: str) -> str:
    return f"{number:,} leaves" if noun == "leaf" and number != 1 else counted(number, noun)
