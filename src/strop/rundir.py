"""Run directory: all that a search knows, on disk, so that a killed search can go on."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from .errors import RunFailed
from .spelling import option

T = TypeVar("T")

PLAN, JOURNAL, SPENT, LOCK, ASKED = "run.json", "journal.log", "spent.json", ".lock", "asked.json"
DIARY, MANIFEST, SAVED = "events.jsonl", "manifest.json", "saved.json"
JOURNAL_LOCK = JOURNAL + ".lock"
ARTIFACTS, DATA, OUTPUTS, TRAINING = "artifacts", "data", "outputs", "training"
OWN = (LOCK, ASKED, DIARY, "original", ARTIFACTS, DATA, OUTPUTS, TRAINING)


def finite(value: Any) -> Any:
    """Plain data in which null stands for what is not finite: JSON knows no NaN."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: object) -> None:
    """Write atomically: all of it or nothing, also across a power cut.

    Raises:
        OSError: As the system tells it.
    """
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n")


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A path to write a file or make a folder at; it takes the place of `path` once it is whole."""
    handle = tempfile.mkdtemp(prefix=".part-", dir=path.parent)
    temporary = Path(handle) / path.name
    try:
        yield temporary
        for written in [temporary, *temporary.rglob("*")] if temporary.is_dir() else [temporary]:
            _sync(written)
        temporary.replace(path)
        _sync(path.parent)
    finally:
        shutil.rmtree(handle, ignore_errors=True)


def _foreign(path: Path) -> bool:
    return path.name not in OWN and not path.name.startswith((".part-", JOURNAL))


def _check_private(root: Path) -> None:
    """Refuse a folder that others may have written: what lies in a run names code to execute.

    Raises:
        RunFailed: It is another user's, or others may enter it.
    """
    status = root.stat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise RunFailed(
            f"a run directory must be yours, with mode 700, for a run may name code to execute; {root} is of user "
            f"{status.st_uid}, with mode {status.st_mode & 0o777:o}. If you made it yourself, chmod 700 it; if not, "
            "start a search of your own."
        )


def _check_plain(root: Path) -> None:
    """Refuse a folder with links or pipes: what is written to those, or removed behind them, lies elsewhere.

    Raises:
        RunFailed: It holds some, which strop never puts there.
    """
    for folder, subfolders, files in os.walk(root):
        for path in (Path(folder) / name for name in (*subfolders, *files)):
            kind = path.lstat().st_mode
            optunas = path.parent == root and path.name.startswith(JOURNAL_LOCK)  # a link, which a kill leaves behind
            if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind) or optunas):
                raise RunFailed(
                    f"a run directory must hold regular files and folders only, and {path} is neither. Remove it if "
                    "you put it there; if not, start a search of your own."
                )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path, of: Callable[[Any], T]) -> T:
    """Read what `write_json` wrote.

    Args:
        of: Makes the value out of the plain data.

    Raises:
        RunFailed: It was altered, or can't be read.
    """
    with as_written(path):
        return of(json.loads(path.read_text()))


@contextlib.contextmanager
def as_written(path: Path) -> Iterator[None]:
    """Whatever goes wrong in here does so because `path` is not what strop wrote.

    Raises:
        RunFailed: Something did.
    """
    try:
        yield
    except RunFailed:
        raise
    except Exception as error:  # of libraries too, which an altered file may lead anywhere
        said = f"{type(error).__name__}: {error}"
        raise RunFailed(f"{path} is not what strop wrote ({said}). Start a new run.") from error


def _make(root: Path) -> bool:
    """Make a folder that is its owner's alone; one that is there already is made so where it is empty."""
    root.parent.mkdir(parents=True, exist_ok=True)
    try:
        root.mkdir(mode=0o700)
    except FileExistsError:
        if not any(root.iterdir()):
            root.chmod(0o700)
        return False
    return True


class RunDir:
    """One run directory, held by one process at a time.

    Attributes:
        created: Whether it was not there before.

    Raises:
        RunFailed: Another process works in it, or it can't be used.
    """

    def __init__(self, root: Path):
        self.root = Path(os.path.realpath(root))  # now: what `new/..` means changes as soon as `new` is made
        if self.root.is_dir() and not (self.root / PLAN).exists() and any(map(_foreign, self.root.iterdir())):
            raise RunFailed(
                f"a run directory is new, empty, or holds a run, and {root} is none. Name another: "
                f"{option('run', 'DIR')}."
            )
        try:
            self.created = _make(self.root)
            _check_private(self.root)
            self._lock = os.fdopen(os.open(self.root / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+b", 0)
        except OSError as error:
            raise RunFailed(
                f"the run directory {root} can't be used ({error.strerror}). Name another: {option('run', 'DIR')}."
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise RunFailed(
                f"another search works in {root}. Wait for it, or name another: {option('run', 'DIR')}."
            ) from error
        try:
            _check_plain(self.root)
        except BaseException:
            self._lock.close()
            raise
        self._clean()

    @classmethod
    def existing(cls, root: Path) -> RunDir:
        """One that holds a run to go on with.

        Raises:
            RunFailed: It holds none, besides what is said above.
        """
        if not (root / PLAN).exists():  # before anything is made in a folder that was misspelled
            raise RunFailed(
                f"{root} holds no run to go on with (no {PLAN}). Name one that does, or begin one: "
                f"{option('run', 'DIR')}."
            )
        return cls(root)

    def __truediv__(self, name: str) -> Path:
        return self.root / name

    def folder(self, name: str) -> Path:
        """A folder of the run, made when first asked for."""
        path = self.root / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def close(self) -> None:
        """Remove what candidates that crashed left half done, and let another process in."""
        self._clear_parts()
        self._lock.close()

    def _clean(self) -> None:
        """Remove what a killed process left half done: parts, and the torn last line of journal and diary."""
        self._clear_parts()
        for lock in self.root.glob(JOURNAL_LOCK + "*"):
            lock.unlink()
        for log in filter(Path.exists, (self.root / JOURNAL, self.root / DIARY)):
            whole = log.read_bytes().rfind(b"\n") + 1
            if whole < log.stat().st_size:
                os.truncate(log, whole)

    def _clear_parts(self) -> None:
        """Only where strop itself makes parts: the folder, and what lies in its own subfolders."""
        own = (self.root / name for name in (ARTIFACTS, OUTPUTS, DATA, TRAINING))
        for part in [*self.root.glob(".part-*"), *(part for folder in own for part in folder.rglob(".part-*"))]:
            shutil.rmtree(part, ignore_errors=True)
