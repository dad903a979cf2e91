"""Streams: datasets and loaders of PyTorch, gone through once, their samples written as they come."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ._plain import told
from .errors import InvalidData
from .spelling import option

Array: TypeAlias = np.ndarray[Any, Any]

LOOK = 100  # items between two looks at the disk
LEAST_DISK = 1e9  # bytes that stay free


def is_stream(source: object) -> bool:
    """Whether it is a `Dataset` or a `DataLoader`; PyTorch is not imported to tell."""
    loaded = sys.modules.get("torch.utils.data")
    return loaded is not None and isinstance(source, (loaded.Dataset, loaded.DataLoader))


def gathered(
    source: Any,
    inputs: Sequence[str],
    optional: Collection[str],
    also: Collection[str],
    label: str,
    folder: Path | None,
    seconds: float,
) -> dict[str, Array]:
    """Go through it once and keep what is asked for, as arrays on disk; what it does at random is done once.

    Args:
        source: Each item is a mapping by name, or a tuple of the model's inputs in their order, and labels after them.
        inputs: Names of the model's inputs.
        optional: Those that the model can do without.
        also: Names of other arrays to keep.
        label: What to call the labels of tuples.
        folder: Where the arrays go; None for memory.
        seconds: What it may take.

    Raises:
        InvalidData: It fails, is empty, does not end while there is room and time, or its samples have not one shape.
    """
    loader = isinstance(source, sys.modules["torch.utils.data"].DataLoader)
    kept: dict[str, _Kept] = {}
    start = time.monotonic()
    wanted, least = {*inputs, *also, label}, sum(name not in optional for name in inputs)
    try:
        for count, item in enumerate(_items(source)):
            named = _named(item, inputs, least, label)
            if count == 0:
                stand_in = _stand_in(named, inputs, wanted)
                wanted |= stand_in
                if not {*inputs, *stand_in} & set(named):
                    raise InvalidData(
                        f"Items of the {type(source).__name__} must hold the model's inputs ({', '.join(inputs)}) by "
                        f"name, and hold {', '.join(named)}. Rename them, or give tuples."
                    )
            for name, value in named.items():
                if name in wanted:
                    array = _array(value) if loader else _array(value)[None]
                    if name not in kept:
                        kept[name] = _Kept(name, array, folder, len(kept))
                    kept[name].append(array, count)
            if folder and count % LOOK == 0 and shutil.disk_usage(folder).free < LEAST_DISK:
                raise InvalidData(
                    f"The {type(source).__name__} must end, and after {count + 1:,} items the disk of {folder} is "
                    "full. Give fewer samples."
                )
            if time.monotonic() - start > seconds:
                raise InvalidData(
                    f"The {type(source).__name__} must end, and has not after {count + 1:,} items and {seconds:.0f} s. "
                    f"Give fewer samples, or a longer {option('budget')}."
                )
    except (InvalidData, KeyboardInterrupt):
        raise
    except BaseException as error:  # whatever a user's own data set raises is told as it is
        raise InvalidData(
            f"The {type(source).__name__} failed with {type(error).__name__}: {told(error)}. Its items must be "
            "mappings by name, or tuples of inputs and labels."
        ) from error
    finally:
        for one in kept.values():
            one.close()
    if not kept:
        raise InvalidData(f"The {type(source).__name__} holds no samples. Give at least 10.")
    return {name: one.whole() for name, one in kept.items()}


class _Kept:
    """One array that grows, in a file or in memory; text stays in memory, since its width is known at the end only."""

    def __init__(self, name: str, first: Array, folder: Path | None, place: int):
        self.name, self.dtype, self.shape = name, first.dtype, first.shape[1:]
        self.parts: list[Array] = []
        stored = folder is not None and first.dtype.kind not in "USO"
        self.file = (folder / f"stream-{place}.raw").open("wb") if folder and stored else None

    def append(self, array: Array, count: int) -> None:
        if array.dtype.kind == "O":
            raise InvalidData(f"Samples must be numbers or text, and {self.name!r} in item {count} is neither.")
        text = array.dtype.kind in "US" and self.dtype.kind in "US"
        if array.shape[1:] != self.shape or (array.dtype != self.dtype and not text):
            raise InvalidData(
                f"All samples must have one shape, and {self.name!r} is {array.dtype}{list(array.shape[1:])} in "
                f"item {count}, after {self.dtype}{list(self.shape)}. Pad the samples to one."
            )
        if self.file:
            self.file.write(array.tobytes())
        else:
            self.parts.append(array)

    def close(self) -> None:
        if self.file:
            self.file.close()

    def whole(self) -> Array:
        if self.file:
            return np.memmap(self.file.name, self.dtype, "r").reshape(-1, *self.shape)
        return np.concatenate(self.parts)


def _items(source: Any) -> Iterator[Any]:
    if isinstance(source, Iterable) or not hasattr(source, "__len__"):
        yield from source
    else:
        for place in range(len(source)):
            yield source[place]


def _stand_in(named: Mapping[str, Any], inputs: Sequence[str], known: Collection[str]) -> set[str]:
    """What an item calls a model's only input, where it has another name: `x`, or whatever else there is."""
    if len(inputs) > 1 or inputs[0] in named:
        return set()
    others = set(named) - set(known)
    return others & {"x"} or (others if len(others) == 1 else set())


def _array(value: Any) -> Array:
    """A value as an array; tensors also where they would have gradients, or a type that NumPy lacks."""
    if hasattr(value, "detach"):
        value = value.detach()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    return np.asarray(value)


def _named(item: Any, inputs: Sequence[str], least: int, label: str) -> dict[str, Any]:
    """An item by names. The last of several values is the labels, unless all of them are inputs that must be given."""
    if isinstance(item, Mapping):
        return {str(name): value for name, value in item.items()}
    if not isinstance(item, (tuple, list)):
        return {inputs[0]: item}
    if item and isinstance(item[0], Mapping):
        return {**item[0], **({label: item[1]} if len(item) > 1 else {})}
    if len(item) > len(inputs) + 1:
        raise InvalidData(
            f"Items must hold the model's inputs ({', '.join(inputs)}) and labels, and one holds {len(item)} values. "
            "Give mappings by name."
        )
    if not item:
        raise InvalidData("Items must hold the model's inputs, and one is an empty tuple. Leave such out.")
    unlabelled = len(item) in (1, least)
    return dict(zip([*inputs[: len(item)]] if unlabelled else [*inputs[: len(item) - 1], label], item, strict=True))
