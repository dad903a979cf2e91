"""Where code that was compiled at load lies, for the next process: a folder of the user's own, and nobody else's."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .errors import RunFailed
from .target import cpu_name, instruction_sets

MOST = 1 << 30
"""Bytes that what one compiler made may take."""
PART = ".part-"
"""How names begin of what is not complete; what was left behind is removed."""
_LOCK = ".lock"


@contextlib.contextmanager
def own_folder(name: str) -> Iterator[Path]:
    """One folder for each kind of CPU, since files may be shared with machines of another.

    Nothing is removed from it while it is open here or in any other process. Whoever leaves it last removes what was
    longest not used, where it holds too much.

    Args:
        name: Of what compiles.

    Raises:
        RunFailed: Others could write there.
    """
    folder = _folder(name)
    with (folder / _LOCK).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        try:
            yield folder
        finally:
            with contextlib.suppress(BlockingIOError):  # somebody else is there, and will see to it
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _prune(folder)


def used(path: Path) -> bool:
    """Whether a file is there; it counts as used now."""
    with contextlib.suppress(FileNotFoundError):
        os.utime(path)
        return True
    return False


def _folder(name: str) -> Path:
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


def _prune(folder: Path) -> None:
    """Remove what is not complete, and what was longest not used until the rest is within bounds.

    What lies in one folder goes together: a compiler may look for all of it where it finds some.
    """
    entries = []
    for entry in folder.iterdir():
        if entry.name.startswith(PART):
            _remove(entry)
        elif entry.name != _LOCK:
            files = [file.lstat() for file in (entry, *entry.rglob("*")) if not file.is_dir()]
            last = max((max(info.st_atime, info.st_mtime) for info in files), default=0.0)
            entries.append((last, entry, sum(info.st_size for info in files)))
    total = sum(size for _, _, size in entries)
    for _, entry, size in sorted(entries):
        if total <= MOST:
            break
        _remove(entry)
        total -= size


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)
