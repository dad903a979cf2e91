"""State: what strop remembers of a user between runs, on one machine."""

from __future__ import annotations

import os
from pathlib import Path


def state_file(name: str) -> Path:
    """A file in the user's own folder for state (XDG Base Directory Specification 0.8); it need not exist."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "strop" / name
