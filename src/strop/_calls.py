"""What a user names as `module:function`: found from the working directory, and called."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ._plain import told
from .errors import StropError

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def is_call(source: object) -> bool:
    """Whether it is spelled `module:function`, and is no file of that name."""
    return isinstance(source, str) and bool(_NAME.fullmatch(source)) and not Path(source).exists()


def call(source: str, returns: str, error: type[StropError]) -> object:
    """Call a function of the user's own, without arguments.

    Args:
        source: `module:function`, importable from the working directory.
        returns: What it must return, for the message.
        error: What to raise where it can't be found, or fails.
    """
    return _of(source, f"a function without arguments that returns {returns}", error, lambda found: found())


def function(source: str, what: str, error: type[StropError]) -> Callable[..., Any]:
    """Find a function of the user's own.

    Args:
        source: `module:function`, importable from the working directory.
        what: What it must be, for the message.
        error: What to raise where it can't be found, or can't be called.
    """
    found: Callable[..., Any] = _of(source, what, error, lambda found: found)
    if not callable(found):
        raise error(f"{source} must be {what}, and is a {type(found).__name__}. Name a function.")
    return found


def _of(source: str, what: str, error: type[StropError], use: Callable[[Any], T]) -> T:
    module, _, name = source.partition(":")
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        return use(getattr(importlib.import_module(module), name))
    except KeyboardInterrupt:
        raise
    except BaseException as failure:  # whatever a user's own code raises is told as it is
        raise error(
            f"{source} failed with {type(failure).__name__}: {told(failure)}. It must be {what}, importable from the "
            "working directory."
        ) from failure
    finally:
        sys.path.remove(folder)
