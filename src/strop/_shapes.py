"""Whether an array fits an input, or labels the classes, and in which words they do not."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from ._arrays import listed
from .errors import InvalidData
from .model import Signature, Tensor
from .spelling import option

Array = np.ndarray[Any, Any]


def check_shape(
    tensor: Tensor, shape: tuple[int, ...], have: tuple[int, ...], want: tuple[int | str | None, ...]
) -> None:
    """Refuse a sample of another shape than the model takes.

    Args:
        tensor: The input.
        shape: Of its array, for the message.
        have: Of a sample in it.
        want: What that must be.

    Raises:
        InvalidData: It is another.
    """
    if len(have) != len(want) or any(isinstance(b, int) and a != b for a, b in zip(have, want, strict=True)):
        raise InvalidData(
            f"The model takes {tensor}, and {tensor.name!r} in the data has the shape {list(shape)}: a sample is "
            f"{list(have)}, and must be {_axes(*want)}. Reshape or resize it."
        )


def wanted(tensor: Tensor, stateful: bool) -> str:
    """The shapes that data for an input may have."""
    if not tensor.shape:
        return "[] (one number for all)" if stateful else "[samples]"
    batched = _axes("samples", *tensor.shape[1:])
    if stateful:
        return f"{batched}, or with time {_axes('samples', 'steps', *tensor.shape[1:])}"
    if tensor.fixed_batch is None:
        return batched
    return f"{batched}, or where its first axis is no batch {_axes('samples', *tensor.shape)}"


def _axes(*shape: int | str | None) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in shape)}]"


def cast(tensor: Tensor, dtype: np.dtype[Any]) -> str | None:
    """The dtype to cast to, None where none is needed.

    Raises:
        InvalidData: No cast keeps the values.
    """
    needed = np.dtype(tensor.dtype)
    text = needed.kind == dtype.kind == "U"  # of any length
    if dtype == needed or text or dtype.name == tensor.stored:
        return None
    numeric = needed.kind in "biufc" and dtype.kind in "biufc"
    if numeric and (np.can_cast(dtype, needed, "safe") or (dtype.name, needed.name) == ("float64", "float32")):
        return needed.name
    raise InvalidData(
        f"The model takes {tensor}, and {tensor.name!r} in the data is {dtype.name}, which can't be cast without loss. "
        f'If it is meant so, convert it: data["{tensor.name}"] = data["{tensor.name}"].astype("{tensor.dtype}")'
    )


def numbered(labels: Array | None, signature: Signature) -> Array | None:
    """Labels as the numbers of the classes that they name; as they are where the model does not tell its classes.

    Raises:
        InvalidData: One names none.
    """
    classes = next((tensor.classes for tensor in signature.visible_outputs if tensor.classes), ())
    if labels is None or not classes:
        return labels
    known = np.array(classes)
    if known.dtype.kind == "U" and labels.dtype.kind in "biuf":
        with contextlib.suppress(ValueError):  # CatBoost keeps the numbers of a file that it was trained on as text
            known = known.astype(np.float64)
    if (known.dtype.kind == "U") != (labels.dtype.kind == "U"):
        place, wrong = np.zeros(labels.shape, np.int64), np.ones(labels.shape, bool)
    else:
        order = np.argsort(known)
        place = order[np.minimum(np.searchsorted(known, labels, sorter=order), len(known) - 1)]
        wrong = known[place] != labels
    if wrong.any():
        row = np.argwhere(wrong)[0]
        raise InvalidData(
            f"Labels must be the model's classes, {listed(map(repr, classes[:10]))}"
            f"{', ...' if len(classes) > 10 else ''}, and that of row {row[0]} is {labels[tuple(row)].item()!r}. "
            f"Spell them as in training, or name another column: {option('label', 'NAME')}."
        )
    return place
