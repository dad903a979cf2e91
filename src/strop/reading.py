"""Reading: samples from files, functions or memory, as data."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ._arrays import Found, Matrix, crossed, from_table, in_memory, open_file, unknown
from ._calls import call, is_call
from ._plain import texts
from ._streams import gathered, is_stream
from ._tables import from_frame, is_frame
from .data import Data
from .errors import InvalidData
from .images import Preprocessing, is_images, read_images
from .model import Signature

LABELS = ("labels", "label", "y", "target")


def read_for(
    signature: Signature, source: object, *, preprocessing: Preprocessing | None = None, **options: Any
) -> Data:
    """Read samples for a model: `read`, which see for the options, with what its signature tells of its inputs.

    Args:
        preprocessing: Of images; the source may then be a folder of them, or of folders that are the classes.

    Raises:
        InvalidData: As `read` has it, or the images don't fit the pre-processing.
    """
    inputs = signature.inputs
    if is_images(source):
        source = read_images(Path(str(source)), preprocessing, signature, options.get("storage"))
    sole = inputs[0] if len(inputs) == 1 else None
    matrix = Matrix(missing=not sole and any(tensor.missing for tensor in inputs))
    if sole and sole.columns:
        matrix = Matrix(sole.columns, sole.dtype, sole.missing, sole.categories, sole.closed)
    optional = [tensor.name for tensor in inputs if tensor.optional]
    return read(source, [tensor.name for tensor in inputs], optional=optional, matrix=matrix, **options)


def read(
    source: object,
    inputs: Sequence[str],
    *,
    label: str | None = None,
    slices: Sequence[str] = (),
    group: str | None = None,
    protected: Sequence[str] = (),
    optional: Collection[str] = (),
    matrix: Matrix = Matrix(),  # noqa: B008 it is frozen
    storage: Path | None = None,
    seconds: float = math.inf,
) -> Data:
    """Read samples from a file, a folder, a function, or memory. Nothing is ever unpickled.

    Args:
        source: A path: `.npz` (memory-mapped in place where it is not compressed), `.npy`, a folder of `.npy` files,
            `.parquet` or `.csv`; `module:function`, called without arguments; a mapping of arrays; a pair (x, labels);
            an array; a frame of pandas or polars; or a `Dataset` or `DataLoader` of PyTorch, gone through once.
        inputs: Names of the model's inputs. With one, an array `x`, or the only one left, will do; so will a table
            without a column of that name: the columns that the model names, or all its columns of numbers, and of lists
            of numbers of one length, are then one matrix [rows, numbers]; of categories that the model knows, their
            codes. (A column of lists alone keeps its dtype.)
        label: Name of the label array or column; else `labels`, `label`, `y` or `target`, where there is one.
        slices: Names of arrays whose values divide the samples; `sex*race` adds the intersections of two.
        group: Name of the array that tells which samples belong together.
        protected: Slices between which fairness is told; named like `slices`, and slices too.
        optional: Inputs that the model can do without: a tuple that is shorter than all of them ends in the labels.
        matrix: How a table's columns make up that one input.
        storage: A folder for what can't be memory-mapped in place; None to read that into memory.
        seconds: What going through a `Dataset` or `DataLoader` may take.

    Returns:
        The data as found, all other arrays among its inputs: `match` fits them to a model.

    Raises:
        InvalidData: The source is missing, broken, of an unknown kind, or lacks a name that is asked for.
    """
    slices, protected = texts(slices, "slices"), texts(protected, "protected")
    texts([name for name in (label, group) if name is not None], "label and group")
    divided = {name: crossed(name) for name in (*slices, *protected)}
    columns = tuple(dict.fromkeys(column for parts in divided.values() for column in parts))
    crossings = tuple("*".join(parts) for parts in divided.values() if len(parts) > 1)
    shielded = tuple("*".join(divided[name]) for name in protected)
    if isinstance(source, Data):
        if missing := [name for name in columns if name not in source.slices]:
            raise unknown(missing[0], source.slices)
        return replace(source, crossings=source.crossings + crossings, protected=source.protected + shielded)
    asked = [name for name in (label, *columns, group) if name is not None]
    guesses = () if label else tuple(name for name in LABELS if name not in inputs)
    if isinstance(source, str) and is_call(source):
        source = call(source, "a mapping of arrays", InvalidData)
    if isinstance(source, (str, Path)):
        found = open_file(Path(source), inputs, asked, guesses, matrix, storage)
    elif is_frame(source) or (isinstance(source, tuple) and len(source) == 2 and is_frame(source[0])):
        frame, *labels = source if isinstance(source, tuple) else (source,)
        table = from_frame(frame)
        found = from_table(table, Path("the frame"), inputs, asked, () if labels else guesses, matrix, None)
        if labels:
            found.arrays.update(in_memory({"labels": labels[0]}))
    elif is_stream(source):
        found = Found(gathered(source, inputs, optional, [*asked, *guesses], label or "labels", storage, seconds))
    else:
        found = Found(in_memory(source))
    arrays = found.arrays
    for name in asked:
        if name not in arrays:
            raise unknown(name, arrays)
    label = label or next((name for name in guesses if name in arrays), None)
    left = {k: v for k, v in arrays.items() if k in inputs or k not in {*asked, label}}
    if len(inputs) == 1 and inputs[0] not in left and (len(left) == 1 or "x" in left):
        left[inputs[0]] = left.pop("x" if "x" in left else next(iter(left)))
    return Data(
        inputs={k: v for k, v in left.items() if v.ndim},
        labels=arrays[label] if label else None,
        slices={name: arrays[name] for name in columns},
        groups=arrays[group] if group else None,
        constants={k: v for k, v in left.items() if not v.ndim},
        columns=found.stacked,
        unread=found.unread,
        crossings=crossings,
        protected=shielded,
    )
