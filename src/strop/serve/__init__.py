"""Serve: the files with which a model server of others runs a bundle. strop has no server of its own."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from ..bundle import Bundle, check_free
from ..errors import BundleError, InvalidPlan
from . import mlserver, triton

SERVERS: Mapping[str, Callable[[Bundle, str, Path], None]] = {"mlserver": mlserver.write, "triton": triton.write}
NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")  # what KServe takes, and no path or quote can hide in


def write(bundle: Bundle, server: str, folder: Path, name: str | None = None) -> Path:
    """Write a folder from which a model server runs a bundle: all of it, or nothing.

    Args:
        bundle: What is to be served; the folder holds a copy of what that needs.
        server: `mlserver` or `triton`.
        folder: A new one.
        name: Of the model, as requests name it; by default that of the bundle's folder.

    Raises:
        InvalidPlan: There is no such server, or it can't have that name.
        NotApplicable: The server runs no model of that kind, with the next step.
        BundleError: The folder exists or can't be written, or the manifest names what can't be installed.
    """
    if server not in SERVERS:
        raise InvalidPlan(f"a server is one of {', '.join(SERVERS)}, not {server!r}.")
    check_free(folder)
    name = _named(bundle) if name is None else name
    if not NAME.fullmatch(name):
        raise InvalidPlan(
            "a served model is named by a lower-case letter and at most 62 more, digits, or hyphens between them, "
            f"not {name!r}. Name it with --name."
        )
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=folder.parent))
    try:
        SERVERS[server](bundle, name, part)
        if folder.exists():
            folder.rmdir()
        part.chmod(0o755)
        part.replace(folder)
    except OSError as error:
        raise BundleError(f"{folder} can't be written ({error.strerror}). Make room or name another.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _named(bundle: Bundle) -> str:
    """The folder's name, in the letters that there are."""
    plain = re.sub(r"[^a-z0-9]+", "-", bundle.folder.resolve().name.lower()).strip("-")
    return (plain if plain[:1].isalpha() else f"model-{plain}")[:63].strip("-")


__all__ = ["SERVERS", "write"]
