"""Samples: those of the search with their folds, and those that no fold sees."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InvalidData
from . import holdout as holding

Array = np.ndarray[Any, Any]


class Samples:
    """Samples of the search and those held out.

    Attributes:
        X: Of the search; likewise `y`, `groups` and `arguments` of fit.
        held: X, y and groups of the hold-out, or None.
        splits: Rows of the search to train with and to judge by.
    """

    def __init__(self, X: Any, y: Any, groups: Any, arguments: dict[str, Any], held: Any, splits: Any, ordered: bool):
        self.X, self.y, self.groups, self.arguments = X, y, groups, arguments
        self.held, self.splits, self.ordered = held, splits, ordered

    @classmethod
    def of(
        cls, estimator: Any, X: Any, y: Any, groups: Any, arguments: Mapping[str, Any] | None, cv: Any, share: float,
        seed: int,
    ) -> Samples:  # fmt: skip
        from sklearn.base import is_classifier
        from sklearn.model_selection import TimeSeriesSplit, check_cv
        from sklearn.utils import get_tags, indexable
        from sklearn.utils.validation import _num_samples

        try:
            X, y, groups = indexable(X, y, groups)
            pairwise = get_tags(estimator).input_tags.pairwise
            kept, held = holding.split(X, y, groups, cv, 0.0 if pairwise else share, seed)
            n = _num_samples(X)

            def cut(thing: Any, rows: Array) -> Any:
                from sklearn.utils import _safe_indexing

                return thing if thing is None or len(held) == 0 else _safe_indexing(thing, rows)

            inner = {
                name: cut(value, kept) if hasattr(value, "__len__") and _length(value) == n else value
                for name, value in (arguments or {}).items()
            }
            parts = cut(X, kept), cut(y, kept), cut(groups, kept)
            folds = check_cv(cv, parts[1], classifier=is_classifier(estimator))
            splits = [(np.asarray(train), np.asarray(test)) for train, test in folds.split(*parts)]
        except (ValueError, TypeError, IndexError) as error:
            raise InvalidData(
                f"Samples, labels and folds must fit each other, and scikit-learn says: {error}"
            ) from None
        if not splits:
            raise InvalidData("A search needs a fold to judge by, and cv has none. Give cv=5.")
        outside = tuple(cut(part, held) for part in (X, y, groups)) if len(held) else None
        return cls(*parts, inner, outside, splits, isinstance(folds, TimeSeriesSplit))

    @property
    def ratio(self) -> float:
        """Test samples over training samples of a fold."""
        return float(np.mean([len(test) / max(1, len(train)) for train, test in self.splits]))

    def write(self, folder: Path) -> Path:
        import joblib

        path = folder / "data.joblib"
        joblib.dump((self.X, self.y, self.arguments), path)
        return path


def _length(value: Any) -> int:
    from sklearn.utils.validation import _num_samples

    try:
        return int(_num_samples(value))
    except TypeError:
        return -1


def part(train: Array, share: float, data: Samples, seed: int) -> Array:
    """Fewer rows to train with: of a series the last, else at random, classes in proportion where that can be."""
    from sklearn.model_selection import train_test_split

    count = max(2, round(share * len(train)))
    if data.ordered:
        return train[-count:]
    labels = None if data.y is None or np.ndim(data.y) != 1 else np.asarray(data.y)[train]
    for stratify in (labels, None):
        with contextlib.suppress(ValueError):  # of numbers, or of classes that are too rare
            return np.sort(train_test_split(train, train_size=count, random_state=seed, stratify=stratify)[0])
    return train
