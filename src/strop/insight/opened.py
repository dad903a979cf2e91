"""Opened: models whose values in between can be had, while they answer as they did, or err as much."""

from __future__ import annotations

import shutil
from collections import defaultdict
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

EXACT = 1e-8
"""How far a model that is laid open may be off its own answers: power of the differences over that of the answers."""
ALIKE = 2.0
"""Where it is off by more, the factor by which the power of its error may be more, or less."""


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
    """A model laid open, in as many copies as it takes to leave what it answers, or how much it errs, as it is.

    A runtime fuses operators, and fuses others where a value between them is asked for; then it rounds elsewhere. What
    integers and bfloat16 make of that is another draw of the same noise, as large as the error that is looked into.
    So a copy may answer otherwise as long as it errs as much as the model does; where it errs more, or less,
    neighbouring values are asked of different copies.

    Args:
        hosted: The model and what runs it.
        values: Names of values, as its format has them.
        folder: Where to write.
        feeds: Of a few calls.
        right: What the model answers to them.
        others: What the model answers that it is held to.
        until: `time.monotonic()` after which no further copy is made.

    Attributes:
        lost: Places of values that can't be asked for at all without changing the answer.
        left: Places of those for which there was no time.
        errs: By how much each copy errs that answers otherwise, as power over that of the model's error.
    """

    def __init__(
        self, hosted: Hosted, values: Sequence[str], folder: Path, feeds: Sequence[Feed],
        right: Sequence[Mapping[str, Array]], others: Sequence[Mapping[str, Array]], until: float = inf,
    ):  # fmt: skip
        self.hosted, self.copies, self._until = hosted, list[tuple[list[int], Opened]](), until
        self.lost, self.left, self.errs = list[int](), list[int](), list[float]()
        self._values, self._folder, self._feeds, self._right, self._others = values, folder, feeds, right, others
        self._error = apart(others, right)
        self._lay(list(range(len(values))))
        self._kept = [place for place in range(len(values)) if place not in {*self.lost, *self.left}]

    def _lay(self, places: list[int]) -> None:
        if len(places) < len(self._values) and monotonic() > self._until:
            self.left += places
            return
        folder = self._folder / f"{len(self.copies)}"
        made = Opened(self.hosted, [self._values[place] for place in places], folder)
        if self._errs_as_much([made(feed)[0] for feed in self._feeds]):
            self.copies.append((places, made))
            return
        made.runner.close()
        shutil.rmtree(folder)
        if len(places) == 1:
            self.lost += places
            return
        for half in (places[::2], places[1::2]):
            self._lay(half)

    def _errs_as_much(self, found: Sequence[Mapping[str, Array]]) -> bool:
        if apart(self._right, found) <= EXACT:
            return True
        error = apart(self._others, found)
        errs = 1.0 if error == self._error else error / self._error if self._error else inf  # both may be infinite
        alike = 1 / ALIKE <= errs <= ALIKE
        self.errs += [errs] if alike else []
        return alike

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


def apart(right: Sequence[Mapping[str, Array]], found: Sequence[Mapping[str, Array]]) -> float:
    """Power of the differences over that of the right answers, the most over all outputs that are floats."""
    sums: defaultdict[str, Likeness] = defaultdict(Likeness)
    for answers, others in zip(right, found, strict=True):
        for name, value in answers.items():
            if value.dtype.kind == "f" and name in others and others[name].shape == value.shape:
                sums[name].add(value, others[name])
    return max([0.0, *(inf if one.lost else one.share for one in sums.values())])


def fed(hosted: Hosted, feed: Feed) -> dict[str, Array]:
    """What one model is fed, its floats in the dtypes that another takes."""
    dtypes = {tensor.name: tensor.dtype for tensor in hosted.model.signature.inputs}
    return {
        name: value.astype(dtypes[name], copy=False) if value.dtype.kind == "f" and name in dtypes else value
        for name, value in feed.items()
    }
