"""Inventory: the techniques there are, and whether each fits a model."""

from __future__ import annotations

from typing import Any

from . import formats
from . import techniques as room
from .errors import NotApplicable
from .target import Target


def techniques(model: str | None, trust_pickle: bool) -> list[dict[str, Any]]:
    """One row a technique, as plain data; `fits` is None where no model is given, or it is of another format.

    Raises:
        UnsupportedModel, UntrustedModel: The model can't be read.
    """
    opened = formats.open(model, trust_pickle=trust_pickle) if model else None
    rows = []
    for technique in room.all_techniques():
        refused, fits = "", None  # of another format
        if opened and opened.format in technique.accepts:
            try:
                technique().requires(opened, Target())
            except NotApplicable as error:
                refused = str(error)
            fits = not refused
        rows.append(
            {
                "technique": technique.label(),
                "version": technique.version,
                "about": (technique.__doc__ or "").split("\n")[0],
                "accepts": sorted(technique.accepts),
                "returns": technique.returns or "the same format",
                "phase": technique.phase.name.lower(),
                "settings": technique().settings(),
                "fits": fits,
                "refused": refused,
            }
        )
    return rows
