"""Streams: datasets and loaders of PyTorch, gone through once, their samples written as they come."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ._plain import told
from .errors import InvalidData

Array: TypeAlias = np.ndarray[Any, Any]


def is_stream(source: object) -> bool:
    """Whether it is a `Dataset` or a `DataLoader`; PyTorch is not imported to tell."""
    loaded = sys.modules.get("torch.utils.data")
    return loaded is not None and isinstance(source, (loaded.Dataset, loaded.DataLoader))


def gathered(source: Any, inputs: Sequence[str], folder: Path | None) -> dict[str, Array]:
    """Go through it once and keep what comes, as arrays on disk; what it does at random is done once.

    Args:
        source: Each item is a mapping by name, or a tuple of the model's inputs in their order, and labels after them.
        inputs: Names of the model's inputs.
        folder: Where the arrays go; None for memory.

    Raises:
        InvalidData: It fails, is empty, or its samples have not one shape.
    """
    loader = isinstance(source, sys.modules["torch.utils.data"].DataLoader)
    files: dict[str, Any] = {}
    shapes: dict[str, tuple[Any, ...]] = {}
    try:
        for count, item in enumerate(_items(source)):
            for name, value in _named(item, inputs).items():
                array = np.asarray(value) if loader else np.asarray(value)[None]
                if shapes.setdefault(name, (array.dtype, array.shape[1:])) != (array.dtype, array.shape[1:]):
                    raise InvalidData(
                        f"All samples must have one shape, and {name!r} is {array.dtype}{list(array.shape[1:])} in "
                        f"item {count}, after {shapes[name][0]}{list(shapes[name][1])}. Pad the samples to one."
                    )
                if name not in files:
                    files[name] = (folder / f"stream-{len(files)}.raw").open("wb") if folder else []
                files[name].write(array.tobytes()) if folder else files[name].append(array)
    except InvalidData:
        raise
    except Exception as error:  # whatever a user's own data set raises is told as it is
        raise InvalidData(
            f"The {type(source).__name__} failed with {type(error).__name__}: {told(error)}. Its items must be "
            "mappings by name, or tuples of inputs and labels."
        ) from error
    finally:
        for file in files.values():
            file.close() if folder else None
    if not files:
        raise InvalidData(f"The {type(source).__name__} holds no samples. Give at least 10.")
    if folder is None:
        return {name: np.concatenate(parts) for name, parts in files.items()}
    return {
        name: np.memmap(file.name, shapes[name][0], "r").reshape(-1, *shapes[name][1]) for name, file in files.items()
    }


def _items(source: Any) -> Iterator[Any]:
    if isinstance(source, Iterable) or not hasattr(source, "__len__"):
        yield from source
    else:
        for place in range(len(source)):
            yield source[place]


def _named(item: Any, inputs: Sequence[str]) -> dict[str, Any]:
    if isinstance(item, Mapping):
        return {str(name): value for name, value in item.items()}
    if not isinstance(item, (tuple, list)):
        return {inputs[0]: item}
    first, *rest = item
    if isinstance(first, Mapping):
        return {**first, **({"labels": rest[0]} if rest else {})}
    names = [*inputs, "labels"] if len(item) > len(inputs) else list(inputs)
    if len(item) < len(inputs) and len(item) == 2:  # the other inputs have defaults
        names = [inputs[0], "labels"]
    return dict(zip(names, item, strict=False))
