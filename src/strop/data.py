"""Data: the samples that a model is judged by; fitted to a model, split, never copied whole."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np

from ._arrays import PIECE, follow, listed, reference, replace_file, write
from ._shapes import cast, check_shape, numbered, wanted
from .errors import InvalidData
from .model import Signature, Tensor
from .spelling import option

Array: TypeAlias = np.ndarray[Any, Any]

_CHECKED = 10_000
"""Samples that are searched for NaN and infinity."""


@dataclass(frozen=True, eq=False)
class Data:
    """Samples, with what is known of them. Arrays may be memory-mapped; nothing here reads one whole.

    Attributes:
        inputs: By name, one row a sample: `[samples, ...]`.
        labels: `[samples, ...]`, or None.
        slices: By name, one value a sample, `[samples]`.
        groups: `[samples]`; samples of equal value belong together.
        constants: Inputs that are the same for all samples, without a sample axis.
        rows: The rows (int64) of the arrays above that this view holds, in its order; None for all.
        dtypes: What `batch` casts an input to, where that differs from what is stored.
        columns: Of a table that became one matrix: the columns that were stacked, for messages.
        unread: Columns and arrays that are of no use, for messages.
        crossings: Intersections of slice columns that are slices too, as `sex*race`.
        protected: Slice columns, or crossings, between whose values fairness is told.

    Raises:
        InvalidData: An array holds Python objects or records.
    """

    inputs: Mapping[str, Array]
    labels: Array | None = None
    slices: Mapping[str, Array] = field(default_factory=dict)
    groups: Array | None = None
    constants: Mapping[str, Array] = field(default_factory=dict)
    rows: Array | None = None
    dtypes: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    crossings: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for full, array in self._arrays():
            name = full.partition("/")[2] or full
            if array.dtype.kind in "OV":
                raise InvalidData(
                    f"Arrays must hold numbers, booleans or text, and {name!r} holds {array.dtype}. "
                    f'Convert it before saving, for instance with np.array({name}.tolist(), dtype="float32").'
                )

    def __len__(self) -> int:
        if self.rows is not None:
            return len(self.rows)
        return len(self.labels if self.labels is not None else next(iter(self.inputs.values()), ()))

    def take(self, positions: Sequence[int] | Array) -> Data:
        """A view of some samples, by their positions in this view. Copies nothing."""
        chosen = np.asarray(positions, np.int64)
        return replace(self, rows=chosen if self.rows is None else self.rows[chosen])

    def batch(self, start: int, stop: int) -> dict[str, Array]:
        """The inputs of some samples, constants included: fresh C-contiguous arrays of the model's dtypes.

        Only these rows are read, and cast.
        """
        taken = {name: self._rows(array, start, stop) for name, array in self.inputs.items()} | dict(self.constants)
        return {name: _fresh(array, self.dtypes.get(name)) for name, array in taken.items()}

    def label_array(self) -> Array | None:
        """The labels of this view's samples."""
        return None if self.labels is None else self._rows(self.labels)

    def group_array(self) -> Array | None:
        """The groups of this view's samples."""
        return None if self.groups is None else self._rows(self.groups)

    def slice_arrays(self) -> dict[str, Array]:
        """The slice columns of this view's samples."""
        return {name: self._rows(array) for name, array in self.slices.items()}

    def digest(self) -> str:
        """SHA-256 over names and contents of this view's samples, in their order; read in pieces."""
        digest = hashlib.sha256()
        for name, array in self._arrays():
            digest.update(f"{name}\0{array.dtype.newbyteorder('=')}{array.shape[1:]}\0".encode())
            pieces = [array] if name.startswith("constants/") else self._pieces(array, len(self))
            for piece in pieces:
                digest.update(np.require(piece, piece.dtype.newbyteorder("="), "C").tobytes())
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Write into a folder, which holds the data once its last file, `data.json`, is there, complete or not at all.

        Arrays that are memory-mapped from a file are saved as a reference to it, not copied. Save once, load, and
        split what was loaded: then every split costs its rows only.
        """
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "data.json").unlink(missing_ok=True)
        arrays = {name: reference(array, folder) or write(folder, array) for name, array in self._arrays()}
        rows = None if self.rows is None else write(folder, self.rows)
        named = {"crossings": self.crossings, "protected": self.protected}
        content = json.dumps({"arrays": arrays, "rows": rows, "dtypes": dict(self.dtypes), **named}, indent=1)
        replace_file(folder / "data.json", lambda stream: stream.write(content.encode()))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open what `save` wrote, memory-mapped.

        Raises:
            InvalidData: The folder holds no data, or a file that it refers to has changed or is gone.
        """
        parts: dict[str, Any] = {"inputs": {}, "slices": {}, "constants": {}, "labels": {}, "groups": {}}
        try:
            saved = json.loads((folder / "data.json").read_text())
            for full, where in saved["arrays"].items():
                part, _, name = full.partition("/")
                parts[part][name] = follow(where, folder)
            rows = None if saved["rows"] is None else np.array(follow(saved["rows"], folder))
            labels, groups = parts.pop("labels").get(""), parts.pop("groups").get("")
            dtypes = dict(saved["dtypes"])
            [np.dtype(str.strip(name)) for name in dtypes.values()]
            crossings, protected = (tuple(saved[key]) for key in ("crossings", "protected"))  # held to the slices below
            known = (parts["inputs"], labels, parts["slices"], groups, parts["constants"], rows, dtypes)
            data = cls(*known, crossings=crossings, protected=protected)
            [data.slices[column] for name in (*data.crossings, *data.protected) for column in name.split("*")]
            for full, array in data._arrays():
                if not full.startswith("constants/"):
                    data._rows(array, 0, 1)
            return data
        except InvalidData:
            raise
        except Exception as error:  # of NumPy too, which an altered file may lead anywhere
            said = f"{type(error).__name__}: {error}"
            raise InvalidData(f"{folder} holds no data that strop saved ({said}). Give the data again.") from error

    def _arrays(self) -> Iterator[tuple[str, Array]]:
        for part, arrays in (("inputs", self.inputs), ("slices", self.slices), ("constants", self.constants)):
            yield from ((f"{part}/{name}", arrays[name]) for name in sorted(arrays))
        yield from (
            (part, array) for part, array in (("labels", self.labels), ("groups", self.groups)) if array is not None
        )

    def _rows(self, array: Array, start: int = 0, stop: int | None = None) -> Array:
        chosen: Any = slice(start, stop) if self.rows is None else self.rows[start:stop]
        return np.asarray(array[chosen])

    def _pieces(self, array: Array, count: int) -> Iterator[Array]:
        step = max(1, PIECE // max(1, array.itemsize * math.prod(array.shape[1:])))
        for start in range(0, count, step):
            yield self._rows(array, start, min(start + step, count))


def _fresh(array: Array, dtype: str | None) -> Array:
    with np.errstate(over="ignore"):  # too large for float32 is infinite, which is told by row where it may not be
        return np.require(array, dtype or array.dtype, ["C", "A", "W", "O"])  # members of a zip lie unaligned


@dataclass(frozen=True)
class Splits:
    """Disjoint samples: to calibrate with, to search on, and to confirm on, which nothing sees before.

    The order in each is random and stratified, so that the first samples of a split are a fair part of it.
    """

    calibration: Data
    search: Data
    confirm: Data


def split(data: Data, seed: int, *, calibration: Data | None = None, confirm: Data | None = None) -> Splits:
    """Split samples: at least half confirm, a fifth (at most 300) calibrates, the rest searches.

    Stratified by label where labels are discrete (integers, booleans or text, at most a tenth as many as samples).
    Samples of one group stay together. A part that is handed over is used whole, and takes nothing from `data`.

    Raises:
        InvalidData: Fewer than 10 samples in all, or groups that can't be divided among the parts.
    """
    given = [part for part in (calibration, confirm) if part is not None]
    count = len(data) + sum(map(len, given))
    if count < 10:
        raise InvalidData(
            f"Calibrating, searching and confirming needs at least 10 samples, and there are {count}. Add more."
        )
    half = 0 if confirm is not None else -(-len(data) // 2)
    fifth = 0 if calibration is not None else max(1, min(300, len(data) // 5))
    unit, drawn = _units(data, np.random.default_rng(seed))
    sizes = np.bincount(unit)
    for order in (drawn, drawn[np.argsort(-sizes[drawn], kind="stable")]):  # largest first leaves most groups
        ends = np.concatenate([[0], np.cumsum(sizes[order])])
        first = int(np.searchsorted(ends, half))
        fitting = int(np.searchsorted(ends, ends[first] + fifth, side="right")) - 1
        second = max(first + 1, min(fitting, len(order) - 1)) if fifth else first
        if second < len(order):
            break
    else:
        raise InvalidData(
            f"At least half of the samples confirm, and some are left to calibrate and to search, in whole groups; "
            f"{len(data)} samples in {len(sizes)} groups can't be divided so. Give more, or confirm data of their own."
        )
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    sorted_positions = np.argsort(rank[unit], kind="stable")
    confirming, calibrating, searching = np.split(sorted_positions, [ends[first], ends[second]])
    return Splits(
        data.take(calibrating) if calibration is None else calibration,
        data.take(searching),
        data.take(confirming) if confirm is None else confirm,
    )


def _units(data: Data, rng: np.random.Generator) -> tuple[Array, Array]:
    """The unit (group, or sample) that each sample is in, and the units in random order, each stratum spread evenly."""
    groups, labels = data.group_array(), data.label_array()
    unit = np.arange(len(data)) if groups is None else np.unique(groups, return_inverse=True)[1]
    strata = np.zeros(len(data), np.int64)
    if labels is not None and labels.ndim == 1 and labels.dtype.kind in "biuUS":
        distinct, codes = np.unique(labels, return_inverse=True)
        strata = codes if len(distinct) <= len(data) / 10 else strata
    stratum = strata[np.unique(unit, return_index=True)[1]]  # a group's is that of its first sample
    shuffled = rng.permutation(len(stratum))
    ordered = shuffled[np.argsort(stratum[shuffled], kind="stable")]
    counts = np.unique(stratum, return_counts=True)[1]
    within = np.arange(len(ordered)) - np.repeat(np.cumsum(counts) - counts, counts)
    place = (within + np.repeat(rng.random(len(counts)), counts)) / np.repeat(counts, counts)
    return unit, ordered[np.argsort(place, kind="stable")]


def match(data: Data, signature: Signature) -> tuple[Data, Signature]:
    """Fit data and model to each other.

    Axis 0 of the data is samples. Where the data have one axis more than the model, the model has no batch axis
    (`batched` is False), or, if it is stateful, axis 1 is time. A scalar, or an array that has exactly the input's
    fixed shape and another length than the samples, is the same for all samples. An input that the data do not give
    is state if an output of its dtype and rank fits it, by shape and name.

    Labels become the numbers of the classes that they name, where the model tells what its classes are called.

    Casts that lose nothing are done batch by batch; so is float64 to float32, as every framework's loader does.

    Returns:
        The data, with the model's inputs only; the signature, with `batched` and `feedback` set.

    Raises:
        InvalidData: An input is missing, ambiguous, or has a wrong rank, shape, dtype or length; no samples; NaN or
            infinity within the first 10,000 samples; a label that is none of the model's classes.
    """
    arrays = {**data.inputs, **data.constants}
    missing = [tensor for tensor in signature.inputs if tensor.name not in arrays]
    if len(missing) == len(signature.inputs):
        raise _missing(missing[0], data)
    feedback = _feedback(missing, signature, data)
    count = _count(data, signature)
    inputs, constants, dtypes, tensors = {}, {}, {}, []
    for tensor in signature.inputs:
        if tensor.name in feedback:
            tensors.append(replace(tensor, batched=False, feedback=feedback[tensor.name]))
            continue
        array = arrays[tensor.name]
        if dtype := cast(tensor, array.dtype):
            dtypes[tensor.name] = dtype
        if _is_constant(tensor, data, count):
            constants[tensor.name] = array
            tensors.append(replace(tensor, batched=False))
        else:
            inputs[tensor.name] = array
            tensors.append(replace(tensor, batched=_fits(tensor, data, bool(feedback))))
    timed = [t.name for t in tensors if feedback and t.name in inputs and inputs[t.name].ndim > len(t.shape)]
    steps = {name: inputs[name].shape[1] for name in timed}
    if len(set(steps.values())) > 1:
        raise InvalidData(
            f"Axis 1 of a stateful model's inputs is time, and they differ in it: {listed(steps.items())}."
        )
    labels = numbered(data.labels, signature)
    known = {tensor.name for tensor in signature.inputs}
    unread = (*data.unread, *(name for name in data.inputs if name not in known))
    fitted = replace(data, inputs=inputs, constants=constants, dtypes=dtypes, labels=labels, unread=unread)
    _check_lengths(fitted)
    _check_finite(fitted, {tensor.name for tensor in signature.inputs if tensor.missing})
    return fitted, replace(signature, inputs=tuple(tensors))


def _missing(tensor: Tensor, data: Data) -> InvalidData:
    names = [*data.inputs, *data.constants]
    only = f"only {listed(names)}" if names else "no input"
    return InvalidData(
        f"The model takes the input {tensor}, and the data have {only}. Name the arrays as the model names its inputs."
    )


def _feedback(missing: Sequence[Tensor], signature: Signature, data: Data) -> dict[str, str]:
    """For each input that is not given: the output that feeds back into it."""
    found: dict[str, str] = {}
    for tensor in missing:
        fits = []
        for output in signature.outputs:
            alike = difflib.SequenceMatcher(None, tensor.name.lower(), output.name.lower()).ratio()
            pairs = list(zip(tensor.shape, output.shape, strict=False))
            same = bool(pairs) and all(a == b for a, b in pairs if isinstance(a, int) and isinstance(b, int))
            ranked = len(output.shape) in (len(tensor.shape), 0)  # an undeclared shape is ()
            if tensor.dtype == output.dtype and ranked and (same or alike >= 0.5):  # declared sizes may be wrong
                fits.append((alike, output.name))
        fits = [(1.0, tensor.feedback)] if tensor.feedback else sorted(fits, reverse=True)
        if not fits:
            raise _missing(tensor, data)
        unclear = len(fits) > 1 and (fits[0][0] < 0.4 or fits[0][0] == fits[1][0])
        if unclear or fits[0][1] in found.values():
            raise InvalidData(
                f"The data do not give the input {tensor}, and as state it could come from any of the outputs "
                f"{listed(name for _, name in fits)}. Give it, or name output and input alike (state, state_out)."
            )
        found[tensor.name] = fits[0][1]
    if found and len(found) >= len(signature.outputs):  # none would be left as a result
        raise _missing(missing[0], data)
    return found


def _count(data: Data, signature: Signature) -> int:
    """The number of rows that the arrays hold."""
    if data.labels is not None:
        return data.labels.shape[0] if data.labels.ndim else 0
    given = [(t, data.inputs[t.name]) for t in signature.inputs if t.name in data.inputs and data.inputs[t.name].ndim]
    moving = [array for tensor, array in given if array.shape != tensor.shape] or [array for _, array in given]
    return len(moving[0]) if moving else 0


def _is_constant(tensor: Tensor, data: Data, count: int) -> bool:
    array = data.constants.get(tensor.name, data.inputs.get(tensor.name))
    if array is None or (array.ndim and tensor.name not in data.constants):
        fixed = bool(tensor.shape) and isinstance(tensor.shape[0], int) and tensor.shape[0] != 1
        return array is not None and fixed and array.shape == tensor.shape and len(array) != count
    check_shape(tensor, array.shape, array.shape, tensor.shape)
    return True


def _fits(tensor: Tensor, data: Data, stateful: bool) -> bool:
    """Whether an input has a batch axis; of a table, the error says which columns were taken."""
    try:
        return _has_batch_axis(tensor, data.inputs[tensor.name].shape, stateful)
    except InvalidData as error:
        width = tensor.shape[-1] if tensor.shape else None
        if not data.columns or not isinstance(width, int):
            raise
        count = f"{len(data.columns)} columns of numbers ({listed(data.columns)})"
        if data.labels is None and data.inputs[tensor.name].shape[-1] == width + 1:
            raise InvalidData(
                f"The model takes {tensor}, {width} numbers a sample, and the table has one more: {count}. If one of "
                f"them holds the labels, say which: {option('label', 'NAME')}."
            ) from error
        raise InvalidData(
            f"The model takes {tensor}, {width} numbers a sample, and the table has {count}, which were stacked in "
            "the order of the file. Leave out what is no input; labels, slices and groups are named with "
            f"{option('label')}, {option('slice')} and {option('group')}."
        ) from error


def _has_batch_axis(tensor: Tensor, shape: tuple[int, ...], stateful: bool) -> bool:
    extra = len(shape) - len(tensor.shape)
    batched = extra == 0 or stateful
    if extra not in (0, 1) or (stateful and not tensor.shape):
        raise InvalidData(
            f"The model takes {tensor}, so {tensor.name!r} must have the shape {wanted(tensor, stateful)}, and in the "
            f"data it has {list(shape)}. Reshape it."
        )
    if stateful and tensor.shape[0] not in (1, None) and not isinstance(tensor.shape[0], str):
        raise InvalidData(
            f"A stateful model is run one sequence at a time, and {tensor} is fixed to another batch than 1. "
            "Export it with a batch of 1, or a free one."
        )
    check_shape(tensor, shape, shape[1 + (extra if batched else 0) :], tensor.shape[1 if batched else 0 :])
    return batched


def _check_lengths(data: Data) -> None:
    known = {"labels": data.labels, "groups": data.groups, **data.slices}
    lengths = {k: len(a) if a.ndim else 0 for k, a in {**data.inputs, **known}.items() if a is not None}
    if len(set(lengths.values())) > 1:
        raise InvalidData(f"All arrays must have one row a sample, and their lengths are {listed(lengths.items())}.")
    if not data.inputs or not len(data):
        raise InvalidData("The data hold no samples. Give at least 10.")
    for name, array in {"groups": data.groups, **data.slices}.items():
        if array is not None and array.ndim != 1:
            raise InvalidData(f"{name!r} must hold one value a sample, and has the shape {list(array.shape)}.")


def _check_finite(data: Data, missing: Collection[str]) -> None:
    for name, array in {**data.inputs, **data.constants}.items():
        if name in missing:
            continue
        row = 0
        pieces = [array] if name in data.constants else data._pieces(array, min(len(data), _CHECKED))
        for piece in pieces if array.dtype.kind == "f" else ():
            finite = np.isfinite(piece).reshape(len(piece) if piece.ndim else 1, -1).all(axis=1)
            if not finite.all():
                row += int(finite.argmin())
                row = row if data.rows is None or name in data.constants else int(data.rows[row])
                raise InvalidData(
                    f"Inputs must be finite, and {name!r} has NaN or infinity in row {row}. Fill or drop such samples."
                )
            row += len(finite)
