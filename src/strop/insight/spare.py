"""Spare: the layers that a candidate has in floats while others are in integers, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..dataflow import Group
from ..units import quantity
from .seen import Inside, Seen
from .story import labelled, share

NAMED = 3  # layers, or kinds of operators, in a line
INTEGER = "int8"
OF_NO_KIND = "nothing of the kind is in integers"


@dataclass(frozen=True)
class Reason:
    """Why an operator is in floats.

    Attributes:
        why: As half a sentence.
        alone: Of one in a mix of precisions: the share of the error that its group does alone in int8, where known.
    """

    why: str
    alone: float | None = None


def kept(group: Group) -> Reason:
    """Why a mix of precisions has a group as it has it, by what was measured when it was made."""
    said = (
        "what int8 does to it alone is not known"
        if group.alone is None
        else f"alone in int8 it does {share(group.alone)} of the error"
    )
    takes, took = group.seconds.get(INTEGER), group.seconds.get(group.precision)
    if takes and took:
        said += f"; it takes {quantity(takes, 's')} in {INTEGER}, {quantity(took, 's')} in {group.precision}"
    return Reason(f"the mix keeps it in {group.precision}: {said}", group.alone)


def floats(found: Inside, reasons: Mapping[str, Reason]) -> list[dict[str, Any]]:
    """The layers that stayed in floats, where others did not, and why.

    Args:
        found: What was seen.
        reasons: By name of the candidate's operators, why those that made it left them alone.
    """
    integer = {seen.part.main.kind for seen in found.layers if "int" in seen.precision}
    return [
        {"layer": label, "operator": seen.part.main.kind, **_why(seen, reasons, integer)}
        for label, seen in zip(labelled(found.layers), found.layers, strict=True)
        if integer and "int" not in seen.precision and seen.part.candidate
    ]


def _why(seen: Seen, reasons: Mapping[str, Reason], integer: Collection[str]) -> dict[str, Any]:
    """Why a layer is in floats, and whether that is known or only seen."""
    part, kind = seen.part, seen.part.main.kind
    if part.counterpart is not None and (told := reasons.get(part.counterpart.name)):
        return {"why": told.why, "known": True, "alone": told.alone}
    if "int" in part.precision or any("quantize" in one.kind.lower() for one in part.candidate):
        why = f"numbers are rounded to 8 bits before or after it, and the runtime computes {kind} in floats"
        return {"why": why, "known": True, "alone": None}
    why = f"other {kind} are in integers, and this is not" if kind in integer else OF_NO_KIND
    return {"why": why, "known": False, "alone": None}


def lines(found: Sequence[Mapping[str, Any]], whole: bool = False) -> list[str]:
    """The layers by reason: what harms most in int8 first, then what most layers share.

    Args:
        found: As `floats` gave it.
        whole: Whether to name all layers of a reason.
    """
    reasons: dict[str, list[Mapping[str, Any]]] = {}
    for one in found:
        reasons.setdefault(one["why"], []).append(one)
    ordered = sorted(reasons.items(), key=lambda item: (-(item[1][0]["alone"] or 0.0), -len(item[1])))
    return [f"{_named(layers, why == OF_NO_KIND and not whole, whole)}: {why}" for why, layers in ordered]


def _named(layers: Sequence[Mapping[str, Any]], by_kind: bool, whole: bool) -> str:
    kinds = Counter(one["operator"] for one in layers)
    names = [f"{count} {kind}" for kind, count in kinds.most_common()] if by_kind else [one["layer"] for one in layers]
    shown = names if whole else names[:NAMED]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"{', '.join(shown)}{more}"
