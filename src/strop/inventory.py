"""Inventory: the techniques there are, whether each fits a model, and which others its routes reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import formats, metrics
from . import techniques as room
from .errors import NotApplicable
from .model import Model
from .plan import needed, routes
from .target import Target
from .technique import Needs, Technique


def techniques(model: str | None, trust_pickle: bool) -> list[dict[str, Any]]:
    """One row a technique, as plain data.

    `fits` is whether it fits the model as it is: None where none is given, it is of another format, or only trying it
    can tell. `after` names the converters that lead from the model to the technique in the shortest route: none where
    it takes the model as it is, null where no route has it.

    Raises:
        UnsupportedModel, UntrustedModel: The model can't be read.
    """
    opened = formats.open(model, trust_pickle=trust_pickle) if model else None
    after = _after(opened) if opened else {}
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
                "fits": fits,
                "refused": refused,
                "after": [] if takes and not refused else after.get(technique.label()),
            }
        )
    return rows


def described(rows: Sequence[Mapping[str, Any]], grouped: bool) -> str:
    """The rows in words.

    Args:
        grouped: By what comes before them in routes from the model; else as they come.
    """
    if not grouped:
        return "\n".join(line for row in rows for line in _lines(row))
    said: list[str] = []
    reached = [tuple(row["after"]) for row in rows if row["after"] is not None]
    for before in sorted(set(reached), key=lambda before: (len(before), reached.index(before))):
        said.append(f"after {' and '.join(before)}:" if before else "to this model as it is:")
        said += [f"    {line}" for row in rows if row["after"] == [*before] for line in _lines(row)]
    if refused := [row for row in rows if row["refused"]]:
        said.append("do not fit this model:")
        said += [f"    {row['technique']}: {row['refused']}" for row in refused]
    return "\n".join(said)


def _lines(row: Mapping[str, Any]) -> list[str]:
    settings = ", ".join(f"{name}={value!r}" for name, value in row["settings"].items())
    lines = [f"{row['technique']}: {row['about']}", f"    {' or '.join(row['accepts'])} -> {row['returns']}"]
    lines += [f"    {settings}"] if settings else []
    lines += [f"    needs {row['needs']}"] if row["needs"] else []
    return [*lines, "    whether it fits shows when it is tried"] if row["after"] == [] and not row["fits"] else lines


def _after(model: Model) -> dict[str, list[str]]:
    """Of each technique that a route has, the fewest converters that come before it."""
    every = Needs.SAMPLES | Needs.LABELS | Needs.TRAINING | Needs.STUDENT
    found: dict[str, list[str]] = {}
    for route in routes(model, Target(), every, asked=tuple(metrics.better()))[0]:
        before: list[str] = []
        for step in route.steps:
            known = found.get(step.label())
            if known is None or len(before) < len(known):
                found[step.label()] = list(before)
            before += [step.label()] if step.returns else []
    return found
