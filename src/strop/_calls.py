"""What a user names as `module:function`: found from the working directory, and called."""

from __future__ import annotations

import importlib
import os
import re
import sys
from pathlib import Path

from ._plain import told
from .errors import StropError

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
    module, _, name = source.partition(":")
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        return getattr(importlib.import_module(module), name)()
    except KeyboardInterrupt:
        raise
    except BaseException as failure:  # whatever a user's own function raises is told as it is
        raise error(
            f"{source} failed with {type(failure).__name__}: {told(failure)}. It must be a function without arguments, "
            f"importable from the working directory, that returns {returns}."
        ) from failure
    finally:
        sys.path.remove(folder)
