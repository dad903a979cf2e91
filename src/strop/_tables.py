"""Tables: parquet and CSV files, read in batches of rows, so that memory never holds a whole one."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from .errors import InvalidData

Array: TypeAlias = np.ndarray[Any, Any]

PIECE = 1 << 22
"""Bytes of text that are parsed at a time."""
_FRAMES = {("pandas", "DataFrame"), ("polars", "DataFrame"), ("pyarrow", "Table")}
_UNNAMED = re.compile(r"__index_level_\d+__")
"""What pandas calls the numbers of rows in a parquet file, which are no data."""
_ROWS = 1 << 16
"""Rows of a batch of a parquet file, at the most."""


@dataclass(frozen=True)
class Table:
    """A file of columns.

    Attributes:
        names: Of the columns, in the order of the file.
        types: Of the columns, as pyarrow has them.
        rows: How many there are.
        batches: Reads some columns, in record batches.
        blank: Texts that stand for a value that is missing.
    """

    names: tuple[str, ...]
    types: tuple[Any, ...]
    rows: int
    batches: Callable[[Sequence[str]], Iterator[Any]]
    blank: frozenset[str] = frozenset()


def open_table(path: Path, words: Collection[str] = ()) -> Table:
    """Open a parquet file, or a CSV file with names in its first line.

    Args:
        path: Of the file.
        words: Columns that are text, also where a CSV file's look like numbers: `007` is no 7.

    Raises:
        ValueError: It can't be parsed; pyarrow says why.
    """
    return _csv(path, words) if path.suffix.lower() == ".csv" else _parquet(path)


def spelled(columns: Sequence[str], names: Collection[str]) -> tuple[str, ...]:
    """Columns that a model names, as a table spells them: LightGBM makes blanks underscores."""
    blanks = {name.replace(" ", "_"): name for name in names}
    return tuple(name if name in names else blanks.get(name, name) for name in columns)


def plain(kind: Any) -> Any:
    """The type of a column's values: of a dictionary (a frame's column of categories), that of what it holds."""
    import pyarrow as pa

    return kind.value_type if pa.types.is_dictionary(kind) else kind


def is_numeric(kind: Any) -> bool:
    """Whether values of a type are numbers or booleans."""
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def is_text(kind: Any) -> bool:
    """Whether values of a type are text."""
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_empty(kind: Any) -> bool:
    """Whether a column holds nothing at all, so that no type is known."""
    import pyarrow as pa

    return bool(pa.types.is_null(kind))


def is_block(kind: Any) -> bool:
    """Whether values of a type are lists of numbers."""
    import pyarrow as pa

    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(listed and is_numeric(kind.value_type))


def width(kind: Any, batch: Any, name: str) -> int:
    """How many numbers a value of a column of lists holds: as many as the first."""
    import pyarrow as pa

    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size)
    return len(batch.column(name)[0]) if batch.column(name)[0].is_valid else 0


def numbers(column: Any, name: str, path: Path, start: int, wide: int | None, missing: bool = False) -> Array:
    """The values of a column of a batch: [rows], or of lists [rows, wide].

    Args:
        column: Of the batch.
        name: Its name; `path` is the file's, for messages.
        start: The row of the file that the batch begins at.
        wide: Length of each list; None for a column of single numbers.
        missing: Whether a number may be missing; it is NaN then.

    Raises:
        InvalidData: A value is missing, or a list has another length.
    """
    import pyarrow as pa

    if not (missing and wide is None):
        _complete(column, name, path, start)
    if wide is None:
        values = np.asarray(column.to_numpy(False))
        return values.astype(np.float64) if values.dtype == object else values  # booleans, of which some are missing
    if not pa.types.is_fixed_size_list(column.type):
        lengths = column.value_lengths().to_numpy(False)
        if (lengths != wide).any():
            row = int((lengths != wide).argmax())
            raise InvalidData(
                f"The lists of a column must have one length, and those of {name!r} of {path} have {wide} numbers in "
                f"the first row and {lengths[row]} in row {start + row}. Pad or cut them to one length."
            )
    values = column.flatten()
    if values.null_count:
        row = start + int(values.is_null().to_numpy(False).argmax()) // max(1, wide)
        raise InvalidData(
            f"Lists must be complete, and {name!r} of {path} lacks a number in row {row}. Fill or drop it."
        )
    return np.asarray(values.to_numpy(False)).reshape(len(column), wide)


def named(column: Any, name: str, path: Path, start: int, blank: Collection[str] = ()) -> Array:
    """The values of a column of text, or of a dictionary: [rows].

    Args:
        column: Of the batch.
        name: Its name; `path` is the file's, for messages.
        start: The row of the file that the batch begins at.
        blank: Texts that may stand for none, where a model looks at the column.

    Raises:
        InvalidData: A value is missing, or is neither text nor a number.
    """
    import pyarrow as pa

    _complete(column, name, path, start)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
        if is_numeric(column.type):
            return np.asarray(column.to_numpy(False))
    if not is_text(column.type):
        raise InvalidData(
            f"Columns must hold numbers, booleans, text, or lists of numbers, and {name!r} holds {column.type}. "
            "Convert it."
        )
    values = np.array(column.to_pylist(), dtype=str)
    if blank and (found := np.isin(values, sorted(blank))).any():
        row = int(found.argmax())
        raise InvalidData(
            f"Columns must be complete, and {name!r} of {path} has {str(values[row])!r} in row {start + row}, which in "
            "a CSV may be a text or none. Fill or drop it; where it is a text, give a frame or a parquet file."
        )
    return values


def _complete(column: Any, name: str, path: Path, start: int) -> None:
    if column.null_count:
        row = start + int(column.is_null().to_numpy(False).argmax())
        raise InvalidData(f"Columns must be complete, and {name!r} of {path} has none in row {row}. Fill or drop it.")


def from_frame(frame: Any) -> Table:
    """A frame of pandas or polars, or a table of pyarrow.

    Raises:
        InvalidData: It has a name twice, or a column of what pyarrow has no type for.
    """
    import pyarrow as pa

    try:
        if hasattr(frame, "to_arrow"):
            frame = frame.to_arrow()
        table = frame if isinstance(frame, pa.Table) else pa.Table.from_pandas(frame, preserve_index=False)
    except (ValueError, TypeError, pa.ArrowException) as error:  # pyarrow's are mostly both
        said = "; ".join(str(part) for part in error.args) or type(error).__name__
        raise InvalidData(
            f"A frame must have distinct names, and columns that pyarrow has a type for; of this one, it says: {said}. "
            "Rename or convert the column."
        ) from error
    return Table(
        tuple(table.schema.names), tuple(table.schema.types), table.num_rows,
        lambda columns: iter(table.select(list(columns)).combine_chunks().to_batches()),
    )  # fmt: skip


def is_frame(source: object) -> bool:
    """Whether something is a table in memory: its class says so, no library is imported."""
    return (type(source).__module__.partition(".")[0], type(source).__name__) in _FRAMES


def _parquet(path: Path) -> Table:
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(path)
    fields = [field for field in file.schema_arrow if not _UNNAMED.fullmatch(field.name)]
    return Table(
        tuple(field.name for field in fields), tuple(field.type for field in fields), file.metadata.num_rows,
        lambda columns: file.iter_batches(_ROWS, columns=list(columns)),
    )  # fmt: skip


def _csv(path: Path, words: Collection[str]) -> Table:
    """Read twice: for the types, which a later row may widen, and the number of rows; then for the values."""
    import pyarrow as pa
    from pyarrow import csv

    def parsed(piece: bytes, **options: Any) -> Any:
        whole = csv.ReadOptions(block_size=len(piece) + 1)
        return csv.read_csv(_buffer(piece), whole, convert_options=csv.ConvertOptions(**options))

    rows, names, types = 0, (), ()
    given = dict.fromkeys(words, pa.string())
    for piece in _pieces(path):
        part = parsed(piece, column_types=given)
        types = tuple(map(_wider, types, part.schema.types)) if names else tuple(part.schema.types)
        names, rows = tuple(part.schema.names), rows + part.num_rows

    def batches(columns: Sequence[str]) -> Iterator[Any]:
        known: dict[str, Any] = dict(zip(names, types, strict=True))
        for piece in _pieces(path):
            part = parsed(piece, include_columns=list(columns), column_types={name: known[name] for name in columns})
            yield from part.combine_chunks().to_batches()

    return Table(names, types, rows, batches, frozenset(csv.ConvertOptions().null_values))


def _buffer(piece: bytes) -> Any:
    import pyarrow as pa

    return pa.BufferReader(piece)


def _pieces(path: Path) -> Iterator[bytes]:
    """Parts of a CSV file, each of whole rows below the line of names; one at least."""
    with path.open("rb") as stream:

        def closed(part: bytes) -> bytes:
            while part.count(b'"') % 2 and (line := stream.readline()):  # a quoted value may hold line ends
                part += line
            return part

        names = closed(stream.readline())
        yield names + closed(stream.read(PIECE) + stream.readline())
        while part := stream.read(PIECE):
            yield names + closed(part + stream.readline())


def _wider(first: Any, second: Any) -> Any:
    """The type that holds the values of both: as pyarrow infers it where it sees all of a column at once."""
    import pyarrow as pa

    if first == second or pa.types.is_null(second):
        return first
    if pa.types.is_null(first):
        return second
    both = {str(first), str(second)}
    return pa.float64() if both == {"int64", "double"} else pa.string()
