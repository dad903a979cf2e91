"""What strop pickles into its own run directory, and reads from nowhere else: code and objects of the user's own."""

from __future__ import annotations

import contextlib
import copyreg
import hashlib
import hmac
import importlib
import os
import secrets
import site
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any

from ._lazy import lazy
from ._plain import told
from ._state import state_file
from .errors import InvalidPlan, RunFailed, UntrustedModel

if TYPE_CHECKING:
    import cloudpickle
else:
    cloudpickle = lazy("cloudpickle")


def write(path: Path, dump: Callable[[IO[bytes]], object]) -> tuple[Path, Path]:
    """Write a file that only its owner may read or change; classes of the user's own files go with their code.

    Args:
        dump: Pickles into the open file, by cloudpickle.

    Returns:
        The file, and the seal without which it is not read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part, mark = path.parent / f".part-{path.name}", seal_of(path)
    with _by_value(), open(part, "wb", opener=_private) as file:
        dump(file)
        file.flush()
        os.fsync(file.fileno())
    with open(mark, "wb", opener=_private) as file:
        file.write(_seal(part))
    return part.replace(path), mark


def write_object(path: Path, thing: object) -> Path:
    """Write any object.

    Raises:
        InvalidPlan: It can't be pickled.
    """
    try:
        return write(path, lambda file: cloudpickle.dump(thing, file))[0]
    except Exception as error:  # of whatever the object holds
        raise InvalidPlan(
            f"{path.stem} must be something that other processes can be given, and {told(thing, repr)} can't be "
            f"pickled: {told(error)}. Name it as module:function."
        ) from error


def read_object(path: Path) -> Any:
    """Read what `write_object` wrote.

    Raises:
        UntrustedModel: Somebody else may have written it.
    """
    check_own(path)
    with path.open("rb") as file:
        return cloudpickle.load(file)


def seal_of(path: Path) -> Path:
    """Where the seal of a file lies."""
    return path.with_name(f"{path.name}.seal")


def check_own(path: Path) -> None:
    """Refuse a file that holds code and that strop did not write for this very user.

    Raises:
        UntrustedModel: It belongs to somebody else, others may write to it, or its seal is missing or wrong.
    """
    info = path.stat()
    if hasattr(os, "getuid") and (info.st_uid != os.getuid() or info.st_mode & 0o022):
        raise UntrustedModel(
            f"{path} holds code, so only its owner may write to it, and only the owner may run it. "
            "Start a search of your own."
        )
    mark = seal_of(path)
    if not mark.is_file() or not hmac.compare_digest(mark.read_bytes(), _seal(path)):
        raise UntrustedModel(
            f"{path} holds code, so it is only run where strop wrote it for you, and its seal is "
            f"{'wrong' if mark.is_file() else 'missing'}: it comes from elsewhere, or was altered. Start a search of "
            "your own."
        )


def _seal(path: Path) -> bytes:
    """What only this user can make of a file: ownership says little, for unpacking an archive gives it."""
    with path.open("rb") as file:
        return hmac.digest(_key(), hashlib.file_digest(file, "sha256").digest(), "sha256")


def _key() -> bytes:
    """A secret of the user's own, made at its first use.

    Raises:
        RunFailed: There is no place to keep it.
    """
    kept = state_file("key")
    try:
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=kept.parent, prefix=".key-") as fresh:
                fresh.write(secrets.token_bytes(32))
                fresh.flush()
                with contextlib.suppress(FileExistsError):
                    os.link(fresh.name, kept)  # the first process wins; all read the same
        return kept.read_bytes()
    except OSError as error:
        raise RunFailed(
            f"code of your own is sealed by a key in {kept}, and there is none: {error}. Set XDG_STATE_HOME to a "
            "folder that you may write to."
        ) from error


def _by_name(module: ModuleType) -> tuple[Callable[[str], ModuleType], tuple[str]]:
    return importlib.import_module, (module.__name__,)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextlib.contextmanager
def _by_value() -> Iterator[None]:
    """Pickle what the user's own files define with its code, so that a job finds it wherever it runs."""
    installed = (sys.prefix, sys.base_prefix, *site.getsitepackages(), *map(str, sysconfig.get_paths().values()))
    own = []
    for name, module in list(sys.modules.items()):
        if isinstance(module, ModuleType) and type(module) is not ModuleType:  # such as torch.backends.cudnn
            copyreg.pickle(type(module), _by_name)
        file = getattr(module, "__file__", None)
        if "." in name or name in ("__main__", "strop") or not file or file.startswith(installed):
            continue
        own.append(module)
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in own:
            cloudpickle.unregister_pickle_by_value(module)
