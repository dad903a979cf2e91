"""Looks: how often data have been used to confirm. Each look after the first makes a proof weaker, so it is told."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

from ._state import state_file
from .spelling import option


def looks_at(digest: str) -> int:
    """How often the confirm split of that digest has been used before, on this machine by this user."""
    try:
        lines = _log().read_text().splitlines()
    except OSError:
        return 0
    count = 0
    for line in lines:
        with contextlib.suppress(json.JSONDecodeError):
            count += json.loads(line)["confirm"] == digest
    return count


def note_look(digest: str) -> None:
    """Remember that a confirm split is used. Where nothing can be written, nothing is."""
    line = json.dumps({"confirm": digest, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})
    with contextlib.suppress(OSError):
        _log().parent.mkdir(parents=True, exist_ok=True)
        with _log().open("a") as log:
            log.write(line + "\n")


def used_before(count: int) -> str:
    """What a person should know where a confirm split was used before."""
    return (
        f"these confirm data have been used {count} time{'s' * (count > 1)} before on this machine. A choice made "
        "after such a look is no longer proven by them; confirm a release on fresh data ("
        f"{option('confirm', 'DATA')})."
    )


def _log() -> Path:
    return state_file("looks.jsonl")
