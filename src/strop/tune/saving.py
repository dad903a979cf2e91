"""Saving: the chosen estimator as a `.skops` file, which can be looked at before anything in it is run."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._lazy import lazy
from .._plain import told
from ..errors import InvalidPlan
from ..rundir import atomic

if TYPE_CHECKING:
    from skops import io
else:
    io = lazy("skops.io")

SUFFIX = ".skops"


def check_out(path: Path, estimator: Any) -> None:
    """Refuse a place or an estimator that can't be written, before anything is spent.

    Raises:
        InvalidPlan: The name does not end in .skops, something is there already, or skops can't write the estimator.
    """
    if path.suffix.lower() != SUFFIX:
        raise InvalidPlan(f"An estimator is written as a {SUFFIX} file, and {path} is none. Name it as best{SUFFIX}.")
    if path.exists() or not path.parent.is_dir():
        what = "exists already" if path.exists() else "lies in a folder that does not exist"
        raise InvalidPlan(f"An estimator goes into a new file, and {path} {what}. Name another.")
    _content(estimator)


def write(path: Path, estimator: Any) -> tuple[str, ...]:
    """Write it, whole or not at all.

    Returns:
        The types in it that skops does not trust by itself: whoever reads the file has to name them.
    """
    content = _content(estimator)
    with atomic(path) as temporary:
        temporary.write_bytes(content)
    return tuple(io.get_untrusted_types(data=content))


def _content(estimator: Any) -> bytes:
    try:
        return bytes(io.dumps(estimator, compression=zipfile.ZIP_DEFLATED))
    except Exception as error:  # of whatever the estimator holds
        raise InvalidPlan(
            f"skops can't write this {type(estimator).__name__}: {told(error)}. Don't save it, but fit it with the "
            "parameters that are found."
        ) from error
