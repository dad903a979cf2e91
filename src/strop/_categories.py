"""Categories: values of a table's columns, as the numbers that a model knows them by."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ._tables import is_empty, is_numeric, is_text, plain
from .errors import InvalidData
from .model import Value

Array: TypeAlias = np.ndarray[Any, Any]

_SHOWN = 5
_UNKNOWN = -1


def are_text(values: Sequence[Value]) -> bool:
    """Whether categories are all text."""
    return bool(values) and all(isinstance(value, str) for value in values)


def check_kinds(categories: Mapping[str, Sequence[Value]], types: Mapping[str, Any], path: Path) -> None:
    """Refuse a column that holds text where the model knows numbers, or numbers where it knows text.

    Args:
        categories: By column, those that the model knows.
        types: Of all columns, as pyarrow has them.
        path: Where the table lies, for messages.

    Raises:
        InvalidData: There is one.
    """
    for name, values in categories.items():
        kind = plain(types[name])
        fits = not values or any(is_text(kind) if isinstance(value, str) else is_numeric(kind) for value in values)
        if not fits and not is_empty(kind):
            raise InvalidData(
                f"The model knows the categories of {name!r} as {_shown(values)}, and in {path} that column holds "
                f"{types[name]}. Give the values that it was trained on, not their numbers; numbers go in as an array "
                "[samples, columns] in the model's order."
            )


def codes(
    column: Any, known: Mapping[Value, int], closed: bool, blank: Collection[str], name: str, path: Path, start: int
) -> Array:
    """The code of each value of a column of a batch; NaN for what is missing: [rows] float64.

    Args:
        column: Of the batch: a dictionary, text, or numbers.
        known: The codes.
        closed: Whether a value without one is refused; else it counts as missing.
        blank: Texts that stand for nothing, unless they have a code.
        name: Of the column; `path` is that of the file, for messages.
        start: The row of the file that the batch begins at.

    Raises:
        InvalidData: A value has no code, and none may lack one.
    """
    import pyarrow as pa

    if is_empty(column.type):
        return np.full(len(column), np.nan)
    listed = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    values = listed.dictionary.to_pylist()
    found = [known.get(value, np.nan if _is_missing(value, blank) else _UNKNOWN) for value in values]
    coded: Array = np.array([*found, np.nan])[listed.indices.cast(pa.int64()).fill_null(len(values)).to_numpy(False)]
    strange = coded == _UNKNOWN
    if closed and strange.any():
        row = int(strange.argmax())
        raise InvalidData(
            f"The model knows the categories of {name!r} as {_shown([*known])}, and its library refuses others, as "
            f"{column[row].as_py()!r} in row {start + row} of {path}. Leave out such rows, or make the value missing."
        )
    return np.where(strange, np.nan, coded)


def _is_missing(value: Any, blank: Collection[str]) -> bool:
    return value is None or value != value or value in blank


def _shown(values: Sequence[Value]) -> str:
    more = f", ... ({len(values)} in all)" if len(values) > _SHOWN else ""
    return f"{', '.join(map(repr, values[:_SHOWN]))}{more}"
