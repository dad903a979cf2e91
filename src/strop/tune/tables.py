"""Tables: the samples of a file as an estimator takes them: a frame with names and categories, or a matrix."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .._arrays import listed, unknown
from .._calls import call, is_call
from .._lazy import installed
from .._tables import Table, from_frame, is_empty, is_frame, is_numeric, is_text, open_table, plain
from ..errors import InvalidData, MissingDependency
from ..reading import LABELS, read
from ..spelling import option

_PICKS = {"ColumnTransformer", "FunctionTransformer"}  # scikit-learn's own that may look at names


@dataclass(frozen=True)
class Samples:
    """What a search is given.

    Attributes:
        X: A frame of pandas, a matrix [n, columns], a text a sample [n], or whatever a function returned.
        y: [n], or None.
        groups: [n], or None.
    """

    X: Any
    y: Any
    groups: Any


def read_samples(source: str, estimator: Any, label: str | None = None, group: str | None = None) -> Samples:
    """Read samples for an estimator.

    A table (parquet, CSV, a frame) becomes one matrix where all its columns are numbers and no step of the estimator
    looks at names; the texts themselves where it is one column of text, and the first step reads text; else a frame of
    pandas, with dtypes and categories kept. What is missing is NaN, or None among texts.

    Args:
        source: A path as of `strop.optimize`, or `module:function` that returns a frame, a pair (X, y), or a mapping.
        label: The label column or array; else `labels`, `label`, `y` or `target`, where there is one.
        group: The one that says which samples belong together.

    Raises:
        InvalidData: It is missing or broken, lacks what is asked for, or has no labels where the estimator needs them.
        MissingDependency: It takes a frame, and pandas is not installed.
    """
    given: Any = call(source, "a frame, a pair (X, y), or a mapping", InvalidData) if is_call(source) else Path(source)
    if is_frame(given):
        found = _of_table(from_frame(given), source, estimator, label, group)
    elif isinstance(given, Path) and given.suffix.lower() in (".parquet", ".csv"):
        found = _of_table(_open(given), source, estimator, label, group)
    elif isinstance(given, tuple) and len(given) == 2 and group is None:
        found = Samples(*given, None)
    else:
        found = _of_arrays(given, source, label, group)
    if found.y is None and _needs_labels(estimator):
        raise InvalidData(
            f"{type(estimator).__name__} learns from labels, and {source} has none that are called {listed(LABELS)}. "
            f"Say which: {option('label', 'NAME')}."
        )
    return found


def read_arrays(source: str, label: str | None = None, group: str | None = None) -> Samples:
    """Read samples for a module: an array, or arrays by the names of its inputs; of a table, its columns of numbers.

    Args:
        source: A path as of `strop.optimize`, or `module:function`.
        label: The label column or array; else `labels`, `label`, `y` or `target`, where there is one.
        group: The one that says which samples belong together.

    Raises:
        InvalidData: It is missing or broken, or lacks what is asked for.
    """
    table = not is_call(source) and Path(source).suffix.lower() in (".parquet", ".csv")
    data = read(source if is_call(source) else Path(source), ["x"] if table else [], label=label, group=group)
    inputs = {name: np.asarray(array) for name, array in data.inputs.items()}
    X = next(iter(inputs.values())) if len(inputs) == 1 else inputs
    return Samples(X, _array(data.labels), _array(data.groups))


def _open(path: Path) -> Table:
    if not path.is_file():
        raise InvalidData(f"There is no data at {path}. Give a file, a folder of .npy files, or `module:function`.")
    if not os.access(path, os.R_OK):
        raise InvalidData(f"{path} can't be read: no permission. Change that, or copy it.")
    try:
        return open_table(path)
    except Exception as error:  # of pyarrow, which a damaged file may lead anywhere
        raise InvalidData(f"{path} can't be read as a table: {error}. It may be cut short: write it again.") from error


def _of_table(table: Table, source: str, estimator: Any, label: str | None, group: str | None) -> Samples:
    types = dict(zip(table.names, table.types, strict=True))
    if len(types) < len(table.names):
        raise InvalidData(f"Columns must have distinct names, and those of {source} are {listed(table.names)}.")
    for name in (label, group):
        if name is not None and name not in types:
            raise unknown(name, types)
    label = label or next((name for name in LABELS if name in types and name != group), None)
    features = [name for name in types if name not in (label, group)]
    if not features or not table.rows:
        raise InvalidData(f"{source} has no {'rows' if features else 'columns besides its labels'}: nothing to fit on.")
    content = _content(table, source)
    y = None if label is None else _whole(content, label, source)
    groups = None if group is None else _whole(content, group, source)
    if _takes_text(estimator) and len(features) == 1 and is_text(plain(types[features[0]])):
        return Samples(_whole(content, features[0], source), y, groups)
    if all(is_numeric(types[name]) or is_empty(types[name]) for name in features) and not _looks_at_names(estimator):
        columns = [_numbers(content.column(name)) for name in features]
        return Samples(np.stack(columns, axis=1), y, groups)
    if not installed("pandas"):
        words = [name for name in features if not is_numeric(types[name])]
        why = f"{source} has columns of {types[words[0]]}" if words else f"{type(estimator).__name__} looks at names"
        raise MissingDependency(f"A frame is needed here ({why}), and pandas is not installed: pip install pandas")
    return Samples(content.select(features).to_pandas(), y, groups)


def _content(table: Table, source: str) -> Any:
    """All of it; what stands for a missing value among the texts of a CSV file is missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        content = pa.Table.from_batches(list(table.batches(table.names))).unify_dictionaries()
        blank = pa.array(sorted(table.blank), pa.string())
        for place, field in enumerate(content.schema):
            if table.blank and is_text(field.type):
                column = content.column(place)
                told = pc.if_else(pc.is_in(column, value_set=blank), pa.scalar(None, field.type), column)
                content = content.set_column(place, field, told)
        return content
    except (pa.ArrowException, OSError) as error:
        raise InvalidData(
            f"{source} can't be read as a table: {error}. It may be cut short: write it again."
        ) from error


def _whole(content: Any, name: str, source: str) -> Any:
    """A column without gaps, as NumPy has it."""
    import pyarrow as pa

    column = content.column(name)
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise InvalidData(f"Labels and groups must be complete, and {name!r} of {source} has none in row {row}.")
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return np.array(column.to_pylist(), dtype=str) if is_text(column.type) else np.asarray(column.to_numpy())


def _numbers(column: Any) -> Any:
    import pyarrow as pa

    return np.asarray(column.cast(pa.float64()).to_numpy(), np.float64)


def _of_arrays(given: Any, source: str, label: str | None, group: str | None) -> Samples:
    data = read(given, ["x"], label=label, group=group)
    if "x" not in data.inputs:
        held = listed(data.inputs) or "no array"
        raise InvalidData(f"Samples for an estimator are one array, as `x`, and {source} has {held}. Stack them.")
    x, y = np.asarray(data.inputs["x"]), _array(data.labels)
    if y is not None and y.dtype.kind == "f" and np.isnan(y).any():
        row = int(np.argmax(np.isnan(y).reshape(len(y), -1).any(axis=1)))
        raise InvalidData(f"Labels must be complete, and {source} has none in row {row}.")
    return Samples(x, y, _array(data.groups))


def _array(given: Any) -> Any:
    return None if given is None else np.asarray(given)


def _needs_labels(estimator: Any) -> bool:
    """Whether it learns from labels: of a pipeline, whose own tags don't say it, its last step."""
    if hasattr(estimator, "steps"):
        return _needs_labels(estimator.steps[-1][1])
    tags = _tags(estimator)
    return tags is not None and bool(tags.target_tags.required)


def _takes_text(estimator: Any) -> bool:
    """Whether its first step reads a text a sample, as scikit-learn's vectorizers do."""
    tags = _tags(estimator.steps[0][1] if hasattr(estimator, "steps") else estimator)
    return tags is not None and bool(tags.input_tags.string and not tags.input_tags.two_d_array)


def _tags(estimator: Any) -> Any:
    """What scikit-learn knows of it; None for what is none of its kind, as the step `passthrough`."""
    from sklearn.utils import get_tags

    return get_tags(estimator) if hasattr(estimator, "__sklearn_tags__") else None


def _looks_at_names(estimator: Any) -> bool:
    return any(
        type(part).__name__ in _PICKS or not type(part).__module__.startswith("sklearn.") for part in _parts(estimator)
    )


def _parts(estimator: Any) -> Iterator[Any]:
    """An estimator, and those within it."""
    yield estimator
    parameters: Mapping[str, Any] = estimator.get_params(deep=True)
    yield from (value for value in parameters.values() if hasattr(value, "fit") and not isinstance(value, type))
