"""Opened: models whose values in between can be had, without a change of what they answer."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from .. import formats
from ..model import Tensor
from ..server import Hosted
from .likeness import Likeness

Array = np.ndarray[Any, Any]
Feed = Mapping[str, Array]


class Opened:
    """A model with values in between as outputs.

    Args:
        hosted: The model and what runs it.
        values: Names of values, as its format has them.
        folder: A new one, to write into.
        given: As for `ModelFormat.tapped`.

    Raises:
        RunFailed: The runtime refuses it.
    """

    def __init__(self, hosted: Hosted, values: Sequence[str], folder: Path, given: Sequence[Tensor] | None = None):
        folder.mkdir(parents=True)
        model = formats.format_of(hosted.model.format).tapped(hosted.model, values, folder, given)
        self.runner = hosted.runtime.load(model, hosted.target)
        names = [tensor.name for tensor in model.signature.outputs]
        self._own, self._inner = names[: len(names) - len(values)], names[len(names) - len(values) :]

    def __call__(self, feed: Feed) -> tuple[dict[str, Array], list[Array]]:
        """Its own outputs, and the values."""
        found = self.runner(feed)
        return {name: found[name] for name in self._own}, [found[name] for name in self._inner]


class Faithful:
    """A model laid open, in as many copies as it takes to leave what it answers as it is.

    A runtime fuses operators, and fuses others where a value between them is asked for. That may change the last bits;
    where it changes more, neighbouring values are asked of different copies.

    Args:
        hosted: The model and what runs it.
        values: Names of values, as its format has them.
        folder: Where to write.
        feed: Of one call.
        right: What the model answers to it.
        slack: By how much a copy may be off, as power over that of the right answer.
        until: `time.monotonic()` after which no further copy is made.

    Attributes:
        lost: Places of values that can't be asked for at all without changing the answer.
        left: Places of those for which there was no time.
    """

    def __init__(
        self, hosted: Hosted, values: Sequence[str], folder: Path, feed: Feed, right: Mapping[str, Array], slack: float,
        until: float = inf,
    ):  # fmt: skip
        self.hosted, self.copies, self._until = hosted, list[tuple[list[int], Opened]](), until
        self.lost, self.left = list[int](), list[int]()
        self._values, self._folder, self._feed, self._right, self._slack = values, folder, feed, right, slack
        self._lay(list(range(len(values))))
        self._kept = [place for place in range(len(values)) if place not in {*self.lost, *self.left}]

    def _lay(self, places: list[int]) -> None:
        if len(places) < len(self._values) and monotonic() > self._until:
            self.left += places
            return
        folder = self._folder / f"{len(self.copies)}"
        made = Opened(self.hosted, [self._values[place] for place in places], folder)
        if apart(self._right, made(self._feed)[0]) <= self._slack:
            self.copies.append((places, made))
            return
        made.runner.close()
        shutil.rmtree(folder)
        if len(places) == 1:
            self.lost += places
            return
        for half in (places[::2], places[1::2]):
            self._lay(half)

    def keep(self, places: Iterable[int]) -> None:
        """Give the values at these places only."""
        self._kept = list(places)

    def __call__(self, feed: Feed) -> tuple[dict[str, Array], list[Array]]:
        """Its own outputs, and the values that are kept."""
        outputs, found = dict[str, Array](), dict[int, Array]()
        for places, copy in self.copies:
            outputs, inner = copy(feed)
            found |= dict(zip(places, inner, strict=True))
        return outputs, [found[place] for place in self._kept]


def apart(right: Mapping[str, Array], found: Mapping[str, Array]) -> float:
    """Power of the differences over that of the right answers, the most over all outputs that are floats."""
    shares = [0.0]
    for name, value in right.items():
        if value.dtype.kind == "f" and name in found and found[name].shape == value.shape:
            likeness = Likeness()
            likeness.add(value, found[name])
            shares.append(float("inf") if likeness.lost else likeness.share)
    return max(shares)


def fed(hosted: Hosted, feed: Feed) -> dict[str, Array]:
    """What one model is fed, its floats in the dtypes that another takes."""
    dtypes = {tensor.name: tensor.dtype for tensor in hosted.model.signature.inputs}
    return {
        name: value.astype(dtypes[name], copy=False) if value.dtype.kind == "f" and name in dtypes else value
        for name, value in feed.items()
    }
