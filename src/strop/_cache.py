"""Where code that was compiled at load lies, for the next process: a folder of the user's own, and nobody else's."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from .errors import RunFailed
from .target import cpu_name, instruction_sets


def own_folder(name: str) -> Path:
    """One folder for each kind of CPU, since files may be shared with machines of another.

    Args:
        name: Of what compiles.

    Raises:
        RunFailed: Others could write there.
    """
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    caches.mkdir(parents=True, exist_ok=True)
    kind = hashlib.sha256(f"{cpu_name()} {sorted(instruction_sets())}".encode()).hexdigest()[:16]
    folder = caches
    for part in ("strop", name, kind):
        folder /= part
        folder.mkdir(mode=0o700, exist_ok=True)
        info = folder.stat()
        if hasattr(os, "getuid") and (info.st_uid != os.getuid() or info.st_mode & 0o022):
            raise RunFailed(
                f"compiled code is run from {folder}, so it must belong to who runs it, and nobody else may write to "
                "it. Remove it, or set XDG_CACHE_HOME to a folder of your own."
            )
    return folder
