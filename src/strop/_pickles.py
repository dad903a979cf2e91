"""What strop pickles into its own run directory, and reads from nowhere else: code and objects of the user's own."""

from __future__ import annotations

import contextlib
import os
import site
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ._lazy import lazy
from .errors import UntrustedModel

if TYPE_CHECKING:
    import cloudpickle
else:
    cloudpickle = lazy("cloudpickle", "torch")


def write(path: Path, dump: Callable[[IO[bytes]], object]) -> Path:
    """Write a file that only its owner may read or change; classes of the user's own files go with their code.

    Args:
        dump: Pickles into the open file, by cloudpickle.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.parent / f".part-{path.name}"
    with _by_value(), open(part, "wb", opener=_private) as file:
        dump(file)
        file.flush()
        os.fsync(file.fileno())
    return part.replace(path)


def write_object(path: Path, thing: object) -> Path:
    """Write any object."""
    return write(path, lambda file: cloudpickle.dump(thing, file))


def read_object(path: Path) -> Any:
    """Read what `write_object` wrote.

    Raises:
        UntrustedModel: The file belongs to somebody else, or others may write to it.
    """
    check_own(path)
    with path.open("rb") as file:
        return cloudpickle.load(file)


def check_own(path: Path) -> None:
    """Refuse a file that holds code and that somebody else may have written.

    Raises:
        UntrustedModel: It belongs to somebody else, or others may write to it.
    """
    info = path.stat()
    if hasattr(os, "getuid") and (info.st_uid != os.getuid() or info.st_mode & 0o022):
        raise UntrustedModel(
            f"{path} holds code, so only its owner may write to it, and only the owner may run it. "
            "Start a search of your own."
        )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextlib.contextmanager
def _by_value() -> Iterator[None]:
    """Pickle what the user's own files define with its code, so that a job finds it wherever it runs."""
    installed = (sys.prefix, sys.base_prefix, *site.getsitepackages(), *map(str, sysconfig.get_paths().values()))
    own = []
    for name, module in list(sys.modules.items()):
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
