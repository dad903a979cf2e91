"""Markdown: what `verify` found as a table that a pull request or a CI server's summary shows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from . import summary
from .errors import StropError
from .units import visible
from .verification import compared, explain

FLAG = "--markdown"
_MARKS = re.compile(r"([\\`*_\[\]|~$])")


def write(path: Path, bundle: str, found: Mapping[str, Any] | StropError) -> None:
    """Write what was found of a bundle: a whole file or none.

    Args:
        path: The file; one that is there is replaced.
        bundle: The bundle's name.
        found: What `verify` returned, or the error that it ended in.

    Raises:
        InvalidPlan: The file can't be written.
    """
    told = _error(bundle, found) if isinstance(found, StropError) else _table(bundle, found)
    summary.write(FLAG, path, lambda file: file.write_text(told, encoding="utf-8"))


def _table(bundle: str, found: Mapping[str, Any]) -> str:
    outputs, differences = found["outputs"], found["environment"]["differences"]
    rows = [("outputs", outputs["verdict"], outputs["said"])]
    for limit in found["limits"]:
        rows.append((limit["limit"], limit["verdict"], explain(limit).removeprefix(limit["verdict"]).lstrip(":; ")))
    lines = [
        f"## {_text(bundle)}: {_text(found['verdict'])}",
        "",
        "| what | verdict | found |",
        "|---|---|---|",
        *(f"| {_text(what)} | **{_text(verdict)}** | {_text(said)} |" for what, verdict, said in rows),
        "",
        f"{_text(compared(found['objective']))}.",
    ]
    lines += ["", f"Judged on {_text(found['judged_on'])}."] if found["judged_on"] else []
    lines += ["", *(f"- Likely cause: {_text(cause)}" for cause in outputs["causes"])] if outputs["causes"] else []
    if differences:
        lines += ["", "| differs | where it was made | here |", "|---|---|---|"]
        lines += [
            f"| {' | '.join(_text(row[key] or 'none') for key in ('what', 'bundle', 'here'))} |" for row in differences
        ]
    return "\n".join(lines) + "\n"


def _error(bundle: str, error: StropError) -> str:
    return f"## {_text(bundle)}: not verified\n\n**{type(error).__name__}**: {_text(str(error))}\n"


def _text(text: str) -> str:
    """Text as it stands: no mark-up, no HTML, and on one line."""
    return _MARKS.sub(r"\\\1", escape(visible(" ".join(text.split())), quote=False))
