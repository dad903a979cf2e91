"""Inventory: the techniques there are, and whether each fits a model."""

from __future__ import annotations

from typing import Any

from . import formats
from . import techniques as room
from .errors import NotApplicable
from .plan import needed
from .target import Target
from .technique import Technique


def techniques(model: str | None, trust_pickle: bool) -> list[dict[str, Any]]:
    """One row a technique, as plain data.

    `fits` is None where no model is given, it is of another format (`takes` is false), or only trying it can tell.

    Raises:
        UnsupportedModel, UntrustedModel: The model can't be read.
    """
    opened = formats.open(model, trust_pickle=trust_pickle) if model else None
    rows = []
    for technique in room.all_techniques():
        refused, fits = "", None
        takes = opened is not None and opened.format in technique.accepts
        if opened and takes:
            try:
                technique().requires(opened, Target())
                fits = None if technique.requires is Technique.requires else True
            except NotApplicable as error:
                refused, fits = str(error), False
        rows.append(
            {
                "technique": technique.label(),
                "version": technique.version,
                "about": (technique.__doc__ or "").split("\n")[0],
                "accepts": sorted(technique.accepts),
                "returns": technique.returns or "the same format",
                "phase": technique.phase.name.lower(),
                "settings": technique().settings(),
                "needs": needed(technique.needs),
                "takes": takes,
                "fits": fits,
                "refused": refused,
            }
        )
    return rows
