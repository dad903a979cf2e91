"""Heavy modules, imported at first use; where one is missing, the error names the extra that brings it."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from .errors import MissingDependency

NEEDLESS = {"skops.io": ("torch", "sklearn.externals.array_api_compat.torch")}
"""By module: a framework, and what imports it by the way, for nothing: PyTorch costs every process two seconds."""


class _Lazy(ModuleType):
    def __init__(self, name: str, extra: str | None):
        super().__init__(name)
        self.__extra = extra

    def __getattr__(self, attribute: str) -> Any:
        return getattr(require(self.__name__, self.__extra), attribute)


def lazy(name: str, extra: str | None = None) -> Any:
    """Stand in for a module that is imported when an attribute of it is first used.

    Args:
        name: Dotted name of the module.
        extra: The extra of strop that installs it; None for a package that strop always has.
    """
    return _Lazy(name, extra)


def require(name: str, extra: str | None = None) -> ModuleType:
    """Import a module now.

    Raises:
        MissingDependency: It is not installed; the message says how to install it.
    """
    try:
        if name not in sys.modules and "ipykernel" in sys.modules:
            warnings.filterwarnings("ignore", "IProgress not found")  # of tqdm, whose bars are not shown
        with _without_needless(name):
            return importlib.import_module(name)
    except ImportError as error:
        if extra is None:
            raise
        raise MissingDependency(
            f"{name} is needed here and can't be imported ({error}). Install it with: pip install 'strop[{extra}]'"
        ) from error


def installed(name: str) -> bool:
    """Whether a top-level module can be found, without importing it."""
    return importlib.util.find_spec(name) is not None


@contextlib.contextmanager
def _without_needless(name: str) -> Iterator[None]:
    framework, by = NEEDLESS.get(name, ("", ""))
    if not framework or {framework, name, by} & sys.modules.keys():
        yield
        return
    sys.modules[by] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[by]
