"""Arrays: where they come from, and how they lie in files. Nothing here knows of samples or models."""

from __future__ import annotations

import difflib
import itertools
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, TypeAlias

import numpy as np

from ._archives import expanded
from ._categories import are_text, check_kinds, codes
from ._lazy import lazy
from ._plain import told
from ._tables import Table, is_block, is_empty, is_numeric, named, numbers, open_table, spelled, width
from .errors import InvalidData, StropError
from .model import Value

psutil = lazy("psutil")

Array: TypeAlias = np.ndarray[Any, Any]

PIECE = 1 << 24
"""Bytes that are read at a time."""
_LARGE = 1 << 26
"""Bytes above which a table goes to `storage`."""


def listed(names: Iterable[object]) -> str:
    return ", ".join(n if isinstance(n, str) else f"{n[0]} {n[1]}" if isinstance(n, tuple) else str(n) for n in names)


def in_memory(source: object) -> dict[str, Array]:
    if isinstance(source, tuple) and len(source) == 2:
        first, labels = source
        source = {**(first if isinstance(first, Mapping) else {"x": first}), "labels": labels}
    elif isinstance(source, np.ndarray):
        source = {"x": source}
    if not isinstance(source, Mapping):
        raise InvalidData(
            f"Data are a path, `module:function`, a mapping of arrays, a pair (x, labels), or an array; "
            f"{type(source).__name__} is none of these."
        )
    try:
        return {str(name): _of_text(_whole(values, str(name))) for name, values in source.items()}
    except StropError:
        raise
    except Exception as error:  # of the user's own classes too
        said = f"{type(error).__name__}: {told(error)}"
        raise InvalidData(f"An array must have one shape for all samples ({said}). Pad the samples to one.") from error


def _whole(values: Any, name: str) -> Array:
    """As NumPy has it, but for what it would spell out among texts.

    Raises:
        InvalidData: Something among texts is none, as NaN and None that stand for one that is missing.
    """
    array: Array = np.asanyarray(values)
    single = np.asarray(values, object) if isinstance(values, (list, tuple)) else array
    if array.dtype.kind in "UO" and single.dtype == object and any(isinstance(one, str) for one in single.flat):
        for row, one in enumerate(single.flat):
            if not isinstance(one, str):
                raise InvalidData(
                    f"Texts must stand among texts alone, and {name!r} has {told(one, repr)} at place {row}. Fill or "
                    "drop it."
                )
    return array


def _of_text(array: Array) -> Array:
    """What pandas holds as objects, where all of them are text, as NumPy has text; all else as it is."""
    return array.astype(str) if array.dtype == object and all(isinstance(one, str) for one in array.flat) else array


@dataclass(frozen=True)
class Matrix:
    """How a table's columns make up one input.

    Attributes:
        columns: Those the model names, in its order; empty for all that hold numbers, in the order of the table.
        dtype: Of the matrix.
        missing: Whether a cell may be empty; it is NaN then. So in columns that are an input each.
        categories: By column, the values that become their places here.
        closed: Whether a value that is not listed is refused; else it counts as missing.
    """

    columns: tuple[str, ...] = ()
    dtype: str = "float32"
    missing: bool = False
    categories: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    closed: bool = False

    def spelled(self, names: Collection[str]) -> Matrix:
        """With its columns as a table spells them."""
        told = dict(zip(self.columns, spelled(self.columns, names), strict=True))
        return replace(
            self, columns=tuple(told.values()), categories={told[name]: kept for name, kept in self.categories.items()}
        )


class Found(NamedTuple):
    """What a source holds: arrays, the columns that were stacked into a matrix, and those that were left out."""

    arrays: dict[str, Array]
    stacked: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


def open_file(
    path: Path,
    inputs: Sequence[str],
    asked: Sequence[str],
    guesses: Sequence[str],
    matrix: Matrix,
    storage: Path | None,
) -> Found:
    """What a file holds."""
    if not path.exists():
        raise InvalidData(f"There is no data at {path}. Give a file, a folder of .npy files, or `module:function`.")
    if not os.access(path, os.R_OK):
        raise InvalidData(f"{path} can't be read: no permission. Change that, or copy it.")
    for file in sorted(path.glob("*.npy")) if path.is_dir() else [path]:
        if not file.is_file():  # of a pipe, a read may wait forever
            raise InvalidData(f"Data must lie in regular files, and {file} is none. Write what it holds to a file.")
    kind = "folder" if path.is_dir() else path.suffix.lower()
    try:
        match kind:
            case "folder":
                return Found({file.stem: mapped(file) for file in sorted(path.glob("*.npy"))})
            case ".npy":
                return Found({"x": mapped(path)})
            case ".npz":
                return Found(_npz(path, storage))
            case ".parquet" | ".csv":
                words = [name for name, values in matrix.categories.items() if are_text(values)]
                return from_table(open_table(path, words), path, inputs, asked, guesses, matrix, storage)
    except (StropError, ImportError):
        raise
    except Exception as error:  # of NumPy, zipfile and pyarrow, which a damaged file may lead anywhere
        if isinstance(error, OSError) and error.errno:
            raise  # of the system, such as a full disk; what a decompressor finds wrong has no number
        raise InvalidData(f"{path} can't be read as {kind}: {error}. It may be cut short: write it again.") from error
    raise InvalidData(f"Data files end in .npz, .npy, .parquet or .csv, and {path.name} doesn't. Save it as .npz.")


def _npz(path: Path, storage: Path | None) -> dict[str, Array]:
    """Stored members are mapped where they lie in the file; compressed ones are inflated to `storage`, in pieces."""
    arrays = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as raw:
        if (needed := expanded(archive) - path.stat().st_size) > 0:
            _check_room(path, needed, storage)
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if info.flag_bits & 1:
                raise InvalidData(f"Data must not be encrypted, and {name!r} of {path} is. Save it without a password.")
            if info.compress_type == zipfile.ZIP_STORED:
                raw.seek(info.header_offset + 26)  # the local header: 26 bytes, lengths of name and extra field, both
                lengths = int.from_bytes(raw.read(2), "little") + int.from_bytes(raw.read(2), "little")
                arrays[name] = mapped(path, info.header_offset + 30 + lengths, name)
            elif storage is None:
                with archive.open(info) as member:
                    arrays[name] = _plain(member, name)
            else:
                inflated = _scratch(storage, path) / f"{len(arrays)}.npy"
                with archive.open(info) as member, inflated.open("wb") as stream:
                    shutil.copyfileobj(member, stream, PIECE)
                arrays[name] = mapped(inflated, 0, name)
    return arrays


def _check_room(path: Path, needed: int, storage: Path | None) -> None:
    """Refuse an archive that expands beyond what is free, before the disk or the memory is full."""
    if storage is None:
        place, room = "memory", psutil.virtual_memory().available
    else:
        storage.mkdir(parents=True, exist_ok=True)
        place, room = f"the disk of {storage}", shutil.disk_usage(storage).free
    if needed > room:
        raise InvalidData(
            f"Compressed data must fit into {place}, and {path} expands by {needed:,} bytes, where {room:,} are free. "
            "Make room, or save it uncompressed with np.savez: then it is used where it lies."
        )


def from_table(
    table: Table,
    path: Path,
    inputs: Sequence[str],
    asked: Sequence[str],
    guesses: Sequence[str],
    matrix: Matrix,
    storage: Path | None,
) -> Found:
    """Columns of numbers [rows], of lists of numbers [rows, numbers], or of text [rows].

    One input without a column is the matrix of the columns that the model names, categories as their codes. Where it
    names none, it is the column `x` of lists, or the only column left if that is of lists, or else the matrix of all
    numbers that are left. A column of the matrix that is asked for as well is there twice, once as it stands.

    Args:
        table: Read in batches of rows.
        path: Where it lies, or what it is called, for messages.
        inputs: Names of the model's inputs.
        asked: Other columns that must be there.
        guesses: What a label column may be called; the first one that is there is read.
        matrix: How columns make up one input.
        storage: Where a large table goes; None for memory.
    """
    types = dict(zip(table.names, table.types, strict=True))
    if len(types) < len(table.names):
        raise InvalidData(f"Columns must have distinct names, and those of {path} are {listed(table.names)}.")
    if not table.rows:
        raise InvalidData(f"The data hold no samples: {path} has no rows. Give at least 10.")
    others = [*asked, *[name for name in guesses if name in types][:1]]
    wide = len(inputs) == 1 and inputs[0] not in types
    blocks = [name for name, kind in types.items() if is_block(kind)]
    numeric = [name for name, kind in types.items() if is_numeric(kind)]
    features = [n for n in types if n in (*numeric, *blocks) and n not in others] if wide else list(inputs)
    features = ["x"] if wide and "x" in blocks and "x" not in others else features
    if wide and matrix.columns:
        matrix = matrix.spelled(types)
        empty = [name for name, kind in types.items() if matrix.missing and is_empty(kind)]
        features = _named(matrix, types, (*numeric, *empty), path)
    columns = list(dict.fromkeys([*features, *others]))
    for name in columns:
        if name not in types:
            raise unknown(name, types)
    if not features:
        raise InvalidData(f"{path} has no numeric column for the input {inputs[0]!r}; its columns are {listed(types)}.")
    batches = table.batches(columns)
    first = next(batches)
    widths = {name: width(types[name], first, name) for name in columns if name in blocks}
    cells = table.rows * sum(widths.get(name, 1) for name in columns)
    folder = _scratch(storage, path) if storage is not None and 8 * cells > _LARGE else None
    stacked = wide and (bool(matrix.columns) or features not in ([name] for name in blocks))
    apart = [name for name in columns if not stacked or name in others]
    gaps = {name for name in features if matrix.missing and not wide and name not in widths}
    arrays = {
        name: _allocate(
            folder, (table.rows, *([widths[name]] if name in widths else [])),
            np.float64 if name in gaps else _dtype(types[name]),
        )
        for name in apart
        if name in (*numeric, *blocks)
    }  # fmt: skip
    words: dict[str, list[Array]] = {name: [] for name in apart if name not in arrays}
    parts = _parts(features, widths) if stacked else {}
    known = {name: {value: code for code, value in enumerate(matrix.categories[name])}
             for name in parts if name in matrix.categories}  # fmt: skip
    if stacked:
        whole = _allocate(folder, (table.rows, sum(widths.get(name, 1) for name in features)), matrix.dtype)
    start = 0
    for batch in itertools.chain([first], batches):
        rows = slice(start, start + len(batch))
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            wide_as, place = widths.get(name), (name, path, start)
            with np.errstate(over="ignore"):  # an infinity is told later, by row
                if name in known:
                    whole[rows, parts[name]] = codes(column, known[name], matrix.closed, table.blank, *place)
                elif name in parts:
                    whole[rows, parts[name]] = numbers(column, *place, wide_as, matrix.missing)
                if name in arrays:
                    arrays[name][rows] = numbers(column, *place, wide_as, name in gaps)
                elif name in words:
                    words[name].append(named(column, *place, () if stacked or name not in features else table.blank))
        start += len(batch)
    if stacked:
        arrays[inputs[0]] = whole
    arrays = {name: _sealed(array) for name, array in arrays.items()}
    if wide and not stacked:
        arrays[inputs[0]] = arrays.pop(features[0])
    arrays |= {name: np.concatenate(pieces) for name, pieces in words.items()}
    return Found(arrays, tuple(features) if stacked else (), tuple(name for name in types if name not in columns))


def _parts(features: Sequence[str], widths: Mapping[str, int]) -> dict[str, int | slice]:
    """The columns of the matrix that each feature makes up."""
    ends = np.cumsum([0, *(widths.get(name, 1) for name in features)]).tolist()
    whole = zip(features, ends, ends[1:], strict=False)
    return {name: slice(start, end) if name in widths else start for name, start, end in whole}


def _named(matrix: Matrix, types: Mapping[str, Any], numeric: Sequence[str], path: Path) -> list[str]:
    """The columns that a model names, if the table has them, as numbers or as categories that it knows."""
    columns = matrix.columns
    if missing := [name for name in columns if name not in types]:
        raise InvalidData(
            f"The model takes {len(columns)} columns by name, and {path} lacks {listed(missing)}; it has "
            f"{listed(types)}. Add them, or give the rows as an array [samples, columns] in the model's order."
        )
    check_kinds(matrix.categories, types, path)
    if words := [name for name in columns if name not in numeric and name not in matrix.categories]:
        held = listed(list(dict.fromkeys(str(types[name]) for name in words)))
        raise InvalidData(
            f"The model takes columns of numbers, and of {path} {listed(words)} must be made such, from {held}. If "
            "they are categories, the model does not tell which: encode them as for training. A category of a frame is "
            "its place among the column's categories to LightGBM and XGBoost, and the whole number that it is to "
            "CatBoost and scikit-learn; what is missing is NaN."
        )
    return list(columns)


def _dtype(kind: Any) -> Any:
    return (kind.value_type if is_block(kind) else kind).to_pandas_dtype()


def _allocate(folder: Path | None, shape: tuple[int, ...], dtype: Any) -> Array:
    if folder is None:
        return np.empty(shape, dtype)
    return np.lib.format.open_memmap(folder / f"{len(os.listdir(folder))}.npy", "w+", dtype, shape)


def _sealed(array: Array) -> Array:
    if not isinstance(array, np.memmap):
        return array
    array.flush()
    return mapped(Path(str(array.filename)))


def _scratch(storage: Path, source: Path) -> Path:
    storage.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f"{source.stem}-", dir=storage))


def mapped(path: Path, offset: int = 0, name: str | None = None) -> Array:
    """Map an array in .npy form that starts at a byte of a file."""
    with path.open("rb") as stream:
        stream.seek(offset)
        version = np.lib.format.read_magic(stream)  # 3.0 is 2.0 in UTF-8, which only the names of records need
        narrow, wide = np.lib.format.read_array_header_1_0, np.lib.format.read_array_header_2_0
        shape, fortran, dtype = (narrow if version == (1, 0) else wide)(stream)
        start = stream.tell()
    if dtype.hasobject:
        raise _pickled(name or path.stem)
    return _map_raw(path, start, dtype, shape, "F" if fortran else "C")


def _map_raw(path: Path, offset: int, dtype: Any, shape: tuple[int, ...], order: Literal["C", "F"] = "C") -> Array:
    if 0 in shape:
        return np.empty(shape, dtype)
    held = np.memmap(path, dtype, "r", offset, shape or (1,), order)
    return held if shape else np.array(held[0])


def _plain(stream: IO[bytes], name: str) -> Array:
    try:
        return np.lib.format.read_array(stream, allow_pickle=False)
    except ValueError as error:
        raise (_pickled(name) if "Object arrays" in str(error) else error) from error


def _pickled(name: str) -> InvalidData:
    return InvalidData(
        f"Arrays must hold numbers, booleans or text, and {name!r} holds Python objects, which strop never unpickles. "
        f'Save it as text or numbers: np.array({name}.tolist(), dtype=str), or dtype="float32".'
    )


def reference(array: Array, folder: Path) -> dict[str, Any] | None:
    """Where an array lies in a file, if it is mapped from one as it stands there."""
    root: Any = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    if not isinstance(root, np.memmap) or root.mode == "c" or not array.flags.c_contiguous or not array.size:
        return None
    path = Path(root.filename).resolve() if root.filename else None
    if path is None or not path.exists():
        return None
    if root.mode != "r":
        root.flush()  # later, it would change the time that tells whether the file is the same
    start = root.offset + array.__array_interface__["data"][0] - root.__array_interface__["data"][0]
    near = path.is_relative_to(folder.resolve().parent)  # kept relative, so that both can be moved together
    return {
        "path": os.path.relpath(path, folder.resolve()) if near else str(path),
        "offset": start,
        "dtype": array.dtype.str,
        "shape": list(array.shape),
        "mtime": path.stat().st_mtime_ns,
        "size": path.stat().st_size,
    }


def write(folder: Path, array: Array) -> dict[str, Any]:
    path = folder / f"{len(list(folder.glob('*.npy')))}.npy"
    replace_file(path, lambda stream: np.lib.format.write_array(stream, array, allow_pickle=False))
    return {"file": path.name}


def replace_file(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file that is complete or not there."""
    with tempfile.NamedTemporaryFile(prefix=".", dir=path.parent, delete=False) as stream:
        try:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
            os.replace(stream.name, path)
        except BaseException:
            os.unlink(stream.name)
            raise


def follow(where: Mapping[str, Any], folder: Path) -> Array:
    if "file" in where:
        return mapped(folder / where["file"])
    path = folder / where["path"]
    seen = path.stat() if path.exists() else None
    if seen is None or (seen.st_mtime_ns, seen.st_size) != (where["mtime"], where["size"]):
        raise InvalidData(
            f"Data are used where they lie, and {path} has {'changed' if seen else 'gone'} since. "
            "Put it back as it was, or start anew."
        )
    return _map_raw(path, where["offset"], np.dtype(where["dtype"]), tuple(where["shape"]))


def unknown(name: str, names: Iterable[str]) -> InvalidData:
    near = difflib.get_close_matches(name, names := list(names), 1)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    return InvalidData(f"There is no array or column {name!r} in the data.{guess} They have {listed(names)}.")


def crossed(name: str) -> list[str]:
    """The columns of a slice: `sex*race` is the intersections of two."""
    columns = [column.strip() for column in name.split("*")]
    if not all(columns) or len(set(columns)) < len(columns):
        raise InvalidData(f"A slice is a column, or distinct columns joined by `*` as in sex*race, not {name!r}.")
    return columns
