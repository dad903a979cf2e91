"""Hyperparameter search: `search(...)`, and `SearchCV` in the place of scikit-learn's searches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .result import Tuned
from .store import FOUND, is_tuning, resumable, so_far
from .tuning import search

if TYPE_CHECKING:
    from .searchcv import SearchCV

__all__ = ["FOUND", "SearchCV", "Tuned", "is_tuning", "resumable", "search", "so_far"]


def __getattr__(name: str) -> Any:
    if name == "SearchCV":  # a class of scikit-learn's: it is loaded with the first use
        from .searchcv import SearchCV

        return SearchCV
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
