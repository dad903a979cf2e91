"""Lessons: samples and labels of a search over how a module is trained, held to the module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._plain import told
from ..errors import InvalidData

Array = np.ndarray[Any, Any]


def arrays(X: Any, inputs: tuple[str, ...]) -> dict[str, Array]:
    """Samples by name of the input, of an array, of records, or of such a mapping."""
    if isinstance(X, Mapping):
        return {name: np.asarray(X[name]) for name in inputs}
    X = np.asarray(X)
    return {name: X[name] for name in inputs} if X.dtype.names else {inputs[0]: X}


def coded(y: Array, classes: Array | None) -> Array:
    """Labels as the loop takes them: of classes, their places.

    Raises:
        InvalidData: There is another class.
    """
    if classes is None:
        return y
    places = np.searchsorted(classes, y).clip(0, len(classes) - 1)
    if (wrong := classes[places] != y).any():
        raise InvalidData(f"Labels must be classes that the search began with, and {y[wrong][0]!r} is none of them.")
    return places


def named_samples(X: Any, takes: Mapping[str, bool]) -> tuple[Array, tuple[str, ...]]:
    """Samples as one array, of records where there are several inputs, and the names of these."""
    needed = [name for name, optional in takes.items() if not optional]
    if not isinstance(X, Mapping):
        if len(needed) > 1:
            raise InvalidData(
                f"The module takes {', '.join(needed)}, and X is one array. Give a mapping with an array for each."
            )
        return _array(X, "X"), ((needed or list(takes))[0],)
    missing, unknown = [name for name in needed if name not in X], [name for name in X if name not in takes]
    if missing or unknown or not X:
        raise InvalidData(
            f"X must have an array for each input of the module ({', '.join(takes)}), by its name, and has "
            f"{', '.join(map(str, X)) or 'none'}. Name them as forward does."
        )
    parts = {str(name): _array(array, f"X[{name!r}]") for name, array in X.items()}
    lengths = {name: len(array) for name, array in parts.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidData(
            f"Arrays of X must have one row a sample, and their lengths are "
            f"{', '.join(f'{name} {length}' for name, length in lengths.items())}."
        )
    records = np.empty(next(iter(lengths.values())), [(name, a.dtype, a.shape[1:]) for name, a in parts.items()])
    for name, array in parts.items():
        records[name] = array
    return records, tuple(parts)


def _array(given: Any, name: str) -> Array:
    try:
        array = np.asarray(given)
    except Exception as error:  # of whatever is to be made an array
        raise InvalidData(f"{name} must be an array, and can't be made one: {told(error)}.") from None
    if array.ndim == 0 or array.dtype.kind not in "biuf" or len(array) < 2:
        raise InvalidData(
            f"{name} must be an array of numbers, [samples, ...], with 2 samples or more, and is "
            f"{array.dtype}{list(array.shape)}."
        )
    return array


def checked_labels(y: Any, count: int) -> Array:
    """Labels as an array of numbers, booleans or text.

    Raises:
        InvalidData: There are none, others, or not one a sample.
    """
    if y is None:
        raise InvalidData("A module is trained by labels, and y is None. Give one label a sample.")
    labels = np.asarray(y)
    if labels.dtype.kind == "O" and all(isinstance(label, str) for label in labels.reshape(-1)):
        labels = labels.astype(str)
    if labels.ndim == 0 or len(labels) != count:
        raise InvalidData(
            f"There must be one label a sample, and there are {count} samples and labels of {list(labels.shape)}."
        )
    if labels.dtype.kind not in "biufUS":
        raise InvalidData(f"Labels must be numbers, booleans or text, and these are {labels.dtype}. Convert them.")
    return labels


def classes_of(labels: Array, first: Array, loss: Any) -> Array | None:
    """The classes, in the order of the outputs; None where labels are numbers.

    Args:
        first: The first output for a few samples.
    """
    flat = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    text, own = flat.dtype.kind in "US", callable(loss) or ":" in loss
    whole = flat.dtype.kind != "f" or (not own and bool((flat == np.round(flat)).all()))
    found: Array | None = None
    if flat.ndim == 1 and whole and loss != "mse":
        seen, numbers = np.unique(flat), flat.dtype.kind in "iuf"
        if first.ndim == 2 and first.shape[1] > 1 and loss != "binary-cross-entropy":
            named = numbers and seen[0] >= 0 and seen[-1] < first.shape[1]
            found = _as_many(np.arange(first.shape[1]) if named else seen, first.shape[1])
        elif first.size == len(first) and loss != "cross-entropy":
            if numbers and np.isin(seen, (0, 1)).all():
                found = np.arange(2)
            elif not numbers or loss == "binary-cross-entropy":
                found = _as_many(seen, 2)
    if text and found is None:
        raise InvalidData(
            f"Labels of text are classes, and the loss {told(loss)} has no use for them with a first output of "
            f"{list(first.shape[1:])} a sample. Name cross-entropy, and let the module answer a number a class."
        )
    return found


def _as_many(classes: Array, count: int) -> Array:
    if len(classes) != count:
        raise InvalidData(
            f"There must be as many classes as the module tells apart, {count}, and the labels have {len(classes)}: "
            f"{', '.join(map(str, classes[:5]))}{', ...' if len(classes) > 5 else ''}. Number them from 0, or let it "
            "answer as many."
        )
    return classes


def loss_of(classes: Array | None, first: Array, labels: Array) -> str:
    """What `auto` is, the same for every fold."""
    if classes is not None:
        return "cross-entropy" if first.ndim == 2 and first.shape[1] > 1 else "binary-cross-entropy"
    return "mse" if first[:1].size == labels[:1].size else "auto"
